-- +migrate Up

-- Times are UTC with microseconds. Text compares byte by byte, trailing spaces included, by the collation that
-- `{binary}` names on this server; durations are microseconds. There are no partial indexes: where one is meant, a
-- stored column is NULL outside of the set, and an ordinary index over it has the set in one piece.

-- One row per execution: narrow, so that an id is unique for ever. No payload stands here, and nothing that
-- changes while an execution runs is indexed, except membership in a few sets.
CREATE TABLE executions (
    `key` VARBINARY(16) NOT NULL PRIMARY KEY CHECK (octet_length(`key`) = 16),
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    workflow VARCHAR(255) NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version VARCHAR(255) NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition VARBINARY(64) NOT NULL,
    fingerprint VARBINARY(64) NOT NULL,
    status VARCHAR(10) NOT NULL
        CHECK (status IN ('ready', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled')),
    queue VARCHAR(255) NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    class VARCHAR(3) NOT NULL DEFAULT 'io' CHECK (class IN ('cpu', 'io', 'gpu')),
    priority SMALLINT NOT NULL DEFAULT 0,
    due_at DATETIME(6),
    owner VARBINARY(16) CHECK (octet_length(owner) = 16),
    epoch BIGINT NOT NULL CHECK (epoch >= 0),
    recoveries INTEGER NOT NULL DEFAULT 0 CHECK (recoveries >= 0),
    wakes BIGINT NOT NULL DEFAULT 0 CHECK (wakes >= 0),
    parent VARBINARY(16),
    parent_path VARCHAR(2700),
    schedule VARCHAR(255),
    created_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6),
    open_tenant VARCHAR(255) AS (CASE WHEN finished_at IS NULL THEN tenant_id END) STORED,
    urgency INTEGER AS (-priority) STORED,
    UNIQUE INDEX executions_by_id (tenant_id, id),
    CONSTRAINT executions_owned_while_running CHECK ((status = 'running') = (owner IS NOT NULL)),
    CONSTRAINT executions_finished_when_final
        CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT executions_parent_whole CHECK ((parent IS NULL) = (parent_path IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- What may be claimed, in the order it is claimed. MariaDB hops from group to group only along an index that
-- ascends, and only when its leading columns are all that is read, with what a stored column is made of: hence
-- `urgency`, `priority` beside it, and `status` itself.
CREATE INDEX executions_ready ON executions (status, queue, class, urgency, priority, due_at, `key`);
-- What a second run of the same workflow and input looks for; also the set of all that has not ended.
CREATE INDEX executions_unfinished ON executions (open_tenant, fingerprint, `key`);
CREATE INDEX executions_by_workflow ON executions (tenant_id, workflow, `key`);
CREATE INDEX executions_children ON executions (parent);

-- Facts about an execution that are written once and only looked at by people. Tags are a JSON list.
CREATE TABLE execution_details (
    execution VARBINARY(16) NOT NULL PRIMARY KEY,
    tenant_id VARCHAR(255) NOT NULL,
    tags LONGTEXT NOT NULL DEFAULT ('[]'),
    trigger_source VARCHAR(255) NOT NULL,
    started_by LONGTEXT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Followers read in the order of `position`, which is given on insertion: a number can appear behind a larger one
-- that was committed first. The server does not tell what is under way, so whoever writes into `events` or
-- `stream_events` first reads the newest era under a shared lock,
--
--     SELECT era INTO @hf_era FROM log_eras ORDER BY era DESC LIMIT 1 LOCK IN SHARE MODE
--
-- and holds it until its commit. An era begins with the largest positions that are committed then: who holds it,
-- or a later one, is given larger ones. Readers begin a new era when there is something behind those of the newest,
-- then mark and remove old ones that nobody holds. So what is not larger than the positions of the oldest era that
-- is left is complete, and nothing can appear in it any more; and writers never wait for each other, nor for readers.
-- It rests on this: a commit can be seen before its locks are let go; a statement under READ COMMITTED sees all that
-- could be seen when it began; numbers given later are larger; the newest era is never removed.
CREATE TABLE log_eras (
    era BIGINT NOT NULL PRIMARY KEY,
    events_before BIGINT NOT NULL DEFAULT 0,
    stream_events_before BIGINT NOT NULL DEFAULT 0,
    marks BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
INSERT INTO log_eras (era) VALUES (1) ON DUPLICATE KEY UPDATE era = log_eras.era;

-- The log. A step's result is the event that carries its output: `result` rows are unique per path and
-- generation, by the digest of the path, since an index takes no text of that length.
CREATE TABLE events (
    execution VARBINARY(16) NOT NULL,
    seq BIGINT NOT NULL CHECK (seq > 0),
    tenant_id VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    type VARCHAR(32) NOT NULL CHECK (type IN (
        'execution.started', 'execution.suspended', 'execution.resumed', 'execution.completed',
        'execution.failed', 'execution.cancelled', 'lease.taken', 'step.started', 'step.completed',
        'step.failed', 'step.skipped', 'step.reset', 'attempt.failed', 'timer.started', 'timer.fired',
        'signal.received', 'child.started', 'child.completed', 'child.failed', 'control.cancel')),
    path VARCHAR(2700),
    generation INTEGER NOT NULL DEFAULT 0,
    ordinal INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    result BOOLEAN NOT NULL CHECK (result IN (0, 1)),
    at DATETIME(6) NOT NULL,
    duration_us BIGINT,
    input_digest VARBINARY(64),
    input LONGBLOB,
    payload LONGBLOB,
    payload_ref VARBINARY(64),
    position BIGINT NOT NULL AUTO_INCREMENT,
    result_digest VARBINARY(32) AS (CASE WHEN result THEN UNHEX(SHA2(path, 256)) END) STORED,
    PRIMARY KEY (execution, seq),
    UNIQUE INDEX events_results (execution, result_digest, generation),
    UNIQUE INDEX events_log_order (position),
    CONSTRAINT events_result_has_path CHECK (NOT result OR path IS NOT NULL)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Values too large for their row, named by the digest of their content; owned by one execution.
CREATE TABLE payloads (
    execution VARBINARY(16) NOT NULL,
    digest VARBINARY(64) NOT NULL,
    tenant_id VARCHAR(255) NOT NULL,
    body LONGBLOB NOT NULL,
    PRIMARY KEY (execution, digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Messages for an execution, written by everybody but its owner.
CREATE TABLE inbox (
    execution VARBINARY(16) NOT NULL,
    message VARBINARY(255) NOT NULL,
    tenant_id VARCHAR(255) NOT NULL,
    kind VARCHAR(8) NOT NULL CHECK (kind IN ('cancel', 'pause', 'signal', 'child')),
    name VARCHAR(3100),
    payload LONGBLOB,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (execution, message)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Where a signal sent by name and a wait on that name meet: both lock this row first.
CREATE TABLE mailboxes (
    tenant_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Users' own streams: the head is locked and advanced by every append.
CREATE TABLE streams (
    tenant_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    head BIGINT NOT NULL CHECK (head >= 0),
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE TABLE stream_events (
    tenant_id VARCHAR(255) NOT NULL,
    stream VARCHAR(255) NOT NULL,
    seq BIGINT NOT NULL CHECK (seq > 0),
    type VARCHAR(255) NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 255),
    payload LONGBLOB NOT NULL,
    at DATETIME(6) NOT NULL,
    position BIGINT NOT NULL AUTO_INCREMENT,
    PRIMARY KEY (tenant_id, stream, seq),
    UNIQUE INDEX stream_events_log_order (position)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Processes that own executions. A lease that has run out can not be renewed, only replaced.
CREATE TABLE workers (
    boot_id VARBINARY(16) NOT NULL PRIMARY KEY CHECK (octet_length(boot_id) = 16),
    program LONGTEXT NOT NULL,
    host LONGTEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at DATETIME(6) NOT NULL,
    lease_until DATETIME(6) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Definitions by content: what an execution started with is what it goes on with.
CREATE TABLE definitions (
    tenant_id VARCHAR(255) NOT NULL,
    hash VARBINARY(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    version VARCHAR(255) NOT NULL,
    kind VARCHAR(8) NOT NULL CHECK (kind IN ('yaml', 'python')),
    document LONGBLOB NOT NULL,
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, hash)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX definitions_by_name ON definitions (tenant_id, name, created_at);

-- Registered versions: immutable, unique by name and version. Tags are a JSON list.
CREATE TABLE workflows (
    tenant_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    version VARCHAR(255) NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition VARBINARY(64) NOT NULL,
    description LONGTEXT,
    author LONGTEXT,
    tags LONGTEXT NOT NULL DEFAULT ('[]'),
    created_at DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, name, version),
    CONSTRAINT workflows_defined FOREIGN KEY (tenant_id, definition) REFERENCES definitions (tenant_id, hash)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Steps as their events tell them, for people with a SQL prompt.
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

-- +migrate Down
DROP VIEW steps;
DROP TABLE workflows;
DROP TABLE definitions;
DROP TABLE workers;
DROP TABLE stream_events;
DROP TABLE streams;
DROP TABLE mailboxes;
DROP TABLE inbox;
DROP TABLE payloads;
DROP TABLE events;
DROP TABLE log_eras;
DROP TABLE execution_details;
DROP TABLE executions;
