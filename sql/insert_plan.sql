INSERT INTO plan (pool_id, plan_id, base_epoch, input_digest, state, summary, document, problem)
VALUES (%(pool_id)s, %(plan_id)s, %(base_epoch)s, %(input_digest)s, 'proposed', %(summary)s, %(document)s, %(problem)s)
ON CONFLICT (pool_id, plan_id) DO NOTHING
RETURNING plan_id;
