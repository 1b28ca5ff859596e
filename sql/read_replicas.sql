SELECT shard_id, node_id, state, covers_from, applied_version, verified_version, verified_at
FROM replica
WHERE pool_id = %(pool_id)s
ORDER BY shard_id, node_id;
