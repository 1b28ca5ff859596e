-- slot_bits stays as first registered; the caller compares it.
INSERT INTO pool (pool_id, slot_bits, policy)
VALUES (%(pool_id)s, %(slot_bits)s, %(policy)s)
ON CONFLICT (pool_id) DO UPDATE SET policy = excluded.policy
RETURNING pool_id, kind, slot_bits, policy, current_epoch, desired_nodes, shadow_since, shadow_by;
