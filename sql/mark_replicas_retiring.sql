UPDATE replica
SET state = 'retiring'
FROM unnest(%(shard_ids)s::integer[], %(node_ids)s::text[]) AS unwanted (shard_id, node_id)
WHERE replica.pool_id = %(pool_id)s
  AND replica.shard_id = unwanted.shard_id
  AND replica.node_id = unwanted.node_id;
