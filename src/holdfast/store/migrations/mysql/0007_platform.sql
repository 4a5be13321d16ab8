-- +migrate Up

-- Registered versions as records: found by words, marked when they are deleted. Name, version and definition never
-- change, and a version that was deleted is not given to another definition. What was registered before has the
-- words of its name.
ALTER TABLE workflows
    ADD COLUMN id VARCHAR(255),
    ADD COLUMN revision BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN updated_at DATETIME(6),
    ADD COLUMN deleted_at DATETIME(6),
    ADD COLUMN status VARCHAR(10) NOT NULL DEFAULT 'active',
    ADD COLUMN triggers LONGTEXT NOT NULL DEFAULT ('[]'),
    ADD COLUMN parameters LONGTEXT NOT NULL DEFAULT ('{}'),
    ADD COLUMN environment VARCHAR(255),
    ADD COLUMN words_first LONGTEXT NOT NULL DEFAULT (''),
    ADD COLUMN words_rest LONGTEXT NOT NULL DEFAULT ('');
UPDATE workflows
SET id = UUID(), updated_at = created_at,
    words_first = CONCAT('hf', REPLACE(LOWER(REPLACE(REPLACE(REPLACE(name, '.', ' '), '-', ' '), '_', ' ')), ' ', ' hf'))
WHERE id IS NULL;
ALTER TABLE workflows
    MODIFY COLUMN id VARCHAR(255) NOT NULL,
    MODIFY COLUMN updated_at DATETIME(6) NOT NULL,
    DROP PRIMARY KEY,
    ADD PRIMARY KEY (tenant_id, id),
    ADD CONSTRAINT workflows_named UNIQUE (tenant_id, name, version),
    ADD CONSTRAINT workflows_id CHECK (octet_length(id) BETWEEN 1 AND 255),
    ADD CONSTRAINT workflows_status CHECK (status IN ('draft', 'active', 'deprecated', 'archived')),
    ADD CONSTRAINT workflows_environment CHECK (octet_length(environment) BETWEEN 1 AND 255);
CREATE INDEX workflows_listed ON workflows (tenant_id, created_at, id);
CREATE INDEX workflows_by_status ON workflows (tenant_id, status, created_at, id);
CREATE FULLTEXT INDEX workflows_first ON workflows (words_first);
CREATE FULLTEXT INDEX workflows_words ON workflows (words_first, words_rest);

-- Which version an environment runs: at most one at a time for each workflow, and those before it.
CREATE TABLE deployments (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    workflow VARCHAR(255) NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version VARCHAR(255) NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    environment VARCHAR(255) NOT NULL CHECK (octet_length(environment) BETWEEN 1 AND 255),
    status VARCHAR(11) NOT NULL CHECK (status IN ('active', 'superseded', 'rolled_back')),
    deployed_by VARCHAR(255),
    ended_at DATETIME(6),
    ended_by VARCHAR(255),
    active_workflow VARCHAR(255) AS (CASE WHEN status = 'active' THEN workflow END) VIRTUAL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE KEY deployments_active (tenant_id, environment, active_workflow),
    CONSTRAINT deployments_ended CHECK ((status = 'active') = (ended_at IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX deployments_listed ON deployments (tenant_id, created_at, id);
CREATE INDEX deployments_of ON deployments (tenant_id, workflow, created_at);

-- When a workflow is to be started by itself. Executions name their schedule, and stay when it goes.
CREATE TABLE schedules (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    workflow VARCHAR(255) NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version VARCHAR(255) CHECK (octet_length(version) BETWEEN 1 AND 255),
    cron VARCHAR(255) NOT NULL CHECK (octet_length(cron) BETWEEN 1 AND 255),
    zone VARCHAR(255) NOT NULL CHECK (octet_length(zone) BETWEEN 1 AND 255),
    inputs LONGTEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    catch_up VARCHAR(4) NOT NULL CHECK (catch_up IN ('skip', 'last', 'all')),
    overlap VARCHAR(5) NOT NULL CHECK (overlap IN ('skip', 'queue', 'allow')),
    queue VARCHAR(255) NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    description LONGTEXT,
    tags LONGTEXT NOT NULL,
    next_run_at DATETIME(6),
    last_run_at DATETIME(6),
    last_result VARCHAR(9) CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped')),
    last_execution VARCHAR(255),
    due_at DATETIME(6) AS (CASE WHEN enabled THEN next_run_at END) VIRTUAL,
    PRIMARY KEY (tenant_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX schedules_listed ON schedules (tenant_id, created_at, id);
CREATE INDEX schedules_of ON schedules (tenant_id, workflow, created_at);
-- What is due next.
CREATE INDEX schedules_due ON schedules (due_at);

-- What the caller said about an execution at its start, as JSON objects.
ALTER TABLE execution_details
    ADD COLUMN metadata LONGTEXT NOT NULL DEFAULT ('{}'),
    ADD COLUMN context LONGTEXT NOT NULL DEFAULT ('{}');

-- +migrate Down
ALTER TABLE execution_details DROP COLUMN context, DROP COLUMN metadata;
DROP TABLE schedules;
DROP TABLE deployments;
DROP INDEX workflows_words ON workflows;
DROP INDEX workflows_first ON workflows;
DROP INDEX workflows_by_status ON workflows;
DROP INDEX workflows_listed ON workflows;
ALTER TABLE workflows
    DROP CONSTRAINT workflows_environment,
    DROP CONSTRAINT workflows_status,
    DROP CONSTRAINT workflows_id,
    DROP PRIMARY KEY,
    ADD PRIMARY KEY (tenant_id, name, version),
    DROP INDEX workflows_named,
    DROP COLUMN words_rest, DROP COLUMN words_first, DROP COLUMN environment,
    DROP COLUMN parameters, DROP COLUMN triggers, DROP COLUMN status, DROP COLUMN deleted_at,
    DROP COLUMN updated_at, DROP COLUMN revision, DROP COLUMN id;
