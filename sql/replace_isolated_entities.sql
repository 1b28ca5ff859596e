DELETE FROM isolated_entity
WHERE pool_id = %(pool_id)s
  AND (entity_id, shard_id) NOT IN (
      SELECT entity_id, shard_id FROM unnest(%(entity_ids)s::text[], %(shard_ids)s::integer[]) AS wanted (entity_id, shard_id)
  );
INSERT INTO isolated_entity (pool_id, entity_id, shard_id, since_epoch)
SELECT %(pool_id)s, wanted.entity_id, wanted.shard_id, %(epoch)s
FROM unnest(%(entity_ids)s::text[], %(shard_ids)s::integer[]) AS wanted (entity_id, shard_id)
ON CONFLICT (pool_id, entity_id) DO NOTHING;
