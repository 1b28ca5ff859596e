-- Versions kept for plans that have ended.
SELECT pin.table_name, pin.version, pin.holder, plan.state
FROM version_pin AS pin
JOIN plan ON plan.pool_id = pin.pool_id AND plan.plan_id = pin.holder
WHERE pin.pool_id = %(pool_id)s
  AND (plan.state IN ('done', 'rejected', 'rolled_back')
       OR (plan.state = 'failed' AND NOT EXISTS (
           SELECT FROM plan_move AS move
           WHERE move.pool_id = plan.pool_id AND move.plan_id = plan.plan_id
             AND move.state NOT IN ('planned', 'done', 'rolled_back')
       )))
ORDER BY pin.table_name, pin.holder;
