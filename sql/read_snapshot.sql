SELECT snapshot, checksum FROM routing_epoch WHERE pool_id = %(pool_id)s AND epoch = %(epoch)s;
