-- +migrate Up

-- Registered versions as records: found by words, marked when they are deleted. Name, version and definition never
-- change, and a version that was deleted is not given to another definition. What was registered before has the
-- words of its name.
ALTER TABLE workflows RENAME TO workflows_before;
CREATE TABLE workflows (
    position INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    name TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    version TEXT NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    definition BLOB NOT NULL,
    description TEXT,
    author TEXT,
    tags TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('draft', 'active', 'deprecated', 'archived')),
    triggers TEXT NOT NULL,
    parameters TEXT NOT NULL,
    environment TEXT CHECK (octet_length(environment) BETWEEN 1 AND 255),
    words_first TEXT NOT NULL,
    words_rest TEXT NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name, version),
    FOREIGN KEY (tenant_id, definition) REFERENCES definitions (tenant_id, hash)
) STRICT;
CREATE INDEX workflows_listed ON workflows (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_by_status ON workflows (tenant_id, status, created_at, id) WHERE deleted_at IS NULL;
CREATE VIRTUAL TABLE workflows_words USING fts5(
    words_first, words_rest, content = 'workflows', content_rowid = 'position', tokenize = 'ascii'
);
-- +migrate StatementBegin
CREATE TRIGGER workflows_words_in AFTER INSERT ON workflows BEGIN
    INSERT INTO workflows_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER workflows_words_out AFTER DELETE ON workflows BEGIN
    INSERT INTO workflows_words (workflows_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER workflows_words_new AFTER UPDATE OF words_first, words_rest ON workflows BEGIN
    INSERT INTO workflows_words (workflows_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
    INSERT INTO workflows_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
INSERT INTO workflows (tenant_id, id, revision, created_at, updated_at, name, version, definition, description,
                       author, tags, status, triggers, parameters, words_first, words_rest)
SELECT tenant_id, lower(hex(randomblob(16))), 1, created_at, created_at, name, version, definition, description,
       author, tags, 'active', '[]', '{}', lower(replace(replace(replace(name, '.', ' '), '-', ' '), '_', ' ')), ''
FROM workflows_before;
DROP TABLE workflows_before;

-- Which version an environment runs: at most one at a time for each workflow, and those before it.
CREATE TABLE deployments (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    workflow TEXT NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version TEXT NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    environment TEXT NOT NULL CHECK (octet_length(environment) BETWEEN 1 AND 255),
    status TEXT NOT NULL CHECK (status IN ('active', 'superseded', 'rolled_back')),
    deployed_by TEXT,
    ended_at INTEGER,
    ended_by TEXT,
    PRIMARY KEY (tenant_id, id),
    CHECK ((status = 'active') = (ended_at IS NULL))
) STRICT;
CREATE UNIQUE INDEX deployments_active ON deployments (tenant_id, workflow, environment) WHERE status = 'active';
CREATE INDEX deployments_listed ON deployments (tenant_id, created_at, id);
CREATE INDEX deployments_of ON deployments (tenant_id, workflow, created_at, id);

-- When a workflow is to be started by itself. Executions name their schedule, and stay when it goes.
CREATE TABLE schedules (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    workflow TEXT NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version TEXT CHECK (octet_length(version) BETWEEN 1 AND 255),
    cron TEXT NOT NULL CHECK (octet_length(cron) BETWEEN 1 AND 255),
    zone TEXT NOT NULL CHECK (octet_length(zone) BETWEEN 1 AND 255),
    inputs TEXT NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    catch_up TEXT NOT NULL CHECK (catch_up IN ('skip', 'last', 'all')),
    overlap TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'allow')),
    queue TEXT NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    description TEXT,
    tags TEXT NOT NULL,
    next_run_at INTEGER,
    last_run_at INTEGER,
    last_result TEXT CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped')),
    last_execution TEXT,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX schedules_listed ON schedules (tenant_id, created_at, id);
CREATE INDEX schedules_of ON schedules (tenant_id, workflow, created_at, id);
-- What is due next.
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE enabled = 1 AND next_run_at IS NOT NULL;

-- What the caller said about an execution at its start, as JSON objects.
ALTER TABLE execution_details ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE execution_details ADD COLUMN context TEXT NOT NULL DEFAULT '{}';

-- +migrate Down
ALTER TABLE execution_details DROP COLUMN context;
ALTER TABLE execution_details DROP COLUMN metadata;
DROP TABLE schedules;
DROP TABLE deployments;
DROP TABLE workflows_words;
DROP TABLE workflows;
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
