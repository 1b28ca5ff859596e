-- Since when a pool only records its plans, and who began that; NULL: its plans are carried out.
ALTER TABLE pool ADD COLUMN IF NOT EXISTS shadow_since timestamptz;
ALTER TABLE pool ADD COLUMN IF NOT EXISTS shadow_by text NOT NULL DEFAULT '';

INSERT INTO role_right (role_name, table_name, rights)
VALUES ('foreshard_planner', 'pool', 'UPDATE (shadow_since, shadow_by)')
ON CONFLICT DO NOTHING;
