INSERT INTO landing_hour (pool_id, table_name, hour, row_count)
VALUES (%(pool_id)s, %(table_name)s, %(hour)s, %(row_count)s)
ON CONFLICT (pool_id, table_name, hour) DO UPDATE SET row_count = excluded.row_count;
