SELECT problem FROM plan WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s;
