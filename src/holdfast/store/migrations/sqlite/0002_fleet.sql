-- +migrate Up

-- What a fleet of workers needs to know of an execution. Columns that the version before uses stay as they are,
-- so that a worker of that version can finish what it runs.
ALTER TABLE executions ADD COLUMN limit_key TEXT CHECK (octet_length(limit_key) BETWEEN 1 AND 255);
ALTER TABLE executions ADD COLUMN dedupe_key TEXT CHECK (octet_length(dedupe_key) BETWEEN 1 AND 255);
-- Why it waits though nothing is due: a slot (`slot:…`) or a worker that has its version (`version:…`).
ALTER TABLE executions ADD COLUMN blocked_on TEXT;
-- Whether a child outlives the end of its parent.
ALTER TABLE executions ADD COLUMN detached INTEGER NOT NULL DEFAULT 0 CHECK (detached IN (0, 1));

DROP INDEX executions_ready;
-- What may be claimed, in the order it is claimed: tenants take turns, priorities order within a tenant, and the
-- key, which begins with the time of creation, within a priority.
CREATE INDEX executions_ready ON executions (queue, class, tenant_id, priority DESC, key) WHERE status = 'ready';
-- Timers and delays, soonest first.
CREATE INDEX executions_due ON executions (due_at) WHERE status = 'waiting' AND due_at IS NOT NULL;
-- What a dead worker leaves behind.
CREATE INDEX executions_owned ON executions (owner) WHERE status = 'running';
CREATE INDEX executions_blocked ON executions (blocked_on, priority DESC, key) WHERE blocked_on IS NOT NULL;
CREATE UNIQUE INDEX executions_dedupe ON executions (tenant_id, queue, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND finished_at IS NULL;
-- Children that end with their parent.
CREATE INDEX executions_open_children ON executions (parent)
    WHERE parent IS NOT NULL AND finished_at IS NULL AND NOT detached;
-- Dead letters.
CREATE INDEX executions_failed ON executions (tenant_id, queue, key) WHERE status = 'failed';

-- What is said about a queue; a queue without a row has no limits. Queues belong to the fleet, not to a tenant.
CREATE TABLE queues (
    name TEXT NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 255),
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    concurrency INTEGER CHECK (concurrency > 0),
    key_concurrency INTEGER CHECK (key_concurrency > 0),
    tenant_concurrency INTEGER CHECK (tenant_concurrency > 0),
    rate_count INTEGER CHECK (rate_count > 0),
    rate_period_us INTEGER CHECK (rate_period_us > 0),
    rate_tokens REAL NOT NULL DEFAULT 0,
    rate_at INTEGER,
    created_at INTEGER NOT NULL,
    CHECK ((rate_count IS NULL) = (rate_period_us IS NULL))
) STRICT, WITHOUT ROWID;
-- Leased places: a limit of three is three rows. The holder is a running execution; nothing is ever counted.
CREATE TABLE slots (
    queue TEXT NOT NULL,
    scope TEXT NOT NULL,
    no INTEGER NOT NULL CHECK (no > 0),
    holder BLOB,
    PRIMARY KEY (queue, scope, no)
) STRICT, WITHOUT ROWID;
CREATE INDEX slots_held ON slots (holder) WHERE holder IS NOT NULL;

-- Signals that came before anybody waited for them.
CREATE TABLE signals (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    message BLOB NOT NULL,
    payload BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name, message)
) STRICT;
-- Steps that wait for a signal by name, written in the transaction that looks into its mailbox.
CREATE TABLE waits (
    execution BLOB NOT NULL,
    path TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (execution, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_by_name ON waits (tenant_id, name, created_at);
-- Decisions that people are asked for. `form` is a JSON Schema for the answer.
CREATE TABLE approvals (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 511),
    execution BLOB NOT NULL,
    path TEXT NOT NULL,
    title TEXT NOT NULL,
    form BLOB,
    status TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'withdrawn')),
    deadline INTEGER,
    decided_by TEXT,
    decided_at INTEGER,
    answer BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((status = 'pending') = (decided_at IS NULL))
) STRICT;
CREATE INDEX approvals_pending ON approvals (tenant_id, created_at) WHERE status = 'pending';
CREATE INDEX approvals_of ON approvals (execution);
CREATE INDEX approvals_open ON approvals (execution) WHERE status = 'pending';

-- Agents and the tasks they are given. A task is a step of an execution that an agent carries out, or stands by
-- itself. Capabilities are a JSON list, metadata a JSON object.
CREATE TABLE agents (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL DEFAULT 1,
    role TEXT,
    type TEXT,
    capabilities TEXT NOT NULL DEFAULT '[]',
    status TEXT NOT NULL CHECK (status IN ('idle', 'busy', 'offline')),
    metadata TEXT NOT NULL DEFAULT '{}',
    heartbeat_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX agents_listed ON agents (tenant_id, created_at, id);
CREATE INDEX agents_by_status ON agents (tenant_id, status, created_at, id);
CREATE TABLE tasks (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 511),
    revision INTEGER NOT NULL DEFAULT 1,
    execution BLOB,
    path TEXT,
    capability TEXT NOT NULL CHECK (octet_length(capability) BETWEEN 1 AND 255),
    type TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL
        CHECK (status IN ('blocked', 'pending', 'claimed', 'completed', 'failed', 'cancelled')),
    payload BLOB,
    result BLOB,
    error BLOB,
    agent TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 3,
    lease INTEGER NOT NULL,
    lease_until INTEGER,
    depends_on TEXT NOT NULL DEFAULT '[]',
    on_failed_dependency TEXT NOT NULL DEFAULT 'fail' CHECK (on_failed_dependency IN ('fail', 'cancel')),
    metadata TEXT NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    CHECK (status <> 'claimed' OR (agent IS NOT NULL AND lease_until IS NOT NULL)),
    CHECK ((execution IS NULL) = (path IS NULL)),
    CHECK (status <> 'blocked' OR depends_on <> '[]'),
    CHECK (execution IS NULL OR depends_on = '[]')
) STRICT;
CREATE INDEX tasks_pending ON tasks (tenant_id, capability, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX tasks_claimed ON tasks (lease_until) WHERE status = 'claimed';
CREATE INDEX tasks_open ON tasks (execution)
    WHERE execution IS NOT NULL AND status IN ('pending', 'claimed');
CREATE INDEX tasks_listed ON tasks (tenant_id, created_at, id);
CREATE INDEX tasks_by_status ON tasks (tenant_id, status, created_at, id);
-- `depends_on` the other way round: which tasks wait for one. Both tasks stand by themselves.
CREATE TABLE task_dependencies (
    tenant_id TEXT NOT NULL,
    task TEXT NOT NULL,
    dependency TEXT NOT NULL CHECK (dependency <> task),
    PRIMARY KEY (tenant_id, task, dependency),
    FOREIGN KEY (tenant_id, task) REFERENCES tasks (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, dependency) REFERENCES tasks (tenant_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_dependents ON task_dependencies (tenant_id, dependency, task);

-- What a worker serves, as JSON, for people and for `doctor`; it decides nothing.
ALTER TABLE workers ADD COLUMN details TEXT NOT NULL DEFAULT '{}';

-- Steps as their events tell them: of what was retried, the newest generation.
DROP VIEW steps;
CREATE VIEW steps AS
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
    FROM events
    WHERE path IS NOT NULL
) AS told
WHERE generation = newest
GROUP BY tenant_id, execution, path, generation;

-- +migrate Down
DROP VIEW steps;
CREATE VIEW steps AS
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
FROM events
WHERE path IS NOT NULL
GROUP BY tenant_id, execution, path, generation;
ALTER TABLE workers DROP COLUMN details;
DROP TABLE task_dependencies;
DROP TABLE tasks;
DROP TABLE agents;
DROP TABLE approvals;
DROP TABLE waits;
DROP TABLE signals;
DROP TABLE slots;
DROP TABLE queues;
DROP INDEX executions_failed;
DROP INDEX executions_open_children;
DROP INDEX executions_dedupe;
DROP INDEX executions_blocked;
DROP INDEX executions_owned;
DROP INDEX executions_due;
DROP INDEX executions_ready;
CREATE INDEX executions_ready ON executions (queue, class, priority DESC, due_at, key) WHERE status = 'ready';
ALTER TABLE executions DROP COLUMN detached;
ALTER TABLE executions DROP COLUMN blocked_on;
ALTER TABLE executions DROP COLUMN dedupe_key;
ALTER TABLE executions DROP COLUMN limit_key;
