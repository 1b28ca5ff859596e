INSERT INTO transition_event (pool_id, plan_id, position, stage, actor, source_version, rows, detail)
VALUES (%(pool_id)s, %(plan_id)s, %(position)s, %(stage)s, %(actor)s, %(source_version)s, %(rows)s, %(detail)s);
