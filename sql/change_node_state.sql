-- From one state to another, unless the node has sent a heartbeat since it was looked at.
UPDATE node SET state = %(after)s
FROM heartbeat
WHERE node.pool_id = %(pool_id)s
  AND node.node_id = %(node_id)s
  AND node.state = %(before)s
  AND heartbeat.pool_id = node.pool_id
  AND heartbeat.node_id = node.node_id
  AND (NOT %(unless_beaten)s OR heartbeat.at = %(seen_at)s)
RETURNING node.node_id;
