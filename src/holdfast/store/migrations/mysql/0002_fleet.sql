-- +migrate Up

-- What a fleet of workers needs to know of an execution. Columns that the version before uses stay as they are,
-- so that a worker of that version can finish what it runs.
ALTER TABLE executions ADD COLUMN limit_key VARCHAR(255) CHECK (octet_length(limit_key) BETWEEN 1 AND 255);
ALTER TABLE executions ADD COLUMN dedupe_key VARCHAR(255) CHECK (octet_length(dedupe_key) BETWEEN 1 AND 255);
-- Why it waits though nothing is due: a slot (`slot:…`) or a worker that has its version (`version:…`).
ALTER TABLE executions ADD COLUMN blocked_on VARCHAR(750);
-- Whether a child outlives the end of its parent.
ALTER TABLE executions ADD COLUMN detached BOOLEAN NOT NULL DEFAULT 0 CHECK (detached IN (0, 1));
-- The sets that the indexes below have in one piece.
ALTER TABLE executions
    ADD COLUMN timer_at DATETIME(6) AS (CASE WHEN status = 'waiting' THEN due_at END) STORED,
    ADD COLUMN open_dedupe_key VARCHAR(255) AS (CASE WHEN finished_at IS NULL THEN dedupe_key END) STORED,
    ADD COLUMN open_parent VARBINARY(16)
        AS (CASE WHEN finished_at IS NULL AND NOT detached THEN parent END) STORED,
    ADD COLUMN failed_queue VARCHAR(255) AS (CASE WHEN status = 'failed' THEN queue END) STORED;

DROP INDEX executions_ready ON executions;
-- What may be claimed, in the order it is claimed: tenants take turns, priorities order within a tenant, and the
-- key, which begins with the time of creation, within a priority.
CREATE INDEX executions_ready ON executions (status, queue, class, tenant_id, urgency, priority, `key`);
-- Timers and delays, soonest first.
CREATE INDEX executions_due ON executions (timer_at);
-- What a dead worker leaves behind: only running executions have an owner.
CREATE INDEX executions_owned ON executions (owner);
CREATE INDEX executions_blocked ON executions (blocked_on, urgency, `key`);
CREATE UNIQUE INDEX executions_dedupe ON executions (tenant_id, queue, open_dedupe_key);
-- Children that end with their parent.
CREATE INDEX executions_open_children ON executions (open_parent);
-- Dead letters.
CREATE INDEX executions_failed ON executions (tenant_id, failed_queue, `key`);

-- What is said about a queue; a queue without a row has no limits. Queues belong to the fleet, not to a tenant.
-- The row is locked by whoever claims from a queue that has limits.
CREATE TABLE queues (
    name VARCHAR(255) NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 255),
    paused BOOLEAN NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    concurrency INTEGER CHECK (concurrency > 0),
    key_concurrency INTEGER CHECK (key_concurrency > 0),
    tenant_concurrency INTEGER CHECK (tenant_concurrency > 0),
    rate_count INTEGER CHECK (rate_count > 0),
    rate_period_us BIGINT CHECK (rate_period_us > 0),
    rate_tokens DOUBLE NOT NULL DEFAULT 0,
    rate_at DATETIME(6),
    created_at DATETIME(6) NOT NULL,
    CONSTRAINT queues_rate_whole CHECK ((rate_count IS NULL) = (rate_period_us IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
-- Leased places: a limit of three is three rows. The holder is a running execution; nothing is ever counted.
CREATE TABLE slots (
    queue VARCHAR(255) NOT NULL,
    scope VARCHAR(508) NOT NULL,
    no INTEGER NOT NULL CHECK (no > 0),
    holder VARBINARY(16),
    PRIMARY KEY (queue, scope, no)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX slots_held ON slots (holder);

-- Signals that came before anybody waited for them.
CREATE TABLE signals (
    tenant_id VARCHAR(255) NOT NULL,
    name VARCHAR(320) NOT NULL,
    message VARBINARY(255) NOT NULL,
    payload LONGBLOB,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, name, message)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
-- Steps that wait for a signal by name, written under the lock of its mailbox. A step is known by the digest of
-- its path, since an index takes no text of that length.
CREATE TABLE waits (
    execution VARBINARY(16) NOT NULL,
    path VARCHAR(2700) NOT NULL,
    path_digest VARBINARY(32) NOT NULL DEFAULT (UNHEX(SHA2(path, 256))),
    tenant_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (execution, path_digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX waits_by_name ON waits (tenant_id, name, created_at, execution, path_digest);
-- Decisions that people are asked for. `form` is a JSON Schema for the answer.
CREATE TABLE approvals (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(511) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 511),
    execution VARBINARY(16) NOT NULL,
    path VARCHAR(2700) NOT NULL,
    title LONGTEXT NOT NULL,
    form LONGBLOB,
    status VARCHAR(10) NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'withdrawn')),
    deadline DATETIME(6),
    decided_by LONGTEXT,
    decided_at DATETIME(6),
    answer LONGBLOB,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT approvals_decided CHECK ((status = 'pending') = (decided_at IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX approvals_pending ON approvals (tenant_id, status, created_at);
CREATE INDEX approvals_of ON approvals (execution);
CREATE INDEX approvals_open ON approvals (status, execution);

-- Agents and the tasks they are given. A task is a step of an execution that an agent carries out, or stands by
-- itself. Capabilities are a JSON list, metadata a JSON object.
CREATE TABLE agents (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL DEFAULT 1,
    role VARCHAR(255),
    type VARCHAR(255),
    capabilities LONGTEXT NOT NULL DEFAULT ('[]'),
    status VARCHAR(8) NOT NULL CHECK (status IN ('idle', 'busy', 'offline')),
    metadata LONGTEXT NOT NULL DEFAULT ('{}'),
    heartbeat_at DATETIME(6),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX agents_listed ON agents (tenant_id, created_at, id);
CREATE INDEX agents_by_status ON agents (tenant_id, status, created_at, id);
CREATE TABLE tasks (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(511) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 511),
    revision BIGINT NOT NULL DEFAULT 1,
    execution VARBINARY(16),
    path VARCHAR(2700),
    capability VARCHAR(255) NOT NULL CHECK (octet_length(capability) BETWEEN 1 AND 255),
    type VARCHAR(255),
    priority BIGINT NOT NULL DEFAULT 0,
    status VARCHAR(10) NOT NULL
        CHECK (status IN ('blocked', 'pending', 'claimed', 'completed', 'failed', 'cancelled')),
    payload LONGBLOB,
    result LONGBLOB,
    error LONGBLOB,
    agent VARCHAR(255),
    epoch BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL DEFAULT 3,
    lease BIGINT NOT NULL,
    lease_until DATETIME(6),
    depends_on LONGTEXT NOT NULL DEFAULT ('[]'),
    on_failed_dependency VARCHAR(10) NOT NULL DEFAULT 'fail' CHECK (on_failed_dependency IN ('fail', 'cancel')),
    metadata LONGTEXT NOT NULL DEFAULT ('{}'),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6),
    pending_capability VARCHAR(255) AS (CASE WHEN status = 'pending' THEN capability END) STORED,
    claimed_until DATETIME(6) AS (CASE WHEN status = 'claimed' THEN lease_until END) STORED,
    open_execution VARBINARY(16) AS (CASE WHEN status IN ('pending', 'claimed') THEN execution END) STORED,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT tasks_claimed_by CHECK (status <> 'claimed' OR (agent IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT tasks_execution_whole CHECK ((execution IS NULL) = (path IS NULL)),
    CONSTRAINT tasks_blocked_by CHECK (status <> 'blocked' OR depends_on <> '[]'),
    CONSTRAINT tasks_depend_alone CHECK (execution IS NULL OR depends_on = '[]')
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX tasks_pending ON tasks (tenant_id, pending_capability, priority DESC, created_at);
CREATE INDEX tasks_claimed ON tasks (claimed_until);
CREATE INDEX tasks_open ON tasks (open_execution);
-- The id follows in both, as a part of the primary key that every index holds.
CREATE INDEX tasks_listed ON tasks (tenant_id, created_at);
CREATE INDEX tasks_by_status ON tasks (tenant_id, status, created_at);
-- `depends_on` the other way round: which tasks wait for one. Both tasks stand by themselves.
CREATE TABLE task_dependencies (
    tenant_id VARCHAR(255) NOT NULL,
    task VARCHAR(255) NOT NULL,
    dependency VARCHAR(255) NOT NULL,
    PRIMARY KEY (tenant_id, task, dependency),
    KEY task_dependents (tenant_id, dependency, task),
    CONSTRAINT task_depends FOREIGN KEY (tenant_id, task) REFERENCES tasks (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT task_depended FOREIGN KEY (tenant_id, dependency) REFERENCES tasks (tenant_id, id),
    CONSTRAINT task_dependency_other CHECK (dependency <> task)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- What a worker serves, as JSON, for people and for `doctor`; it decides nothing.
ALTER TABLE workers ADD COLUMN details LONGTEXT NOT NULL DEFAULT ('{}');

-- Steps as their events tell them: of what was retried, the newest generation.
DROP VIEW steps;
CREATE SQL SECURITY INVOKER VIEW steps AS
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
       max(CASE WHEN result THEN at END) AS finished_at,
       max(CASE WHEN result THEN duration_us END) AS duration_us
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
CREATE SQL SECURITY INVOKER VIEW steps AS
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
       max(CASE WHEN result THEN at END) AS finished_at,
       max(CASE WHEN result THEN duration_us END) AS duration_us
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
DROP INDEX executions_failed ON executions;
DROP INDEX executions_open_children ON executions;
DROP INDEX executions_dedupe ON executions;
DROP INDEX executions_blocked ON executions;
DROP INDEX executions_owned ON executions;
DROP INDEX executions_due ON executions;
DROP INDEX executions_ready ON executions;
CREATE INDEX executions_ready ON executions (status, queue, class, urgency, priority, due_at, `key`);
ALTER TABLE executions
    DROP COLUMN failed_queue, DROP COLUMN open_parent, DROP COLUMN open_dedupe_key, DROP COLUMN timer_at;
ALTER TABLE executions DROP COLUMN detached;
ALTER TABLE executions DROP COLUMN blocked_on;
ALTER TABLE executions DROP COLUMN dedupe_key;
ALTER TABLE executions DROP COLUMN limit_key;
