SELECT state, base_epoch, coalesce(last_epoch, base_epoch) AS last_epoch
FROM plan
WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s
FOR UPDATE;
