SELECT entry.shard_id, entry.node_id, entry.epoch
FROM unnest(%(shard_ids)s::integer[], %(node_ids)s::text[]) AS unwanted (shard_id, node_id)
JOIN routing_entry AS entry USING (shard_id, node_id)
JOIN pool ON pool.pool_id = entry.pool_id AND pool.current_epoch = entry.epoch
WHERE entry.pool_id = %(pool_id)s
ORDER BY entry.shard_id, entry.node_id;
