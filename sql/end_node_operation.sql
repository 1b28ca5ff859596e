UPDATE node_operation SET ended_at = clock_timestamp(), detail = %(detail)s
WHERE operation_id = %(operation_id)s AND ended_at IS NULL;
