DELETE FROM version_pin WHERE pool_id = %(pool_id)s AND table_name = %(table_name)s AND holder = %(holder)s;
