INSERT INTO routing_entry (pool_id, epoch, shard_id, node_id, weight, covers_from)
SELECT %(pool_id)s, %(epoch)s, entry.shard_id, entry.node_id, entry.weight, entry.covers_from
FROM unnest(
    %(shard_ids)s::integer[], %(node_ids)s::text[], %(weights)s::double precision[], %(covers_from)s::date[]
) AS entry (shard_id, node_id, weight, covers_from);
