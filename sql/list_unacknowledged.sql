SELECT gateway.gateway_id
FROM gateway
LEFT JOIN gateway_ack USING (pool_id, gateway_id)
WHERE gateway.pool_id = %(pool_id)s AND gateway.lease_expires_at > clock_timestamp()
GROUP BY gateway.gateway_id
HAVING coalesce(max(gateway_ack.epoch), 0) < %(epoch)s
ORDER BY gateway.gateway_id;
