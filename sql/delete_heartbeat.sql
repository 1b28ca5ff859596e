DELETE FROM heartbeat WHERE pool_id = %(pool_id)s AND node_id = %(node_id)s;
