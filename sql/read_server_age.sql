SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::double precision AS seconds;
