-- +migrate Up

-- Times are integer microseconds since 1970 in UTC. Text compares byte by byte (BINARY) by default.

-- One row per execution: narrow, so that an id is unique for ever. No payload stands here, and nothing that
-- changes while an execution runs is indexed, except membership in the two partial sets.
CREATE TABLE executions (
    key BLOB NOT NULL PRIMARY KEY CHECK (length(key) = 16),
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    workflow TEXT NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version TEXT NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('ready', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled')),
    queue TEXT NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    class TEXT NOT NULL DEFAULT 'io' CHECK (class IN ('cpu', 'io', 'gpu')),
    priority INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    owner BLOB CHECK (length(owner) = 16),
    epoch INTEGER NOT NULL CHECK (epoch >= 0),
    recoveries INTEGER NOT NULL DEFAULT 0 CHECK (recoveries >= 0),
    wakes INTEGER NOT NULL DEFAULT 0 CHECK (wakes >= 0),
    parent BLOB,
    parent_path TEXT,
    schedule TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    UNIQUE (tenant_id, id),
    CHECK ((status = 'running') = (owner IS NOT NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((parent IS NULL) = (parent_path IS NULL))
) STRICT;

-- What may be claimed, in the order it is claimed.
CREATE INDEX executions_ready ON executions (queue, class, priority DESC, due_at, key) WHERE status = 'ready';
-- What a second run of the same workflow and input looks for; also the set of all that has not ended.
CREATE INDEX executions_unfinished ON executions (tenant_id, fingerprint, key) WHERE finished_at IS NULL;
CREATE INDEX executions_by_workflow ON executions (tenant_id, workflow, key);
CREATE INDEX executions_children ON executions (parent) WHERE parent IS NOT NULL;

-- Facts about an execution that are written once and only looked at by people. Tags are a JSON list.
CREATE TABLE execution_details (
    execution BLOB NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '[]',
    trigger_source TEXT NOT NULL,
    started_by TEXT
) STRICT, WITHOUT ROWID;

-- The log. A step's result is the event that carries its output: `result` rows are unique per path and
-- generation. `position` is the order of commits, since there is one writer: followers page by it.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    execution BLOB NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    tenant_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    type TEXT NOT NULL CHECK (type IN (
        'execution.started', 'execution.suspended', 'execution.resumed', 'execution.completed',
        'execution.failed', 'execution.cancelled', 'lease.taken', 'step.started', 'step.completed',
        'step.failed', 'step.skipped', 'step.reset', 'attempt.failed', 'timer.started', 'timer.fired',
        'signal.received', 'child.started', 'child.completed', 'child.failed', 'control.cancel')),
    path TEXT,
    generation INTEGER NOT NULL DEFAULT 0,
    ordinal INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    result INTEGER NOT NULL CHECK (result IN (0, 1)),
    at INTEGER NOT NULL,
    duration_us INTEGER,
    input_digest BLOB,
    input BLOB,
    payload BLOB,
    payload_ref BLOB,
    UNIQUE (execution, seq),
    CHECK (NOT result OR path IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX events_results ON events (execution, path, generation) WHERE result;

-- Values too large for their row, named by the digest of their content; owned by one execution.
CREATE TABLE payloads (
    execution BLOB NOT NULL,
    digest BLOB NOT NULL,
    tenant_id TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (execution, digest)
) STRICT;

-- Messages for an execution, written by everybody but its owner.
CREATE TABLE inbox (
    execution BLOB NOT NULL,
    message BLOB NOT NULL,
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('cancel', 'pause', 'signal', 'child')),
    name TEXT,
    payload BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (execution, message)
) STRICT;

-- Where a signal sent by name and a wait on that name meet: both write this row first.
CREATE TABLE mailboxes (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;

-- Users' own streams: the head is advanced by every append.
CREATE TABLE streams (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    head INTEGER NOT NULL CHECK (head >= 0),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE stream_events (
    position INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    type TEXT NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 255),
    payload BLOB NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (tenant_id, stream, seq)
) STRICT;

-- Processes that own executions. A lease that has run out can not be renewed, only replaced.
CREATE TABLE workers (
    boot_id BLOB NOT NULL PRIMARY KEY CHECK (length(boot_id) = 16),
    program TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Definitions by content: what an execution started with is what it goes on with.
CREATE TABLE definitions (
    tenant_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('yaml', 'python')),
    document BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hash)
) STRICT;
CREATE INDEX definitions_by_name ON definitions (tenant_id, name, created_at);

-- Registered versions: immutable, unique by name and version. Tags are a JSON list.
CREATE TABLE workflows (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    version TEXT NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition BLOB NOT NULL,
    description TEXT,
    author TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name, version),
    FOREIGN KEY (tenant_id, definition) REFERENCES definitions (tenant_id, hash)
) STRICT;

-- Steps as their events tell them, for people with a SQL prompt.
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
DROP TABLE execution_details;
DROP TABLE executions;
