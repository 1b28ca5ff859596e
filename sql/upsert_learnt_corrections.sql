-- What was learnt of hours. A node that nothing else was known of begins with it. None while the pool is in shadow mode.
INSERT INTO node_correction (pool_id, node_id, factor, learnt, learnt_at)
SELECT node.pool_id, node.node_id, found.learnt, found.learnt, clock_timestamp()
FROM unnest(%(node_ids)s::text[], %(learnt)s::double precision[]) AS found (node_id, learnt)
JOIN node ON node.pool_id = %(pool_id)s AND node.node_id = found.node_id
JOIN pool ON pool.pool_id = node.pool_id AND pool.shadow_since IS NULL
ORDER BY node.node_id
ON CONFLICT (pool_id, node_id) DO UPDATE SET learnt = excluded.learnt, learnt_at = excluded.learnt_at
RETURNING node_id;
