-- Plans that are carried out or may be at any moment, the running one first.
SELECT plan.plan_id, plan.state, plan.base_epoch, plan.document, plan.rollback_reason,
       coalesce(approval.decided_by, '') AS decided_by
FROM plan
LEFT JOIN approval USING (pool_id, plan_id)
WHERE pool_id = %(pool_id)s AND plan.state IN ('running', 'approved')
ORDER BY plan.state = 'running' DESC, plan.created_at DESC;
