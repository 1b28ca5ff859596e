-- For the session.
SELECT set_config('statement_timeout', %(milliseconds)s, false);
