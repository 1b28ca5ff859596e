INSERT INTO gateway_ack (pool_id, gateway_id, epoch)
VALUES (%(pool_id)s, %(gateway_id)s, %(epoch)s)
ON CONFLICT DO NOTHING;
