INSERT INTO heartbeat (pool_id, node_id, at, load, shards, capacity, incarnation, service_seconds)
VALUES (
    %(pool_id)s, %(node_id)s, clock_timestamp(), %(load)s, %(shards)s,
    coalesce(
        %(capacity)s, (SELECT node.capacity FROM node WHERE node.pool_id = %(pool_id)s AND node.node_id = %(node_id)s)
    ),
    %(incarnation)s, %(service_seconds)s
)
ON CONFLICT (pool_id, node_id) DO UPDATE SET
    at = excluded.at, load = excluded.load, shards = excluded.shards, capacity = excluded.capacity,
    incarnation = excluded.incarnation, service_seconds = excluded.service_seconds;
