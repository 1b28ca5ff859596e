-- Routing entries that no verified replica backs over the days they are routed for, and that the trusted epoch did not have.
SELECT entry.shard_id, entry.node_id, coalesce(replica.state, 'missing') AS state
FROM routing_entry AS entry
LEFT JOIN replica USING (pool_id, shard_id, node_id)
LEFT JOIN routing_entry AS trusted
    ON trusted.pool_id = entry.pool_id
    AND trusted.epoch = %(trusted_epoch)s
    AND trusted.shard_id = entry.shard_id
    AND trusted.node_id = entry.node_id
WHERE entry.pool_id = %(pool_id)s
  AND entry.epoch = %(epoch)s
  AND NOT coalesce(
      replica.state IN ('verified', 'serving')
      AND (replica.covers_from IS NULL OR replica.covers_from <= coalesce(entry.covers_from, '-infinity')),
      false
  )
  AND NOT coalesce(
      trusted.node_id IS NOT NULL
      AND (trusted.covers_from IS NULL OR trusted.covers_from <= coalesce(entry.covers_from, '-infinity')),
      false
  )
ORDER BY entry.shard_id, entry.node_id
LIMIT 1;
