-- The same hour of the last four weeks; one week alone is no habit.
SELECT table_name, percentile_cont(0.5) WITHIN GROUP (ORDER BY row_count) AS usual_rows
FROM landing_hour
WHERE pool_id = %(pool_id)s AND hour = ANY(%(hours)s::timestamptz[])
GROUP BY table_name
HAVING count(*) >= 2;
