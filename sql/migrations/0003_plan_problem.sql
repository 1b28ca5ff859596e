-- The problem that a plan was made from, so that the plan can explain itself later: zstd-compressed JSON, its names sorted.
-- Empty for plans stored before, and for the first plan of a pool, which has none.
ALTER TABLE plan ADD COLUMN IF NOT EXISTS problem bytea;
