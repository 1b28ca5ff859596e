-- The control plane: what is planned, moved, published and acknowledged. pool_id is in every key.
CREATE TABLE pool (
    pool_id text PRIMARY KEY,
    kind text NOT NULL DEFAULT 'pipeline',
    slot_bits integer NOT NULL CHECK (slot_bits BETWEEN 0 AND 20),
    policy jsonb NOT NULL,
    current_epoch bigint NOT NULL DEFAULT 0
);

CREATE TABLE node (
    pool_id text NOT NULL REFERENCES pool,
    node_id text NOT NULL,
    capacity double precision NOT NULL CHECK (capacity > 0),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'joining', 'draining', 'dead')),
    url text NOT NULL DEFAULT '',
    zone text NOT NULL DEFAULT '',
    PRIMARY KEY (pool_id, node_id)
);

CREATE TABLE heartbeat (
    pool_id text NOT NULL,
    node_id text NOT NULL,
    at timestamptz NOT NULL,
    load double precision NOT NULL,
    shards jsonb NOT NULL, -- {shard_id: applied_version}
    PRIMARY KEY (pool_id, node_id),
    FOREIGN KEY (pool_id, node_id) REFERENCES node
);

-- What each node's serving table holds, mirrored from the table's own commits, which are the authority.
CREATE TABLE replica (
    pool_id text NOT NULL,
    shard_id integer NOT NULL CHECK (shard_id >= 0),
    node_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('copying', 'verified', 'serving', 'retiring')),
    covers_from date,
    applied_version bigint,
    verified_version bigint,
    verified_at timestamptz,
    PRIMARY KEY (pool_id, shard_id, node_id),
    FOREIGN KEY (pool_id, node_id) REFERENCES node
);

CREATE TABLE isolated_entity (
    pool_id text NOT NULL REFERENCES pool,
    entity_id text NOT NULL,
    shard_id integer NOT NULL,
    since_epoch bigint NOT NULL,
    PRIMARY KEY (pool_id, entity_id),
    UNIQUE (pool_id, shard_id)
);

CREATE TABLE plan (
    pool_id text NOT NULL REFERENCES pool,
    plan_id text NOT NULL,
    base_epoch bigint NOT NULL,
    input_digest text NOT NULL,
    state text NOT NULL CHECK (state IN ('proposed', 'approved', 'rejected', 'running', 'published', 'done', 'failed')),
    summary text NOT NULL,
    document jsonb NOT NULL, -- the plan as canonical JSON: moves, layout, metrics
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool_id, plan_id)
);

CREATE TABLE plan_move (
    pool_id text NOT NULL,
    plan_id text NOT NULL,
    position integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('move', 'replicate', 'widen', 'drop')),
    shard_id integer NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    covers_from date,
    bytes bigint NOT NULL,
    reason text NOT NULL,
    state text NOT NULL DEFAULT 'planned'
        CHECK (state IN ('planned', 'copying', 'verified', 'published', 'retiring', 'done', 'failed')),
    rows_copied bigint,
    source_version bigint,
    PRIMARY KEY (pool_id, plan_id, position),
    FOREIGN KEY (pool_id, plan_id) REFERENCES plan
);

CREATE TABLE approval (
    pool_id text NOT NULL,
    plan_id text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approved', 'rejected')),
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool_id, plan_id),
    FOREIGN KEY (pool_id, plan_id) REFERENCES plan
);

-- One row for each step a move takes.
CREATE TABLE transition_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool_id text NOT NULL,
    plan_id text NOT NULL,
    position integer, -- empty for the plan as a whole
    stage text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    source_version bigint,
    rows bigint,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX transition_event_by_plan ON transition_event (pool_id, plan_id, event_id);

-- A lease names one writer at a time; fence only grows, and every write under the lease names it.
CREATE TABLE lease (
    name text PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE version_pin (
    pool_id text NOT NULL,
    table_name text NOT NULL,
    version bigint NOT NULL,
    holder text NOT NULL,
    pinned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool_id, table_name, holder)
);

CREATE TABLE routing_epoch (
    pool_id text NOT NULL REFERENCES pool,
    epoch bigint NOT NULL,
    parent bigint NOT NULL,
    plan_id text NOT NULL DEFAULT '',
    snapshot bytea NOT NULL,
    checksum text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_by text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (pool_id, epoch),
    CHECK (parent < epoch)
);

CREATE TABLE routing_entry (
    pool_id text NOT NULL,
    epoch bigint NOT NULL,
    shard_id integer NOT NULL,
    node_id text NOT NULL,
    weight double precision NOT NULL CHECK (weight > 0),
    covers_from date,
    PRIMARY KEY (pool_id, epoch, shard_id, node_id),
    FOREIGN KEY (pool_id, epoch) REFERENCES routing_epoch
);

CREATE TABLE gateway (
    pool_id text NOT NULL REFERENCES pool,
    gateway_id text NOT NULL,
    lease_expires_at timestamptz NOT NULL,
    PRIMARY KEY (pool_id, gateway_id)
);

CREATE TABLE gateway_ack (
    pool_id text NOT NULL,
    gateway_id text NOT NULL,
    epoch bigint NOT NULL,
    acknowledged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pool_id, gateway_id, epoch),
    FOREIGN KEY (pool_id, gateway_id) REFERENCES gateway ON DELETE CASCADE
);

-- Landed files by the token they were acknowledged with, and the first version of usage_hourly that includes them.
CREATE TABLE landed_file (
    pool_id text NOT NULL REFERENCES pool,
    file_name text NOT NULL, -- path below the landing folder
    landed_at timestamptz NOT NULL,
    applied_version bigint, -- empty while pending
    PRIMARY KEY (pool_id, file_name)
);
