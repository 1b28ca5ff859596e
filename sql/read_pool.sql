SELECT pool_id, kind, slot_bits, policy, current_epoch FROM pool WHERE pool_id = %(pool_id)s;
