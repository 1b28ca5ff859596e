UPDATE node SET url = %(url)s WHERE pool_id = %(pool_id)s AND node_id = %(node_id)s RETURNING node_id;
