-- The compare-and-set of publication: no row means that another epoch has become current.
UPDATE pool SET current_epoch = %(epoch)s
WHERE pool_id = %(pool_id)s AND current_epoch = %(expected_epoch)s
RETURNING pool_id, kind, slot_bits, policy, current_epoch, desired_nodes, shadow_since, shadow_by;
