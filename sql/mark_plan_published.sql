-- The plan's newest epoch; the plan goes on, or ends, by its own steps.
UPDATE plan SET last_epoch = %(epoch)s WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s;
INSERT INTO transition_event (pool_id, plan_id, stage, actor, epoch, detail)
VALUES (%(pool_id)s, %(plan_id)s, 'published', %(actor)s, %(epoch)s, %(detail)s);
