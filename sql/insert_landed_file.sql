INSERT INTO landed_file (pool_id, file_name, landed_at)
VALUES (%(pool_id)s, %(file_name)s, %(landed_at)s)
ON CONFLICT (pool_id, file_name) DO NOTHING;
