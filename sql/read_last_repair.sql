-- The plan made last to repair, and when it was last heard of.
SELECT plan.plan_id, plan.state,
       (SELECT max(at) FROM transition_event AS event
        WHERE event.pool_id = plan.pool_id AND event.plan_id = plan.plan_id) AS last_at
FROM plan
JOIN approval USING (pool_id, plan_id)
WHERE pool_id = %(pool_id)s AND approval.decided_by = %(decided_by)s
ORDER BY plan.created_at DESC
LIMIT 1;
