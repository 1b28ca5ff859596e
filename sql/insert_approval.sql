-- The plan's state, locked by this transaction, has already refused a second, different decision.
INSERT INTO approval (pool_id, plan_id, decision, decided_by)
VALUES (%(pool_id)s, %(plan_id)s, %(decision)s, %(decided_by)s)
ON CONFLICT (pool_id, plan_id) DO UPDATE
SET decision = excluded.decision, decided_by = excluded.decided_by, decided_at = excluded.decided_at
WHERE approval.decision <> excluded.decision;
