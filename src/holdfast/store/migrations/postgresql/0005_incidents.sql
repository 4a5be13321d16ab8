-- +migrate Up

-- Incidents. words_* are what full-text search looks into.
CREATE TABLE {schema}.incidents (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    title text COLLATE "C" NOT NULL CHECK (octet_length(title) > 0),
    description text,
    severity text COLLATE "C" NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    status text COLLATE "C" NOT NULL
        CHECK (status IN ('open', 'acknowledged', 'mitigated', 'resolved', 'closed')),
    assignee text COLLATE "C" CHECK (octet_length(assignee) BETWEEN 1 AND 255),
    blast_radius text,
    affected_services text[] NOT NULL,
    root_cause text,
    remediation text,
    tags text[] NOT NULL,
    reopened bigint NOT NULL CHECK (reopened >= 0),
    detected_at timestamptz NOT NULL CHECK (detected_at > '1970-01-01 00:00:00+00'),
    acknowledged_at timestamptz,
    mitigated_at timestamptz,
    resolved_at timestamptz,
    closed_at timestamptz,
    words_first text NOT NULL,
    words_rest text NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(string_to_array(words_first || ' ' || words_rest, ' '), ''))
    ) STORED,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT incidents_acknowledged CHECK (status = 'open' OR acknowledged_at IS NOT NULL),
    CONSTRAINT incidents_mitigated
        CHECK ((status IN ('mitigated', 'resolved', 'closed')) = (mitigated_at IS NOT NULL)),
    CONSTRAINT incidents_resolved CHECK ((status IN ('resolved', 'closed')) = (resolved_at IS NOT NULL)),
    CONSTRAINT incidents_closed CHECK ((status = 'closed') = (closed_at IS NOT NULL))
);
CREATE INDEX incidents_newest ON {schema}.incidents (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX incidents_by_status ON {schema}.incidents (tenant_id, status, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX incidents_by_severity ON {schema}.incidents (tenant_id, severity, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX incidents_by_assignee ON {schema}.incidents (tenant_id, assignee, created_at, id)
    WHERE assignee IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX incidents_services ON {schema}.incidents USING gin (affected_services);
CREATE INDEX incidents_tags ON {schema}.incidents USING gin (tags);
CREATE INDEX incidents_search ON {schema}.incidents USING gin (search);

-- What happened to an incident, numbered without gaps under the lock of its row.
CREATE TABLE {schema}.incident_timeline (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    incident text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    at timestamptz NOT NULL,
    kind text COLLATE "C" NOT NULL
        CHECK (kind IN ('opened', 'acknowledged', 'assigned', 'mitigated', 'resolved', 'closed', 'reopened',
                        'note', 'severity', 'scope', 'runbook')),
    actor text COLLATE "C" NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 255),
    text text NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, incident) REFERENCES {schema}.incidents (tenant_id, id) ON DELETE CASCADE
);
-- Also what tells the last number and its time, from the index alone.
CREATE UNIQUE INDEX incident_timeline_seq ON {schema}.incident_timeline (tenant_id, incident, seq)
    INCLUDE (at);

-- Runbooks, each with its published editions and its runs.
CREATE TABLE {schema}.runbooks (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    title text NOT NULL,
    description text,
    trigger_conditions json NOT NULL,
    tags text[] NOT NULL,
    edition bigint NOT NULL CHECK (edition >= 0),
    execution_count bigint NOT NULL CHECK (execution_count >= 0),
    success_count bigint NOT NULL,
    last_execution_at timestamptz,
    words_first text NOT NULL,
    words_rest text NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(string_to_array(words_first || ' ' || words_rest, ' '), ''))
    ) STORED,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT runbooks_succeeded CHECK (success_count BETWEEN 0 AND execution_count),
    CONSTRAINT runbooks_executed CHECK ((execution_count = 0) = (last_execution_at IS NULL))
);
-- A deleted runbook leaves its name to another one.
CREATE UNIQUE INDEX runbooks_named ON {schema}.runbooks (tenant_id, name) WHERE deleted_at IS NULL;
CREATE INDEX runbooks_newest ON {schema}.runbooks (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX runbooks_tags ON {schema}.runbooks USING gin (tags);
CREATE INDEX runbooks_search ON {schema}.runbooks USING gin (search);

CREATE TABLE {schema}.runbook_versions (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    runbook text COLLATE "C" NOT NULL,
    edition bigint NOT NULL CHECK (edition > 0),
    definition text NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 16),
    author text COLLATE "C",
    note text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, runbook) REFERENCES {schema}.runbooks (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX runbook_versions_edition ON {schema}.runbook_versions (tenant_id, runbook, edition);
-- +migrate StatementBegin
CREATE FUNCTION {schema}.refuse_edition_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'an edition of a runbook never changes' USING ERRCODE = 'restrict_violation';
END
$$;
-- +migrate StatementEnd
CREATE TRIGGER runbook_versions_kept BEFORE UPDATE ON {schema}.runbook_versions FOR EACH ROW
    WHEN ((old.tenant_id, old.runbook, old.edition, old.definition, old.hash)
          IS DISTINCT FROM (new.tenant_id, new.runbook, new.edition, new.definition, new.hash))
    EXECUTE FUNCTION {schema}.refuse_edition_change();

-- Runs outlive the incident they were started for.
CREATE TABLE {schema}.runbook_runs (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    runbook text COLLATE "C" NOT NULL,
    edition bigint NOT NULL CHECK (edition > 0),
    execution text COLLATE "C" NOT NULL CHECK (octet_length(execution) BETWEEN 1 AND 255),
    queue text COLLATE "C" NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    incident text COLLATE "C",
    started_by text COLLATE "C",
    inputs bytea,
    started_at timestamptz,
    outcome text COLLATE "C" CHECK (outcome IN ('completed', 'failed', 'cancelled', 'lost')),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT runbook_runs_ended CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CONSTRAINT runbook_runs_began CHECK (outcome IS NULL OR started_at IS NOT NULL),
    FOREIGN KEY (tenant_id, runbook) REFERENCES {schema}.runbooks (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX runbook_runs_execution ON {schema}.runbook_runs (tenant_id, execution);
CREATE INDEX runbook_runs_newest ON {schema}.runbook_runs (tenant_id, created_at, id);
CREATE INDEX runbook_runs_of ON {schema}.runbook_runs (tenant_id, runbook, created_at, id);
CREATE INDEX runbook_runs_for ON {schema}.runbook_runs (tenant_id, incident, created_at, id)
    WHERE incident IS NOT NULL;
-- What is still to be settled.
CREATE INDEX runbook_runs_open ON {schema}.runbook_runs (tenant_id, id) WHERE outcome IS NULL;

-- +migrate Down
DROP TABLE {schema}.runbook_runs;
DROP TABLE {schema}.runbook_versions;
DROP FUNCTION {schema}.refuse_edition_change();
DROP TABLE {schema}.runbooks;
DROP TABLE {schema}.incident_timeline;
DROP TABLE {schema}.incidents;
