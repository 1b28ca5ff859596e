-- The repair plan made last, and for how many seconds nothing has happened to it.
SELECT plan.plan_id, plan.state,
       extract(epoch FROM clock_timestamp() - (
           SELECT max(at) FROM transition_event AS event
           WHERE event.pool_id = plan.pool_id AND event.plan_id = plan.plan_id
       ))::double precision AS quiet_seconds
FROM plan
JOIN approval USING (pool_id, plan_id)
WHERE pool_id = %(pool_id)s AND approval.decided_by = %(decided_by)s
ORDER BY plan.created_at DESC
LIMIT 1;
