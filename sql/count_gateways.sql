SELECT count(*)::integer AS gateways
FROM gateway
WHERE pool_id = %(pool_id)s AND lease_expires_at > clock_timestamp();
