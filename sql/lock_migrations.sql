-- Held until the transaction ends: migrations run one process at a time. The number is 'foreshar' in ASCII.
SELECT pg_advisory_xact_lock(7381237988577993074);
