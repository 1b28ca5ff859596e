-- Moves whose step was found to be legal under their lock; one event for each.
WITH wanted AS (
    SELECT * FROM unnest(%(positions)s::integer[], %(rows)s::bigint[]) AS pair (position, rows)
), changed AS (
    UPDATE plan_move
    SET state = %(state)s,
        since = clock_timestamp(),
        paused_from = CASE WHEN %(state)s = 'paused' THEN plan_move.state END,
        attempts = plan_move.attempts + (%(state)s = 'failed')::integer,
        step = coalesce(%(step)s, plan_move.step),
        detail = %(detail)s,
        rows_copied = coalesce(wanted.rows, plan_move.rows_copied),
        source_version = coalesce(%(source_version)s::bigint, plan_move.source_version)
    FROM wanted
    WHERE plan_move.pool_id = %(pool_id)s
      AND plan_move.plan_id = %(plan_id)s
      AND plan_move.position = wanted.position
    RETURNING plan_move.position, wanted.rows
)
INSERT INTO transition_event (pool_id, plan_id, position, stage, actor, epoch, source_version, rows, detail)
SELECT %(pool_id)s, %(plan_id)s, changed.position, %(state)s, %(actor)s, %(epoch)s, %(source_version)s, changed.rows, %(detail)s
FROM changed
ORDER BY changed.position;
