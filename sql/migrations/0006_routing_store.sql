-- The content of epochs past retention goes; their lines in the history stay, with when and why.
ALTER TABLE routing_epoch ALTER COLUMN snapshot DROP NOT NULL;
ALTER TABLE routing_epoch ADD COLUMN IF NOT EXISTS removed_at timestamptz;
ALTER TABLE routing_epoch ADD COLUMN IF NOT EXISTS removed_because text NOT NULL DEFAULT '';

-- An epoch's entries are written in the transaction that writes the epoch, and removed before it: looking each of tens of
-- thousands up again was half of a publication's time.
ALTER TABLE routing_entry DROP CONSTRAINT IF EXISTS routing_entry_pool_id_epoch_fkey;

-- By how much a node does worse (above 1) or better than its capacity says, as gateways correct for it between epochs.
CREATE TABLE IF NOT EXISTS node_correction (
    pool_id text NOT NULL,
    node_id text NOT NULL,
    factor double precision NOT NULL CHECK (factor > 0 AND factor < 'Infinity'),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pool_id, node_id),
    FOREIGN KEY (pool_id, node_id) REFERENCES node
);

-- Since when a node has sent heartbeats: from the first of the pool on, a node that has sent none counts as silent.
ALTER TABLE heartbeat ADD COLUMN IF NOT EXISTS first_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- What each role may do with each table: a row here is a GRANT, made by grant_foreshard_roles() at the end of every migration.
-- A migration that adds a table adds its rows. `rights` as GRANT spells them.
CREATE TABLE IF NOT EXISTS role_right (
    role_name text NOT NULL CHECK (role_name LIKE 'foreshard\_%'),
    table_name text NOT NULL,
    rights text NOT NULL,
    PRIMARY KEY (role_name, table_name, rights)
);

INSERT INTO role_right (role_name, table_name, rights)
SELECT role_name, table_name, rights
FROM (VALUES
    -- Follows epochs, holds a lease, acknowledges, lands writes, and says what its shadows saw.
    ('foreshard_gateway', 'SELECT',
        '{pool,node,heartbeat,routing_epoch,gateway,gateway_ack,landed_file,shadow_report,node_correction}'::text[]),
    ('foreshard_gateway', 'INSERT, UPDATE', '{gateway,shadow_report}'),
    ('foreshard_gateway', 'INSERT', '{gateway_ack,landed_file}'),
    -- A pipeline: says where it listens, what it holds and carries, and answers to moves.
    ('foreshard_node', 'SELECT', '{pool,node,heartbeat,plan,plan_move,transfer_answer}'),
    ('foreshard_node', 'UPDATE (url)', '{node}'),
    ('foreshard_node', 'INSERT, UPDATE', '{heartbeat,transfer_answer}'),
    -- Aggregates, forecasts, plans and decides; watches the nodes. It moves and publishes nothing.
    ('foreshard_planner', 'INSERT, UPDATE', '{node,plan,plan_move,approval,lease,version_pin,node_operation}'),
    ('foreshard_planner', 'INSERT, UPDATE, DELETE', '{entity_shard,node_overload,node_correction,landed_file,landing_hour}'),
    ('foreshard_planner', 'INSERT', '{transition_event}'),
    ('foreshard_planner', 'DELETE', '{version_pin,heartbeat}'),
    ('foreshard_planner', 'UPDATE (policy, desired_nodes)', '{pool}'),
    -- Carries approved plans out: copies, verifies, publishes, retires. It makes and approves none.
    ('foreshard_publisher', 'INSERT, UPDATE, DELETE',
        '{routing_entry,isolated_entity,replica,lease,version_pin,copy_throttle,node_correction,node_operation}'),
    ('foreshard_publisher', 'INSERT, UPDATE', '{routing_epoch}'),
    ('foreshard_publisher', 'UPDATE (current_epoch, desired_nodes)', '{pool}'),
    ('foreshard_publisher', 'UPDATE (state)', '{node}'),
    ('foreshard_publisher', 'UPDATE', '{plan,plan_move}'),
    ('foreshard_publisher', 'INSERT', '{transition_event}'),
    ('foreshard_publisher', 'DELETE', '{transfer_answer,gateway,gateway_ack,shadow_report}')
) AS granted (role_name, rights, table_names)
CROSS JOIN LATERAL unnest(granted.table_names) AS table_name
ON CONFLICT DO NOTHING;
INSERT INTO role_right (role_name, table_name, rights)
SELECT role_name, table_name, 'SELECT'
FROM unnest('{foreshard_reader,foreshard_planner,foreshard_publisher}'::text[]) AS role_name
CROSS JOIN unnest('{
    pool,node,heartbeat,replica,isolated_entity,entity_shard,plan,plan_move,approval,transition_event,lease,version_pin,
    routing_epoch,routing_entry,gateway,gateway_ack,landed_file,landing_hour,copy_throttle,transfer_answer,shadow_report,
    node_overload,node_operation,node_correction,schema_migration,role_right
}'::text[]) AS table_name
ON CONFLICT DO NOTHING;

-- Makes the roles, if the current user may, and grants what role_right says; returns the roles that are missing. Safe to repeat.
-- Roles belong to the server and not to one database: another database's migration may make them at the same moment.
CREATE OR REPLACE FUNCTION grant_foreshard_roles() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    wanted text;
    granted record;
    may_create boolean := (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user);
BEGIN
    FOR wanted IN SELECT DISTINCT role_name FROM role_right ORDER BY role_name LOOP
        IF may_create AND to_regrole(wanted) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF to_regrole(wanted) IS NULL THEN
            RETURN NEXT wanted;
        ELSIF NOT has_schema_privilege(wanted, current_schema(), 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), wanted);
        END IF;
    END LOOP;
    FOR granted IN SELECT * FROM role_right WHERE to_regrole(role_name) IS NOT NULL LOOP
        EXECUTE format('GRANT %s ON TABLE %I TO %I', granted.rights, granted.table_name, granted.role_name);
    END LOOP;
END
$$;

-- `factor` moves every few minutes by what heartbeats say; `learnt` is what the learn job found of hours, where it comes to rest.
ALTER TABLE node_correction ADD COLUMN IF NOT EXISTS learnt double precision NOT NULL DEFAULT 1
    CHECK (learnt > 0 AND learnt < 'Infinity');
ALTER TABLE node_correction ADD COLUMN IF NOT EXISTS learnt_at timestamptz;

-- How long a node takes for a query at present; NULL: it does not say.
ALTER TABLE heartbeat ADD COLUMN IF NOT EXISTS service_seconds double precision;
