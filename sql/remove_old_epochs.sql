-- Takes the content of epochs that nobody can need any more, under the lock that every publication takes; their lines stay.
-- Kept: the newest ones, the young ones, what a gateway with a lease may still route by, and what an open plan goes back to.
WITH needed AS (
    SELECT least(
        pool.current_epoch - greatest(%(newest)s, 2) + 1,
        (SELECT min(acknowledged.epoch)
         FROM (SELECT coalesce(max(gateway_ack.epoch), 0) AS epoch
               FROM gateway
               LEFT JOIN gateway_ack USING (pool_id, gateway_id)
               WHERE gateway.pool_id = pool.pool_id AND gateway.lease_expires_at > clock_timestamp()
               GROUP BY gateway.gateway_id) AS acknowledged)
    ) AS first_epoch
    FROM pool
    WHERE pool.pool_id = %(pool_id)s
), removed AS (
    UPDATE routing_epoch AS old
    SET snapshot = NULL, removed_at = clock_timestamp(), removed_because = %(because)s
    FROM needed
    WHERE old.pool_id = %(pool_id)s
      AND old.snapshot IS NOT NULL
      AND old.epoch < needed.first_epoch
      AND old.published_at < clock_timestamp() - make_interval(days => %(days)s)
      AND NOT EXISTS (
          SELECT FROM plan
          WHERE plan.pool_id = old.pool_id
            AND plan.base_epoch = old.epoch
            AND plan.state IN ('proposed', 'approved', 'running', 'failed')
      )
    RETURNING old.epoch
), entries AS (
    DELETE FROM routing_entry USING removed WHERE routing_entry.pool_id = %(pool_id)s AND routing_entry.epoch = removed.epoch
)
SELECT count(*) AS epochs, min(epoch) AS first_epoch, max(epoch) AS last_epoch FROM removed;
