SELECT entity_id, shard_id FROM entity_shard WHERE pool_id = %(pool_id)s ORDER BY shard_id;
