SELECT applied_version FROM landed_file WHERE pool_id = %(pool_id)s AND file_name = %(file_name)s;
