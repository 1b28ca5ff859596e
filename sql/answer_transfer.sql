-- No row: the move does not exist, or the node is not at this end of it. The same answer again changes nothing.
WITH concerned AS (
    SELECT pool_id, plan_id, position
    FROM plan_move
    WHERE pool_id = %(pool_id)s AND plan_id = %(plan_id)s AND position = %(position)s
        AND %(node_id)s = CASE %(role)s WHEN 'source' THEN source WHEN 'target' THEN target END
        AND %(node_id)s <> ''
), written AS (
    INSERT INTO transfer_answer AS answer (pool_id, plan_id, position, role, node_id, accepted, detail)
    SELECT pool_id, plan_id, position, %(role)s, %(node_id)s, %(accepted)s, %(detail)s FROM concerned
    ON CONFLICT (pool_id, plan_id, position, role) DO UPDATE SET
        node_id = excluded.node_id, accepted = excluded.accepted, detail = excluded.detail, answered_at = clock_timestamp()
    WHERE (answer.node_id, answer.accepted, answer.detail) IS DISTINCT FROM (excluded.node_id, excluded.accepted, excluded.detail)
)
SELECT position FROM concerned;
