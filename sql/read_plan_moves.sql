SELECT position, kind, shard_id, source, target, covers_from, bytes, reason, state, rows_copied, source_version,
       goal, gain, wave, start_by, since, paused_from, attempts, step, bytes_copied, detail
FROM plan_move
WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s
ORDER BY position;
