SELECT epoch, snapshot, checksum, removed_because FROM routing_epoch WHERE pool_id = %(pool_id)s AND epoch = %(epoch)s;
