INSERT INTO heartbeat (pool_id, node_id, at, load, shards)
VALUES (%(pool_id)s, %(node_id)s, clock_timestamp(), %(load)s, %(shards)s)
ON CONFLICT (pool_id, node_id) DO UPDATE SET at = excluded.at, load = excluded.load, shards = excluded.shards;
