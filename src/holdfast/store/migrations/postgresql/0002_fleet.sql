-- +migrate Up

-- What a fleet of workers needs to know of an execution. Types and columns that the version before uses stay as
-- they are, so that a worker of that version can finish what it runs.
ALTER TABLE {schema}.executions
    ADD COLUMN limit_key text COLLATE "C" CHECK (octet_length(limit_key) BETWEEN 1 AND 255),
    ADD COLUMN dedupe_key text COLLATE "C" CHECK (octet_length(dedupe_key) BETWEEN 1 AND 255),
    -- Why it waits though nothing is due: a slot (`slot:…`) or a worker that has its version (`version:…`).
    ADD COLUMN blocked_on text COLLATE "C",
    -- Whether a child outlives the end of its parent.
    ADD COLUMN detached boolean NOT NULL DEFAULT false;

DROP INDEX {schema}.executions_ready;
-- What may be claimed, in the order it is claimed: tenants take turns, priorities order within a tenant, and the
-- key, which begins with the time of creation, within a priority.
CREATE INDEX executions_ready ON {schema}.executions (queue, class, tenant_id, priority DESC, key)
    WHERE status = 'ready';
-- Timers and delays, soonest first.
CREATE INDEX executions_due ON {schema}.executions (due_at) WHERE status = 'waiting' AND due_at IS NOT NULL;
-- What a dead worker leaves behind.
CREATE INDEX executions_owned ON {schema}.executions (owner) WHERE status = 'running';
CREATE INDEX executions_blocked ON {schema}.executions (blocked_on, priority DESC, key)
    WHERE blocked_on IS NOT NULL;
CREATE UNIQUE INDEX executions_dedupe ON {schema}.executions (tenant_id, queue, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND finished_at IS NULL;
-- Children that end with their parent.
CREATE INDEX executions_open_children ON {schema}.executions (parent)
    WHERE parent IS NOT NULL AND finished_at IS NULL AND NOT detached;
-- Dead letters.
CREATE INDEX executions_failed ON {schema}.executions (tenant_id, queue, key) WHERE status = 'failed';

-- The shape of a new execution in a batch.
CREATE TYPE {schema}.flush_start AS (
    key bytea,
    tenant_id text,
    id text,
    workflow text,
    version text,
    definition bytea,
    fingerprint bytea,
    status text,
    queue text,
    class text,
    priority smallint,
    due_in_us bigint,
    owner bytea,
    epoch bigint,
    parent bytea,
    parent_path text,
    limit_key text,
    dedupe_key text,
    detached boolean
);

-- What is said about a queue; a queue without a row has no limits. Queues belong to the fleet, not to a tenant.
-- The row is locked by whoever claims from a queue that has limits.
CREATE TABLE {schema}.queues (
    name text COLLATE "C" PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 255),
    paused boolean NOT NULL DEFAULT false,
    concurrency integer CHECK (concurrency > 0),
    key_concurrency integer CHECK (key_concurrency > 0),
    tenant_concurrency integer CHECK (tenant_concurrency > 0),
    rate_count integer CHECK (rate_count > 0),
    rate_period_us bigint CHECK (rate_period_us > 0),
    rate_tokens double precision NOT NULL DEFAULT 0,
    rate_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT queues_rate_whole CHECK ((rate_count IS NULL) = (rate_period_us IS NULL))
);
-- Leased places: a limit of three is three rows. The holder is a running execution; nothing is ever counted.
CREATE TABLE {schema}.slots (
    queue text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    no integer NOT NULL CHECK (no > 0),
    holder bytea,
    PRIMARY KEY (queue, scope, no)
);
CREATE INDEX slots_held ON {schema}.slots (holder) WHERE holder IS NOT NULL;

-- Signals that came before anybody waited for them.
CREATE TABLE {schema}.signals (
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    message bytea NOT NULL,
    payload bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name, message)
);
-- Steps that wait for a signal by name, written under the lock of its mailbox.
CREATE TABLE {schema}.waits (
    execution bytea NOT NULL,
    path text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (execution, path)
);
CREATE INDEX waits_by_name ON {schema}.waits (tenant_id, name, created_at);
-- Decisions that people are asked for. `form` is a JSON Schema for the answer.
CREATE TABLE {schema}.approvals (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 511),
    execution bytea NOT NULL,
    path text COLLATE "C" NOT NULL,
    title text NOT NULL,
    form bytea,
    status text COLLATE "C" NOT NULL
        CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'withdrawn')),
    deadline timestamptz,
    decided_by text,
    decided_at timestamptz,
    answer bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT approvals_decided CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX approvals_pending ON {schema}.approvals (tenant_id, created_at) WHERE status = 'pending';
CREATE INDEX approvals_of ON {schema}.approvals (execution);
CREATE INDEX approvals_open ON {schema}.approvals (execution) WHERE status = 'pending';

-- Agents and the tasks they are given. A task is a step of an execution that an agent carries out.
CREATE TABLE {schema}.agents (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL DEFAULT 1,
    role text COLLATE "C",
    type text COLLATE "C",
    capabilities text[] NOT NULL DEFAULT '{}',
    status text COLLATE "C" NOT NULL CHECK (status IN ('idle', 'busy', 'offline')),
    metadata json NOT NULL DEFAULT '{}',
    heartbeat_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX agents_listed ON {schema}.agents (tenant_id, created_at, id);
CREATE INDEX agents_by_status ON {schema}.agents (tenant_id, status, created_at, id);
CREATE INDEX agents_able ON {schema}.agents USING gin (capabilities);
CREATE TABLE {schema}.tasks (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 511),
    revision bigint NOT NULL DEFAULT 1,
    execution bytea,
    path text COLLATE "C",
    capability text COLLATE "C" NOT NULL CHECK (octet_length(capability) BETWEEN 1 AND 255),
    type text COLLATE "C",
    priority bigint NOT NULL DEFAULT 0,
    status text COLLATE "C" NOT NULL
        CHECK (status IN ('blocked', 'pending', 'claimed', 'completed', 'failed', 'cancelled')),
    payload bytea,
    result bytea,
    error bytea,
    agent text COLLATE "C",
    epoch bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    max_attempts bigint NOT NULL DEFAULT 3,
    lease bigint NOT NULL,
    lease_until timestamptz,
    depends_on text[] NOT NULL DEFAULT '{}',
    on_failed_dependency text COLLATE "C" NOT NULL DEFAULT 'fail'
        CHECK (on_failed_dependency IN ('fail', 'cancel')),
    metadata json NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT tasks_claimed_by CHECK (status <> 'claimed' OR (agent IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT tasks_execution_whole CHECK ((execution IS NULL) = (path IS NULL)),
    CONSTRAINT tasks_blocked_by CHECK (status <> 'blocked' OR depends_on <> '{}'),
    CONSTRAINT tasks_depend_alone CHECK (execution IS NULL OR depends_on = '{}')
);
CREATE INDEX tasks_pending ON {schema}.tasks (tenant_id, capability, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX tasks_claimed ON {schema}.tasks (lease_until) WHERE status = 'claimed';
CREATE INDEX tasks_open ON {schema}.tasks (execution)
    WHERE execution IS NOT NULL AND status IN ('pending', 'claimed');
CREATE INDEX tasks_listed ON {schema}.tasks (tenant_id, created_at, id);
CREATE INDEX tasks_by_status ON {schema}.tasks (tenant_id, status, created_at, id);
-- `depends_on` the other way round: which tasks wait for one. Both tasks stand by themselves.
CREATE TABLE {schema}.task_dependencies (
    tenant_id text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    dependency text COLLATE "C" NOT NULL CHECK (dependency <> task),
    PRIMARY KEY (tenant_id, task, dependency),
    FOREIGN KEY (tenant_id, task) REFERENCES {schema}.tasks (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, dependency) REFERENCES {schema}.tasks (tenant_id, id)
);
CREATE INDEX task_dependents ON {schema}.task_dependencies (tenant_id, dependency, task);

-- What a worker serves, as JSON, for people and for `doctor`; it decides nothing.
ALTER TABLE {schema}.workers ADD COLUMN details text NOT NULL DEFAULT '{}';

-- Steps as their events tell them: of what was retried, the newest generation.
DROP VIEW {schema}.steps;
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
FROM (
    SELECT tenant_id, execution, path, generation, type, attempt, at, result, duration_us,
           max(generation) OVER (PARTITION BY tenant_id, execution, path) AS newest
    FROM {schema}.events
    WHERE path IS NOT NULL
) AS told
WHERE generation = newest
GROUP BY tenant_id, execution, path, generation;

-- +migrate Down
DROP VIEW {schema}.steps;
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
ALTER TABLE {schema}.workers DROP COLUMN details;
DROP TABLE {schema}.task_dependencies;
DROP TABLE {schema}.tasks;
DROP TABLE {schema}.agents;
DROP TABLE {schema}.approvals;
DROP TABLE {schema}.waits;
DROP TABLE {schema}.signals;
DROP TABLE {schema}.slots;
DROP TABLE {schema}.queues;
DROP TYPE {schema}.flush_start;
DROP INDEX {schema}.executions_failed;
DROP INDEX {schema}.executions_open_children;
DROP INDEX {schema}.executions_dedupe;
DROP INDEX {schema}.executions_blocked;
DROP INDEX {schema}.executions_owned;
DROP INDEX {schema}.executions_due;
DROP INDEX {schema}.executions_ready;
CREATE INDEX executions_ready ON {schema}.executions (queue, class, priority DESC, due_at, key)
    WHERE status = 'ready';
ALTER TABLE {schema}.executions
    DROP COLUMN detached, DROP COLUMN blocked_on, DROP COLUMN dedupe_key, DROP COLUMN limit_key;
