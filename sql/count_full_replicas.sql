-- Full replicas on live nodes that an epoch has of each shard.
SELECT entry.shard_id, count(*) AS replicas
FROM routing_entry AS entry
JOIN node USING (pool_id, node_id)
WHERE pool_id = %(pool_id)s AND entry.epoch = %(epoch)s AND entry.covers_from IS NULL AND node.state <> 'dead'
GROUP BY entry.shard_id;
