-- Staged transitions: each move goes through copying, catching up, verification, shadowing, a gradual cut-over and a window in
-- which it can be taken back. Moves that were published before go on from that window.
ALTER TABLE plan DROP CONSTRAINT IF EXISTS plan_state_check;
ALTER TABLE plan ADD CONSTRAINT plan_state_check CHECK (
    state IN ('proposed', 'approved', 'rejected', 'running', 'published', 'done', 'failed', 'rolled_back')
);
-- The epoch that the plan published last; empty before its first.
ALTER TABLE plan ADD COLUMN IF NOT EXISTS last_epoch bigint;
-- Why a person, or what, asked for the plan to be taken back; empty: nobody did.
ALTER TABLE plan ADD COLUMN IF NOT EXISTS rollback_reason text NOT NULL DEFAULT '';
-- Plans of before: what was being copied begins anew when it is taken up again; what is published goes on from there if it is
-- current, and has ended if it is not.
UPDATE plan SET state = 'failed' WHERE state = 'running' AND last_epoch IS NULL;
UPDATE plan
SET state = CASE WHEN pool.current_epoch = plan.base_epoch + 1 THEN 'running' ELSE 'done' END, last_epoch = plan.base_epoch + 1
FROM pool
WHERE pool.pool_id = plan.pool_id AND plan.state = 'published';
-- One plan at a time is carried out in a pool.
CREATE UNIQUE INDEX IF NOT EXISTS plan_running ON plan (pool_id) WHERE state = 'running';

ALTER TABLE plan_move DROP CONSTRAINT IF EXISTS plan_move_state_check;
UPDATE plan_move SET state = 'reversible' WHERE state = 'published';
UPDATE plan_move SET state = 'failed' WHERE state IN ('copying', 'verified');
ALTER TABLE plan_move ADD CONSTRAINT plan_move_state_check CHECK (
    state IN (
        'planned', 'copying', 'catching_up', 'verified', 'shadowing', 'cutting_over', 'reversible', 'retiring', 'done',
        'paused', 'failed', 'rolled_back'
    )
);
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS since timestamptz NOT NULL DEFAULT clock_timestamp(); -- in this state
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS paused_from text; -- the state to resume
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0; -- failures so far
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS step integer NOT NULL DEFAULT 0; -- of the cut-over
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS bytes_copied bigint NOT NULL DEFAULT 0;
ALTER TABLE plan_move ADD COLUMN IF NOT EXISTS detail text NOT NULL DEFAULT ''; -- why it is in this state
ALTER TABLE transition_event ADD COLUMN IF NOT EXISTS epoch bigint;

-- Bytes that may be copied per second in a pool. A copy reserves its time before it begins: free_at only grows, so that the
-- rate holds through restarts and for several processes together.
CREATE TABLE IF NOT EXISTS copy_throttle (
    pool_id text PRIMARY KEY REFERENCES pool,
    bytes_per_second double precision CHECK (bytes_per_second > 0), -- empty: as fast as it goes
    free_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What a node says to a move that takes from it or brings to it.
CREATE TABLE IF NOT EXISTS transfer_answer (
    pool_id text NOT NULL,
    plan_id text NOT NULL,
    position integer NOT NULL,
    role text NOT NULL CHECK (role IN ('source', 'target')),
    node_id text NOT NULL,
    accepted boolean NOT NULL,
    detail text NOT NULL DEFAULT '',
    answered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pool_id, plan_id, position, role),
    FOREIGN KEY (pool_id, plan_id, position) REFERENCES plan_move
);

-- What gateways saw when they sent a copy of some queries to a new replica; each gateway writes its own running totals.
CREATE TABLE IF NOT EXISTS shadow_report (
    pool_id text NOT NULL,
    since_epoch bigint NOT NULL, -- the epoch that began the shadowing
    shard_id integer NOT NULL,
    node_id text NOT NULL, -- of the new replica
    gateway_id text NOT NULL,
    compared bigint NOT NULL, -- both answered at one version
    mismatched bigint NOT NULL, -- of these, with other rows
    failed bigint NOT NULL, -- the new replica gave no answer
    skipped bigint NOT NULL, -- not comparable: at different versions
    old_latency jsonb NOT NULL, -- {bucket: count}, logarithmic buckets of 1 % width
    new_latency jsonb NOT NULL,
    example text NOT NULL DEFAULT '', -- a query that differed or failed
    PRIMARY KEY (pool_id, since_epoch, shard_id, node_id, gateway_id)
);

ALTER TABLE heartbeat ADD COLUMN IF NOT EXISTS capacity double precision;
ALTER TABLE heartbeat ADD COLUMN IF NOT EXISTS incarnation text NOT NULL DEFAULT ''; -- of the process that reports
ALTER TABLE pool ADD COLUMN IF NOT EXISTS desired_nodes integer; -- as the newest plan counts them

-- Since when a node has reported more load than its capacity, without a pause.
CREATE TABLE IF NOT EXISTS node_overload (
    pool_id text NOT NULL,
    node_id text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- when somebody last looked
    PRIMARY KEY (pool_id, node_id),
    FOREIGN KEY (pool_id, node_id) REFERENCES node
);

-- What a provisioner was asked to do. A repeat after a kill goes on under the same id, so that it is done once.
CREATE TABLE IF NOT EXISTS node_operation (
    operation_id text PRIMARY KEY,
    pool_id text NOT NULL,
    node_id text NOT NULL,
    verb text NOT NULL CHECK (verb IN ('add', 'drain', 'remove')),
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz, -- empty while it may have to be repeated
    detail text NOT NULL DEFAULT '',
    FOREIGN KEY (pool_id, node_id) REFERENCES node
);
CREATE UNIQUE INDEX IF NOT EXISTS node_operation_open ON node_operation (pool_id, node_id, verb) WHERE ended_at IS NULL;
