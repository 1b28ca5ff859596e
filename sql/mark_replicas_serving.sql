UPDATE replica SET state = 'serving'
FROM routing_entry AS entry
WHERE replica.pool_id = %(pool_id)s
  AND replica.state = 'verified'
  AND entry.pool_id = replica.pool_id
  AND entry.epoch = %(epoch)s
  AND entry.shard_id = replica.shard_id
  AND entry.node_id = replica.node_id;
