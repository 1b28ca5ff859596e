INSERT INTO lease (name, holder, fence, expires_at)
VALUES (%(name)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(ttl_seconds)s))
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, fence = lease.fence + 1, expires_at = excluded.expires_at
WHERE lease.holder = excluded.holder OR lease.expires_at <= clock_timestamp()
RETURNING fence;
