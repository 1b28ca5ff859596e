SELECT node_id, capacity, state, url, zone FROM node WHERE pool_id = %(pool_id)s ORDER BY node_id FOR UPDATE;
