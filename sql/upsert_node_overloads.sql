-- An overload goes on if somebody has looked at it within the bound, and else begins now.
INSERT INTO node_overload (pool_id, node_id)
SELECT %(pool_id)s, node_id FROM unnest(%(node_ids)s::text[]) AS busy (node_id)
ON CONFLICT (pool_id, node_id) DO UPDATE
SET since = CASE
        WHEN node_overload.seen_at < clock_timestamp() - make_interval(secs => %(bound_seconds)s) THEN clock_timestamp()
        ELSE node_overload.since
    END,
    seen_at = clock_timestamp();
