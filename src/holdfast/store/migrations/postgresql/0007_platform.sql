-- +migrate Up

-- Registered versions as records: found by words, marked when they are deleted. Name, version and definition never
-- change, and a version that was deleted is not given to another definition. What was registered before has the
-- words of its name.
ALTER TABLE {schema}.workflows
    ADD COLUMN id text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text
        CHECK (octet_length(id) BETWEEN 1 AND 255),
    ADD COLUMN revision bigint NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz,
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN status text COLLATE "C" NOT NULL DEFAULT 'active'
        CHECK (status IN ('draft', 'active', 'deprecated', 'archived')),
    ADD COLUMN triggers json NOT NULL DEFAULT '[]',
    ADD COLUMN parameters json NOT NULL DEFAULT '{}',
    ADD COLUMN environment text COLLATE "C" CHECK (octet_length(environment) BETWEEN 1 AND 255),
    ADD COLUMN words_first text NOT NULL DEFAULT '',
    ADD COLUMN words_rest text NOT NULL DEFAULT '';
UPDATE {schema}.workflows SET updated_at = created_at, words_first = lower(translate(name, '.-_', '   '));
ALTER TABLE {schema}.workflows
    ALTER COLUMN updated_at SET NOT NULL,
    ALTER COLUMN id DROP DEFAULT,
    DROP CONSTRAINT workflows_pkey,
    ADD PRIMARY KEY (tenant_id, id),
    ADD CONSTRAINT workflows_named UNIQUE (tenant_id, name, version),
    ADD COLUMN search tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(string_to_array(words_first || ' ' || words_rest, ' '), ''))
    ) STORED;
CREATE INDEX workflows_listed ON {schema}.workflows (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_by_status ON {schema}.workflows (tenant_id, status, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX workflows_search ON {schema}.workflows USING gin (search);
CREATE INDEX workflows_tagged ON {schema}.workflows USING gin (tags);

-- Which version an environment runs: at most one at a time for each workflow, and those before it.
CREATE TABLE {schema}.deployments (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    workflow text COLLATE "C" NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version text COLLATE "C" NOT NULL CHECK (octet_length(version) BETWEEN 1 AND 255),
    environment text COLLATE "C" NOT NULL CHECK (octet_length(environment) BETWEEN 1 AND 255),
    status text COLLATE "C" NOT NULL CHECK (status IN ('active', 'superseded', 'rolled_back')),
    deployed_by text COLLATE "C",
    ended_at timestamptz,
    ended_by text COLLATE "C",
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT deployments_ended CHECK ((status = 'active') = (ended_at IS NULL))
);
CREATE UNIQUE INDEX deployments_active ON {schema}.deployments (tenant_id, workflow, environment) INCLUDE (version)
    WHERE status = 'active';
CREATE INDEX deployments_listed ON {schema}.deployments (tenant_id, created_at, id);
CREATE INDEX deployments_of ON {schema}.deployments (tenant_id, workflow, created_at, id);

-- When a workflow is to be started by itself. Executions name their schedule, and stay when it goes.
CREATE TABLE {schema}.schedules (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    workflow text COLLATE "C" NOT NULL CHECK (octet_length(workflow) BETWEEN 1 AND 255),
    version text COLLATE "C" CHECK (octet_length(version) BETWEEN 1 AND 255),
    cron text COLLATE "C" NOT NULL CHECK (octet_length(cron) BETWEEN 1 AND 255),
    zone text COLLATE "C" NOT NULL CHECK (octet_length(zone) BETWEEN 1 AND 255),
    inputs json NOT NULL,
    enabled boolean NOT NULL,
    catch_up text COLLATE "C" NOT NULL CHECK (catch_up IN ('skip', 'last', 'all')),
    overlap text COLLATE "C" NOT NULL CHECK (overlap IN ('skip', 'queue', 'allow')),
    queue text COLLATE "C" NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    description text,
    tags text[] NOT NULL,
    next_run_at timestamptz,
    last_run_at timestamptz,
    last_result text COLLATE "C" CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped')),
    last_execution text COLLATE "C",
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX schedules_listed ON {schema}.schedules (tenant_id, created_at, id);
CREATE INDEX schedules_of ON {schema}.schedules (tenant_id, workflow, created_at, id);
-- What is due next.
CREATE INDEX schedules_due ON {schema}.schedules (next_run_at) WHERE enabled AND next_run_at IS NOT NULL;

-- What the caller said about an execution at its start, as JSON objects.
ALTER TABLE {schema}.execution_details
    ADD COLUMN metadata json NOT NULL DEFAULT '{}',
    ADD COLUMN context json NOT NULL DEFAULT '{}';
ALTER TYPE {schema}.flush_effect ADD ATTRIBUTE metadata text, ADD ATTRIBUTE context text;

-- +migrate Down
ALTER TYPE {schema}.flush_effect DROP ATTRIBUTE context, DROP ATTRIBUTE metadata;
ALTER TABLE {schema}.execution_details DROP COLUMN context, DROP COLUMN metadata;
DROP TABLE {schema}.schedules;
DROP TABLE {schema}.deployments;
DROP INDEX {schema}.workflows_tagged;
ALTER TABLE {schema}.workflows DROP COLUMN search;
ALTER TABLE {schema}.workflows
    DROP CONSTRAINT workflows_named,
    DROP CONSTRAINT workflows_pkey,
    ADD PRIMARY KEY (tenant_id, name, version),
    DROP COLUMN words_rest, DROP COLUMN words_first, DROP COLUMN environment, DROP COLUMN parameters,
    DROP COLUMN triggers, DROP COLUMN status, DROP COLUMN deleted_at, DROP COLUMN updated_at,
    DROP COLUMN revision, DROP COLUMN id;
