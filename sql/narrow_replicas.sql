UPDATE replica SET covers_from = narrowed.covers_from
FROM unnest(%(shard_ids)s::integer[], %(covers_from)s::date[]) AS narrowed (shard_id, covers_from)
WHERE replica.pool_id = %(pool_id)s AND replica.node_id = %(node_id)s AND replica.shard_id = narrowed.shard_id;
