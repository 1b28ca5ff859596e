SELECT e.epoch, e.parent, e.plan_id, e.checksum, e.published_at, e.published_by, e.reason,
       e.epoch = pool.current_epoch AS is_current, e.removed_at, e.removed_because
FROM routing_epoch AS e
JOIN pool USING (pool_id)
WHERE e.pool_id = %(pool_id)s
ORDER BY e.epoch DESC
LIMIT %(limit)s;
