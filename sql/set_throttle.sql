-- What is still owed for bytes begun under the old rate is paid at the new one: a faster rate shortens the wait at once.
INSERT INTO copy_throttle AS throttle (pool_id, bytes_per_second)
VALUES (%(pool_id)s, %(bytes_per_second)s)
ON CONFLICT (pool_id) DO UPDATE
SET bytes_per_second = excluded.bytes_per_second,
    free_at = CASE
        WHEN throttle.bytes_per_second IS NULL OR excluded.bytes_per_second IS NULL THEN clock_timestamp()
        ELSE clock_timestamp()
            + greatest(throttle.free_at - clock_timestamp(), interval '0')
            * (throttle.bytes_per_second / excluded.bytes_per_second)
    END;
