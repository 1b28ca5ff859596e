-- How many rows each landing hour brought, for the check of an hour's volume against the same hour of past weeks.
CREATE TABLE landing_hour (
    pool_id text NOT NULL,
    table_name text NOT NULL,
    hour timestamptz NOT NULL,
    row_count bigint NOT NULL CHECK (row_count >= 0), -- read and not refused
    PRIMARY KEY (pool_id, table_name, hour)
);
