-- Moves that may still need the copies they name. Of a failed plan, those that were begun: it may be taken up again.
SELECT plan_id, move.position, move.kind, move.shard_id, move.source, move.target, move.state, plan.state AS plan_state
FROM plan_move AS move
JOIN plan USING (pool_id, plan_id)
WHERE pool_id = %(pool_id)s
  AND move.state NOT IN ('done', 'rolled_back')
  AND (plan.state IN ('approved', 'running') OR (plan.state = 'failed' AND move.state <> 'planned'))
ORDER BY plan_id, move.position;
