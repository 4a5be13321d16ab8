-- +migrate Up

-- One row per execution: narrow, unpartitioned, so that an id is unique for ever. No payload stands here,
-- and nothing that changes while an execution runs is indexed, except membership in the two partial sets.
CREATE TABLE {schema}.executions (
    key bytea PRIMARY KEY CHECK (octet_length(key) = 16),
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    workflow text COLLATE "C" NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version text COLLATE "C" NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition bytea NOT NULL,
    fingerprint bytea NOT NULL,
    status text COLLATE "C" NOT NULL
        CHECK (status IN ('ready', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled')),
    queue text COLLATE "C" NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    class text COLLATE "C" NOT NULL DEFAULT 'io' CHECK (class IN ('cpu', 'io', 'gpu')),
    priority smallint NOT NULL DEFAULT 0,
    due_at timestamptz,
    owner bytea CHECK (octet_length(owner) = 16),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    recoveries integer NOT NULL DEFAULT 0 CHECK (recoveries >= 0),
    wakes bigint NOT NULL DEFAULT 0 CHECK (wakes >= 0),
    parent bytea,
    parent_path text COLLATE "C",
    schedule text COLLATE "C",
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (tenant_id, id),
    CONSTRAINT executions_owned_while_running CHECK ((status = 'running') = (owner IS NOT NULL)),
    CONSTRAINT executions_finished_when_final
        CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT executions_parent_whole CHECK ((parent IS NULL) = (parent_path IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What may be claimed, in the order it is claimed.
CREATE INDEX executions_ready ON {schema}.executions (queue, class, priority DESC, due_at, key)
    WHERE status = 'ready';
-- What a second run of the same workflow and input looks for; also the set of all that has not ended.
CREATE INDEX executions_unfinished ON {schema}.executions (tenant_id, fingerprint, key)
    WHERE finished_at IS NULL;
CREATE INDEX executions_by_workflow ON {schema}.executions (tenant_id, workflow, key);
CREATE INDEX executions_children ON {schema}.executions (parent) WHERE parent IS NOT NULL;

-- Facts about an execution that are written once and only looked at by people.
CREATE TABLE {schema}.execution_details (
    execution bytea NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    trigger_source text COLLATE "C" NOT NULL,
    started_by text,
    PRIMARY KEY (execution)
) PARTITION BY RANGE (execution);

-- The log. A step's result is the event that carries its output: `result` rows are unique per path and
-- generation. `xid` lets a follower read below a mark that no running transaction can still write under.
CREATE TABLE {schema}.events (
    execution bytea NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    tenant_id text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    type text COLLATE "C" NOT NULL CHECK (type IN (
        'execution.started', 'execution.suspended', 'execution.resumed', 'execution.completed',
        'execution.failed', 'execution.cancelled', 'lease.taken', 'step.started', 'step.completed',
        'step.failed', 'step.skipped', 'step.reset', 'attempt.failed', 'timer.started', 'timer.fired',
        'signal.received', 'child.started', 'child.completed', 'child.failed', 'control.cancel')),
    path text COLLATE "C",
    generation integer NOT NULL DEFAULT 0,
    ordinal integer,
    attempt integer NOT NULL DEFAULT 0,
    result boolean NOT NULL,
    at timestamptz NOT NULL,
    duration_us bigint,
    input_digest bytea,
    input bytea,
    payload bytea,
    payload_ref bytea,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (execution, seq),
    CONSTRAINT events_result_has_path CHECK (NOT result OR path IS NOT NULL)
) PARTITION BY RANGE (execution);

CREATE UNIQUE INDEX events_results ON {schema}.events (execution, path, generation) WHERE result;
CREATE INDEX events_log_order ON {schema}.events (xid);

-- The shapes in which a batch reaches the server: one array of these costs the client a fraction of one array for
-- each column.
CREATE TYPE {schema}.flush_execution AS (
    key bytea,
    tenant_id text,
    id text,
    workflow text,
    version text,
    definition bytea,
    fingerprint bytea,
    status text,
    queue text,
    priority smallint,
    owner bytea,
    epoch bigint,
    parent bytea,
    parent_path text
);
CREATE TYPE {schema}.flush_effect AS (
    execution bytea,
    seq bigint,
    new_status text,
    final boolean,
    due_in_us bigint,
    expect_wakes bigint,
    take bytea,
    post_target bytea,
    post_message bytea,
    post_kind text,
    post_name text,
    post_payload bytea,
    digest bytea,
    body bytea,
    tags text,
    trigger_source text,
    started_by text
);
CREATE TYPE {schema}.flush_event AS (
    execution bytea,
    seq bigint,
    epoch bigint,
    type text,
    path text,
    generation integer,
    ordinal integer,
    attempt integer,
    result boolean,
    duration_us bigint,
    input_digest bytea,
    input bytea,
    payload bytea,
    payload_ref bytea
);

-- Values too large for their row, named by the digest of their content; owned by one execution.
CREATE TABLE {schema}.payloads (
    execution bytea NOT NULL,
    digest bytea NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (execution, digest)
) PARTITION BY RANGE (execution);
-- Bodies come compressed; letting the server try again only costs time.
ALTER TABLE {schema}.payloads ALTER COLUMN body SET STORAGE EXTERNAL;

-- Messages for an execution, written by everybody but its owner.
CREATE TABLE {schema}.inbox (
    execution bytea NOT NULL,
    message bytea NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('cancel', 'pause', 'signal', 'child')),
    name text COLLATE "C",
    payload bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (execution, message)
);

-- Where a signal sent by name and a wait on that name meet: both lock this row first.
CREATE TABLE {schema}.mailboxes (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

-- Users' own streams: the head is locked and advanced by every append.
CREATE TABLE {schema}.streams (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    head bigint NOT NULL CHECK (head >= 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
CREATE TABLE {schema}.stream_events (
    tenant_id text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    type text COLLATE "C" NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 255),
    payload bytea NOT NULL,
    at timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, stream, seq, at)
) PARTITION BY RANGE (at);
CREATE INDEX stream_events_log_order ON {schema}.stream_events (xid);

-- Processes that own executions. A lease that has run out can not be renewed, only replaced.
CREATE TABLE {schema}.workers (
    boot_id bytea PRIMARY KEY CHECK (octet_length(boot_id) = 16),
    program text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
);

-- Definitions by content: what an execution started with is what it goes on with.
CREATE TABLE {schema}.definitions (
    tenant_id text COLLATE "C" NOT NULL,
    hash bytea NOT NULL,
    name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('yaml', 'python')),
    document bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, hash)
);
CREATE INDEX definitions_by_name ON {schema}.definitions (tenant_id, name, created_at);

-- Registered versions: immutable, unique by name and version.
CREATE TABLE {schema}.workflows (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    version text COLLATE "C" NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition bytea NOT NULL,
    description text,
    author text,
    tags text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name, version),
    FOREIGN KEY (tenant_id, definition) REFERENCES {schema}.definitions (tenant_id, hash)
);

-- Steps as their events tell them, for people with a SQL prompt.
CREATE VIEW {schema}.steps WITH (security_invoker = true) AS
SELECT tenant_id,
       execution,
       path,
       generation,
       coalesce(
           max(CASE type WHEN 'step.completed' THEN 'completed' WHEN 'child.completed' THEN 'completed'
                         WHEN 'timer.fired' THEN 'completed' WHEN 'signal.received' THEN 'completed'
                         WHEN 'step.failed' THEN 'failed' WHEN 'child.failed' THEN 'failed'
                         WHEN 'step.skipped' THEN 'skipped' END),
           'running') AS status,
       max(attempt) AS attempts,
       min(at) AS first_at,
       max(at) FILTER (WHERE result) AS finished_at,
       max(duration_us) FILTER (WHERE result) AS duration_us
FROM {schema}.events
WHERE path IS NOT NULL
GROUP BY tenant_id, execution, path, generation;

-- +migrate StatementBegin
-- The smallest key that an execution created at `moment` or later can have: a UUIDv7 begins with milliseconds.
CREATE FUNCTION {schema}.key_at(moment timestamptz) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT substring(int8send((extract(epoch FROM moment) * 1000)::bigint) FROM 3 FOR 6)
           || '\x00000000000000000000'::bytea
    $$;
-- +migrate StatementEnd

-- +migrate StatementBegin
-- Makes the monthly partitions of this month and of `ahead` months after it; returns how many were new.
-- A partition is built beside its parent and attached, which does not block readers or writers.
CREATE FUNCTION {schema}.ensure_partitions(ahead integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    parent text;
    first timestamptz;
    child text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('holdfast partitions {schema}', 0));
    FOR month IN 0..ahead LOOP
        first := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => month)) AT TIME ZONE 'UTC';
        FOREACH parent IN ARRAY ARRAY['events', 'payloads', 'execution_details', 'stream_events'] LOOP
            child := parent || to_char(first AT TIME ZONE 'UTC', '"_"YYYY"_"MM');
            CONTINUE WHEN to_regclass('{schema}.' || quote_ident(child)) IS NOT NULL;
            EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
                           child, parent);
            IF parent = 'stream_events' THEN
                EXECUTE format('ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
                               parent, child, first, first + interval '1 month');
            ELSE
                EXECUTE format('ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
                               parent, child, {schema}.key_at(first),
                               {schema}.key_at((first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
            END IF;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
    $$;
-- +migrate StatementEnd

-- A row that finds no month lands here instead of being refused; the months are made ahead so that none does.
CREATE TABLE {schema}.events_default PARTITION OF {schema}.events DEFAULT;
CREATE TABLE {schema}.payloads_default PARTITION OF {schema}.payloads DEFAULT;
CREATE TABLE {schema}.execution_details_default PARTITION OF {schema}.execution_details DEFAULT;
CREATE TABLE {schema}.stream_events_default PARTITION OF {schema}.stream_events DEFAULT;
SELECT {schema}.ensure_partitions(3);

-- +migrate Down
DROP VIEW {schema}.steps;
DROP FUNCTION {schema}.ensure_partitions(integer);
DROP FUNCTION {schema}.key_at(timestamptz);
DROP TABLE {schema}.workflows;
DROP TABLE {schema}.definitions;
DROP TABLE {schema}.workers;
DROP TABLE {schema}.stream_events;
DROP TABLE {schema}.streams;
DROP TABLE {schema}.mailboxes;
DROP TABLE {schema}.inbox;
DROP TABLE {schema}.payloads;
DROP TABLE {schema}.events;
DROP TYPE {schema}.flush_event;
DROP TYPE {schema}.flush_effect;
DROP TYPE {schema}.flush_execution;
DROP TABLE {schema}.execution_details;
DROP TABLE {schema}.executions;
