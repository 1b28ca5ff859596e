-- What still needs a node: shards that the current epoch routes to it, and moves of plans under way that name it.
SELECT 'epoch ' || entry.epoch || ' routes ' || count(*) || ' shards to it' AS need
FROM routing_entry AS entry
JOIN pool ON pool.pool_id = entry.pool_id AND pool.current_epoch = entry.epoch
WHERE entry.pool_id = %(pool_id)s AND entry.node_id = %(node_id)s
GROUP BY entry.epoch
UNION ALL
SELECT 'plan ' || plan.plan_id || ', which is ' || plan.state || ', has ' || count(*) || ' moves from or to it'
FROM plan_move AS move
JOIN plan USING (pool_id, plan_id)
WHERE pool_id = %(pool_id)s
  AND plan.state IN ('approved', 'running')
  AND move.state NOT IN ('done', 'rolled_back')
  AND %(node_id)s IN (move.source, move.target)
GROUP BY plan.plan_id, plan.state
LIMIT 1;
