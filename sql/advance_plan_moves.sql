-- Moves only go on, except that what is not yet published may be copied again; one event for each row changed.
WITH wanted AS (
    SELECT * FROM unnest(%(positions)s::integer[], %(rows)s::bigint[]) AS pair (position, rows)
), changed AS (
    UPDATE plan_move
    SET state = %(state)s,
        rows_copied = coalesce(wanted.rows, plan_move.rows_copied),
        source_version = coalesce(%(source_version)s::bigint, plan_move.source_version)
    FROM wanted
    WHERE plan_move.pool_id = %(pool_id)s
      AND plan_move.plan_id = %(plan_id)s
      AND plan_move.position = wanted.position
      AND CASE
          WHEN plan_move.state = %(state)s THEN
              (wanted.rows IS NOT NULL AND wanted.rows IS DISTINCT FROM plan_move.rows_copied)
              OR (%(source_version)s IS NOT NULL AND %(source_version)s IS DISTINCT FROM plan_move.source_version)
          WHEN %(state)s = 'failed' THEN plan_move.state <> 'done'
          WHEN plan_move.state = 'failed' THEN true
          WHEN %(state)s = 'copying' THEN plan_move.state IN ('planned', 'verified')
          ELSE array_position(ARRAY['planned', 'copying', 'verified', 'published', 'retiring', 'done'], %(state)s)
              > array_position(ARRAY['planned', 'copying', 'verified', 'published', 'retiring', 'done'], plan_move.state)
      END
    RETURNING plan_move.position, wanted.rows
), recorded AS (
    INSERT INTO transition_event (pool_id, plan_id, position, stage, actor, source_version, rows, detail)
    SELECT %(pool_id)s, %(plan_id)s, changed.position, %(state)s, %(actor)s, %(source_version)s, changed.rows, %(detail)s
    FROM changed
    ORDER BY changed.position
)
SELECT position FROM changed ORDER BY position;
