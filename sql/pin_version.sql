INSERT INTO version_pin (pool_id, table_name, version, holder)
VALUES (%(pool_id)s, %(table_name)s, %(version)s, %(holder)s)
ON CONFLICT (pool_id, table_name, holder) DO UPDATE SET version = excluded.version, pinned_at = now();
