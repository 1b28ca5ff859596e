SELECT current_epoch FROM pool WHERE pool_id = %(pool_id)s FOR UPDATE;
