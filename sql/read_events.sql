SELECT position, stage, at, actor, epoch, source_version, rows, detail
FROM transition_event
WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s
ORDER BY event_id;
