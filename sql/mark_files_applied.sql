UPDATE landed_file SET applied_version = %(version)s
WHERE pool_id = %(pool_id)s AND file_name = ANY(%(file_names)s::text[]) AND applied_version IS NULL;
