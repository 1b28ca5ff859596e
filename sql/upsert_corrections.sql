-- One step for all nodes. A node that another look has corrected within the last `least_seconds` stays as it is; one that has
-- been removed meanwhile is passed over. None while the pool is in shadow mode: gateways go by these.
INSERT INTO node_correction (pool_id, node_id, factor)
SELECT node.pool_id, node.node_id, corrected.factor
FROM unnest(%(node_ids)s::text[], %(factors)s::double precision[]) AS corrected (node_id, factor)
JOIN node ON node.pool_id = %(pool_id)s AND node.node_id = corrected.node_id
JOIN pool ON pool.pool_id = node.pool_id AND pool.shadow_since IS NULL
ORDER BY node.node_id
ON CONFLICT (pool_id, node_id) DO UPDATE SET factor = excluded.factor, at = clock_timestamp()
WHERE node_correction.at <= clock_timestamp() - make_interval(secs => %(least_seconds)s)
RETURNING node_id;
