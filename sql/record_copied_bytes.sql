UPDATE plan_move
SET bytes_copied = copied.bytes
FROM unnest(%(positions)s::integer[], %(bytes)s::bigint[]) AS copied (position, bytes)
WHERE plan_move.pool_id = %(pool_id)s
  AND plan_move.plan_id = %(plan_id)s
  AND plan_move.position = copied.position
  AND plan_move.state = 'copying'
RETURNING plan_move.position;
