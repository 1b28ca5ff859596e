-- The plan that is carried out, if the watch approved it.
SELECT plan.plan_id
FROM plan
JOIN approval USING (pool_id, plan_id)
WHERE pool_id = %(pool_id)s AND plan.state = 'running' AND approval.decided_by = %(decided_by)s;
