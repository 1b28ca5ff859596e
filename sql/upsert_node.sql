INSERT INTO node (pool_id, node_id, capacity, url, zone)
VALUES (%(pool_id)s, %(node_id)s, %(capacity)s, %(url)s, %(zone)s)
ON CONFLICT (pool_id, node_id) DO UPDATE
SET capacity = excluded.capacity,
    url = CASE WHEN excluded.url = '' THEN node.url ELSE excluded.url END,
    zone = excluded.zone;
