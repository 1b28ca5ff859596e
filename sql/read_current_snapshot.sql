SELECT routing_epoch.epoch, routing_epoch.snapshot, routing_epoch.checksum
FROM routing_epoch
JOIN pool ON pool.pool_id = routing_epoch.pool_id AND pool.current_epoch = routing_epoch.epoch
WHERE pool.pool_id = %(pool_id)s;
