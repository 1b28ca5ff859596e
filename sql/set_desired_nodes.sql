UPDATE pool SET desired_nodes = %(desired_nodes)s WHERE pool_id = %(pool_id)s RETURNING pool_id;
