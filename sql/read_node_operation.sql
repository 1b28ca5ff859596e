SELECT operation_id
FROM node_operation
WHERE pool_id = %(pool_id)s AND node_id = %(node_id)s AND verb = %(verb)s AND ended_at IS NULL;
