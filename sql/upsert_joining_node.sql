-- A node that joins; one that was dead or being emptied joins again, and any other stays in its state.
INSERT INTO node (pool_id, node_id, capacity, zone, state)
VALUES (%(pool_id)s, %(node_id)s, %(capacity)s, %(zone)s, 'joining')
ON CONFLICT (pool_id, node_id) DO UPDATE
SET capacity = excluded.capacity,
    zone = excluded.zone,
    state = CASE WHEN node.state IN ('dead', 'draining') THEN 'joining' ELSE node.state END
RETURNING state;
