INSERT INTO gateway (pool_id, gateway_id, lease_expires_at)
VALUES (%(pool_id)s, %(gateway_id)s, clock_timestamp() + make_interval(secs => %(lease_seconds)s))
ON CONFLICT (pool_id, gateway_id) DO UPDATE SET lease_expires_at = excluded.lease_expires_at;
