SELECT node_id, at, extract(epoch FROM clock_timestamp() - at)::double precision AS age_seconds, load, shards,
       capacity, incarnation, service_seconds
FROM heartbeat
WHERE pool_id = %(pool_id)s
ORDER BY node_id;
