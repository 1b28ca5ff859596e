SELECT node_id, since, extract(epoch FROM clock_timestamp() - since)::double precision AS seconds
FROM node_overload
WHERE pool_id = %(pool_id)s
ORDER BY node_id;
