SELECT shard_id, node_id, compared, mismatched, failed, skipped, old_latency, new_latency, example
FROM shadow_report
WHERE pool_id = %(pool_id)s AND since_epoch = %(since_epoch)s
ORDER BY shard_id, node_id, gateway_id;
