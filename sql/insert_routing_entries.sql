-- Arrays as literals, with names and days as places (from 1) in lists of their own: tens of thousands of rows are soon read so.
INSERT INTO routing_entry (pool_id, epoch, shard_id, node_id, weight, covers_from)
SELECT %(pool_id)s, %(epoch)s, entry.shard_id, (%(names)s::text[])[entry.node], entry.weight, (%(days)s::date[])[entry.day]
FROM unnest(
    %(shard)s::integer[], %(node)s::integer[], %(weight)s::double precision[], %(day)s::integer[]
) AS entry (shard_id, node, weight, day);
