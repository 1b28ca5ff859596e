-- Replicas of an epoch that could not serve as they must: their node is dead, or what it holds is behind or unknown.
SELECT entry.shard_id, entry.node_id, coalesce(node.state, 'gone') AS node_state, replica.applied_version
FROM routing_entry AS entry
LEFT JOIN node USING (pool_id, node_id)
LEFT JOIN replica USING (pool_id, shard_id, node_id)
WHERE pool_id = %(pool_id)s
  AND entry.epoch = %(epoch)s
  AND (coalesce(node.state, 'dead') = 'dead' OR coalesce(replica.applied_version, -1) < %(at_least)s)
ORDER BY entry.shard_id, entry.node_id;
