-- What a move serves, in which wave it goes and when it must begin. Empty for moves stored before.
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS goal text;
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS gain double precision;
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS wave integer;
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS start_by timestamptz;

-- The number of the shard that an entity has, or would have, of its own. It is the entity's for good: copies, forecasts and old
-- epochs that name it never come to mean another entity.
CREATE TABLE IF NOT EXISTS entity_shard (
    pool_id text NOT NULL REFERENCES pool,
    entity_id text NOT NULL,
    shard_id integer NOT NULL,
    PRIMARY KEY (pool_id, entity_id),
    UNIQUE (pool_id, shard_id)
);
INSERT INTO entity_shard (pool_id, entity_id, shard_id)
SELECT pool_id, entity_id, shard_id FROM isolated_entity
ON CONFLICT DO NOTHING;
