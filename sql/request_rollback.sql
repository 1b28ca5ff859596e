UPDATE plan SET rollback_reason = %(reason)s WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s;
INSERT INTO transition_event (pool_id, plan_id, stage, actor, detail)
VALUES (%(pool_id)s, %(plan_id)s, 'rollback asked for', %(actor)s, %(reason)s);
