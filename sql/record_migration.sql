INSERT INTO schema_migration (name, checksum) VALUES (%(name)s, %(checksum)s);
