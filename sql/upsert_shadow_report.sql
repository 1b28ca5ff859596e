-- Totals, not increments: written again, they are the same.
INSERT INTO shadow_report (
    pool_id, since_epoch, shard_id, node_id, gateway_id, compared, mismatched, failed, skipped, old_latency, new_latency, example
)
VALUES (
    %(pool_id)s, %(since_epoch)s, %(shard_id)s, %(node_id)s, %(gateway_id)s, %(compared)s, %(mismatched)s, %(failed)s,
    %(skipped)s, %(old_latency)s, %(new_latency)s, %(example)s
)
ON CONFLICT (pool_id, since_epoch, shard_id, node_id, gateway_id) DO UPDATE SET
    compared = excluded.compared, mismatched = excluded.mismatched, failed = excluded.failed, skipped = excluded.skipped,
    old_latency = excluded.old_latency, new_latency = excluded.new_latency, example = excluded.example;
