-- Where each node listens now, its state, and the version of each shard that it last reported.
SELECT node.node_id, node.url, node.state, heartbeat.shards
FROM node
LEFT JOIN heartbeat USING (pool_id, node_id)
WHERE pool_id = %(pool_id)s
