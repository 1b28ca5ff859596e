-- Under lock_throttle's lock. The wait is 0 if the bytes may begin now; then, and only then, their time is taken.
WITH at AS (
    SELECT pool_id, free_at, clock_timestamp() AS now FROM copy_throttle WHERE pool_id = %(pool_id)s
), taken AS (
    UPDATE copy_throttle
    SET free_at = at.now + make_interval(secs => %(bytes)s / copy_throttle.bytes_per_second)
    FROM at
    WHERE copy_throttle.pool_id = at.pool_id AND at.free_at <= at.now
)
SELECT greatest(extract(epoch FROM free_at - now), 0)::double precision AS seconds FROM at;
