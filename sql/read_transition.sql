-- What the pool's gateways and epoch are now, for the controller. unheard_seconds: for how long a node that has never sent a
-- heartbeat has kept the plan waiting; since the plan went on, or since the pool's first node was heard. Empty if none ever was.
SELECT pool.current_epoch, clock_timestamp() AS now,
       (SELECT count(*) FROM gateway WHERE gateway.pool_id = pool.pool_id AND lease_expires_at > clock_timestamp()) AS gateways,
       (SELECT extract(epoch FROM clock_timestamp() - greatest(min(heartbeat.first_at), (
            SELECT coalesce(max(event.at), clock_timestamp()) FROM transition_event AS event
            WHERE event.pool_id = pool.pool_id AND event.plan_id = %(plan_id)s AND event.position IS NULL
              AND event.stage = 'running'
        )))::double precision
        FROM heartbeat WHERE heartbeat.pool_id = pool.pool_id HAVING count(*) > 0) AS unheard_seconds
FROM pool
WHERE pool.pool_id = %(pool_id)s;
