-- What was learnt of each node, and how long ago by the database's clock.
SELECT node_id, factor, extract(epoch FROM clock_timestamp() - at)::double precision AS age_seconds, learnt,
       extract(epoch FROM clock_timestamp() - learnt_at)::double precision AS learnt_age_seconds
FROM node_correction
WHERE pool_id = %(pool_id)s
ORDER BY node_id;
