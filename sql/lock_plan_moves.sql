SELECT position, state, paused_from, step
FROM plan_move
WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s AND position = ANY(%(positions)s::integer[])
ORDER BY position
FOR UPDATE;
