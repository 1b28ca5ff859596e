-- The row stays, so that the fence never starts again; raising it stops what the holder may still have under way.
UPDATE lease SET fence = fence + 1, expires_at = clock_timestamp()
WHERE name = %(name)s AND holder = %(holder)s AND fence = %(fence)s;
