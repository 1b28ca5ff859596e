INSERT INTO plan_move (
    pool_id, plan_id, position, kind, shard_id, source, target, covers_from, bytes, reason, goal, gain, wave, start_by
)
SELECT %(pool_id)s, %(plan_id)s, move.position, move.kind, move.shard_id, move.source, move.target, move.covers_from,
       move.bytes, move.reason, move.goal, move.gain, move.wave, move.start_by
FROM jsonb_to_recordset(%(moves)s::jsonb) AS move (
    position integer, kind text, shard_id integer, source text, target text, covers_from date, bytes bigint, reason text,
    goal text, gain double precision, wave integer, start_by timestamptz
);
