-- Gateways that gave up long ago, and of the others the acknowledgements that a later one has taken over.
WITH gone AS (
    DELETE FROM gateway
    WHERE pool_id = %(pool_id)s AND lease_expires_at < clock_timestamp() - make_interval(days => %(days)s)
    RETURNING gateway_id
), overtaken AS (
    DELETE FROM gateway_ack AS old
    USING (SELECT gateway_id, max(epoch) AS epoch FROM gateway_ack WHERE pool_id = %(pool_id)s GROUP BY gateway_id) AS newest
    WHERE old.pool_id = %(pool_id)s
      AND old.gateway_id = newest.gateway_id
      AND old.epoch < newest.epoch
      AND old.acknowledged_at < clock_timestamp() - make_interval(days => %(days)s)
)
SELECT count(*) AS gateways FROM gone;
