SELECT pool_id, plan_id, state, base_epoch, input_digest, summary, document, created_at,
       coalesce(last_epoch, base_epoch) AS last_epoch, rollback_reason
FROM plan
WHERE pool_id = %(pool_id)s AND state = 'running';
