-- The id of the open operation of that kind on the node: the one begun before, if it has not ended.
INSERT INTO node_operation (operation_id, pool_id, node_id, verb)
VALUES (%(operation_id)s, %(pool_id)s, %(node_id)s, %(verb)s)
ON CONFLICT (pool_id, node_id, verb) WHERE ended_at IS NULL DO UPDATE SET verb = excluded.verb
RETURNING operation_id;
