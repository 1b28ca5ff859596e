-- An expired lease that nobody took over may be renewed: its fence is still the newest.
UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => %(ttl_seconds)s)
WHERE name = %(name)s AND holder = %(holder)s AND fence = %(fence)s
RETURNING fence;
