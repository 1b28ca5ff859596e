-- The moves of the running plan that take from the node or bring to it, and on which it has not said anything yet.
SELECT plan_id, position, side.role, plan_move.shard_id, plan_move.covers_from, plan_move.bytes, side.other
FROM plan
JOIN plan_move USING (pool_id, plan_id)
CROSS JOIN LATERAL (VALUES ('source', source, target), ('target', target, source)) AS side (role, node_id, other)
LEFT JOIN transfer_answer AS answer USING (pool_id, plan_id, position, role)
WHERE pool_id = %(pool_id)s AND plan.state = 'running' AND side.node_id = %(node_id)s AND side.node_id <> ''
    AND plan_move.state IN ('planned', 'copying', 'catching_up', 'verified', 'shadowing', 'failed')
    AND (answer.node_id IS NULL OR answer.node_id <> side.node_id)
ORDER BY position, role;
