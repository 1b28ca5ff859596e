-- What the pool's gateways and epoch are now, for the controller.
SELECT pool.current_epoch, clock_timestamp() AS now,
       (SELECT count(*) FROM gateway WHERE gateway.pool_id = pool.pool_id AND lease_expires_at > clock_timestamp()) AS gateways
FROM pool
WHERE pool.pool_id = %(pool_id)s;
