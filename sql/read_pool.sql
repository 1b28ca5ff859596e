SELECT pool_id, kind, slot_bits, policy, current_epoch, desired_nodes FROM pool WHERE pool_id = %(pool_id)s;
