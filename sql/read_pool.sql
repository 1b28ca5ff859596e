SELECT pool_id, kind, slot_bits, policy, current_epoch, desired_nodes, shadow_since, shadow_by
FROM pool
WHERE pool_id = %(pool_id)s;
