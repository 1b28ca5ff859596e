SELECT bytes_per_second FROM copy_throttle WHERE pool_id = %(pool_id)s;
