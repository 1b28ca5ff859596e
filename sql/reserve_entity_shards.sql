-- One reservation at a time: two planners do not give one number twice.
SELECT pool_id FROM pool WHERE pool_id = %(pool_id)s FOR NO KEY UPDATE;
-- Those that are isolated keep their numbers, whatever was reserved.
DELETE FROM entity_shard
USING unnest(%(isolated_ids)s::text[], %(isolated_shards)s::integer[]) AS isolated (entity_id, shard_id)
WHERE entity_shard.pool_id = %(pool_id)s
  AND (entity_shard.entity_id = isolated.entity_id) <> (entity_shard.shard_id = isolated.shard_id);
INSERT INTO entity_shard (pool_id, entity_id, shard_id)
SELECT %(pool_id)s, isolated.entity_id, isolated.shard_id
FROM unnest(%(isolated_ids)s::text[], %(isolated_shards)s::integer[]) AS isolated (entity_id, shard_id)
ON CONFLICT DO NOTHING;
INSERT INTO entity_shard (pool_id, entity_id, shard_id)
SELECT %(pool_id)s, wanted.entity_id, highest.shard_id + row_number() OVER (ORDER BY wanted.position)
FROM unnest(%(entity_ids)s::text[]) WITH ORDINALITY AS wanted (entity_id, position)
CROSS JOIN (
    SELECT greatest(
        (SELECT (1 << slot_bits) - 1 FROM pool WHERE pool_id = %(pool_id)s),
        (SELECT max(shard_id) FROM entity_shard WHERE pool_id = %(pool_id)s),
        (SELECT max(shard_id) FROM replica WHERE pool_id = %(pool_id)s)
    ) AS shard_id
) AS highest
WHERE NOT EXISTS (
    SELECT FROM entity_shard AS known WHERE known.pool_id = %(pool_id)s AND known.entity_id = wanted.entity_id
);
SELECT entity_id, shard_id FROM entity_shard WHERE pool_id = %(pool_id)s AND entity_id = ANY (%(entity_ids)s::text[]);
