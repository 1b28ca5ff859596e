INSERT INTO routing_epoch (pool_id, epoch, parent, plan_id, snapshot, checksum, published_by, reason)
VALUES (%(pool_id)s, %(epoch)s, %(parent)s, %(plan_id)s, %(snapshot)s, %(checksum)s, %(published_by)s, %(reason)s);
