UPDATE plan SET state = %(state)s WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s;
