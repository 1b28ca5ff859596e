INSERT INTO replica (pool_id, shard_id, node_id, state, covers_from, applied_version, verified_version, verified_at)
SELECT %(pool_id)s, held.shard_id, held.node_id, held.state, held.covers_from, held.applied_version, held.verified_version,
       CASE WHEN held.verified_version IS NOT NULL THEN coalesce(held.verified_at, clock_timestamp()) END
FROM unnest(
    %(shard_id)s::integer[], %(node_id)s::text[], %(state)s::text[], %(covers_from)s::date[], %(applied_version)s::bigint[],
    %(verified_version)s::bigint[], %(verified_at)s::timestamptz[]
) AS held (shard_id, node_id, state, covers_from, applied_version, verified_version, verified_at)
ON CONFLICT (pool_id, shard_id, node_id) DO UPDATE
SET state = excluded.state,
    covers_from = excluded.covers_from,
    applied_version = coalesce(excluded.applied_version, replica.applied_version),
    verified_version = CASE
        WHEN excluded.state = 'copying' THEN excluded.verified_version
        ELSE coalesce(excluded.verified_version, replica.verified_version)
    END,
    verified_at = CASE
        WHEN excluded.state = 'copying' THEN excluded.verified_at
        ELSE coalesce(excluded.verified_at, replica.verified_at)
    END;
