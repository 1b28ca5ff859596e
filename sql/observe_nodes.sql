-- Where each node listens now, its state, the version of each shard that it last reported, and what was learnt of it.
SELECT node.node_id, node.url, node.state, heartbeat.shards, node_correction.factor,
       extract(epoch FROM clock_timestamp() - node_correction.at)::double precision AS age_seconds, node_correction.learnt,
       extract(epoch FROM clock_timestamp() - node_correction.learnt_at)::double precision AS learnt_age_seconds
FROM node
LEFT JOIN heartbeat USING (pool_id, node_id)
LEFT JOIN node_correction USING (pool_id, node_id)
WHERE pool_id = %(pool_id)s
