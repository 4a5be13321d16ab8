-- +migrate Up

-- Incidents. Lists and JSON are texts; words_* are what full-text search looks into.
CREATE TABLE incidents (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    title LONGTEXT NOT NULL CHECK (octet_length(title) > 0),
    description LONGTEXT,
    severity VARCHAR(8) NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    status VARCHAR(12) NOT NULL
        CHECK (status IN ('open', 'acknowledged', 'mitigated', 'resolved', 'closed')),
    assignee VARCHAR(255) CHECK (octet_length(assignee) BETWEEN 1 AND 255),
    blast_radius LONGTEXT,
    affected_services LONGTEXT NOT NULL,
    root_cause LONGTEXT,
    remediation LONGTEXT,
    tags LONGTEXT NOT NULL,
    reopened BIGINT NOT NULL CHECK (reopened >= 0),
    detected_at DATETIME(6) NOT NULL CHECK (detected_at > '1970-01-01 00:00:00'),
    acknowledged_at DATETIME(6),
    mitigated_at DATETIME(6),
    resolved_at DATETIME(6),
    closed_at DATETIME(6),
    words_first LONGTEXT NOT NULL,
    words_rest LONGTEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT incidents_acknowledged CHECK (status = 'open' OR acknowledged_at IS NOT NULL),
    CONSTRAINT incidents_mitigated
        CHECK ((status IN ('mitigated', 'resolved', 'closed')) = (mitigated_at IS NOT NULL)),
    CONSTRAINT incidents_resolved CHECK ((status IN ('resolved', 'closed')) = (resolved_at IS NOT NULL)),
    CONSTRAINT incidents_closed CHECK ((status = 'closed') = (closed_at IS NOT NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
-- Those that are deleted are marked in the index, since there are no partial ones.
CREATE INDEX incidents_newest ON incidents (tenant_id, deleted_at, created_at, id);
CREATE INDEX incidents_by_status ON incidents (tenant_id, status, deleted_at, created_at, id);
CREATE INDEX incidents_by_severity ON incidents (tenant_id, severity, deleted_at, created_at, id);
CREATE INDEX incidents_by_assignee ON incidents (tenant_id, assignee, created_at, id);
CREATE FULLTEXT INDEX incidents_first ON incidents (words_first);
CREATE FULLTEXT INDEX incidents_words ON incidents (words_first, words_rest);

-- What happened to an incident, numbered without gaps under the lock of its row.
CREATE TABLE incident_timeline (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    incident VARCHAR(255) NOT NULL,
    seq BIGINT NOT NULL CHECK (seq > 0),
    `at` DATETIME(6) NOT NULL,
    kind VARCHAR(12) NOT NULL
        CHECK (kind IN ('opened', 'acknowledged', 'assigned', 'mitigated', 'resolved', 'closed', 'reopened',
                        'note', 'severity', 'scope', 'runbook')),
    actor VARCHAR(255) NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 255),
    `text` LONGTEXT NOT NULL,
    data LONGTEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    -- Also what tells the last number.
    UNIQUE INDEX incident_timeline_seq (tenant_id, incident, seq),
    CONSTRAINT incident_timeline_of FOREIGN KEY (tenant_id, incident) REFERENCES incidents (tenant_id, id)
        ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- Runbooks, each with its published editions and its runs.
CREATE TABLE runbooks (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    name VARCHAR(200) NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    title LONGTEXT NOT NULL,
    description LONGTEXT,
    trigger_conditions LONGTEXT NOT NULL,
    tags LONGTEXT NOT NULL,
    edition BIGINT NOT NULL CHECK (edition >= 0),
    execution_count BIGINT NOT NULL CHECK (execution_count >= 0),
    success_count BIGINT NOT NULL,
    last_execution_at DATETIME(6),
    words_first LONGTEXT NOT NULL,
    words_rest LONGTEXT NOT NULL,
    -- A deleted runbook leaves its name to another one.
    live_name VARCHAR(200) AS (CASE WHEN deleted_at IS NULL THEN name END) STORED,
    PRIMARY KEY (tenant_id, id),
    UNIQUE INDEX runbooks_named (tenant_id, live_name),
    CONSTRAINT runbooks_succeeded CHECK (success_count BETWEEN 0 AND execution_count),
    CONSTRAINT runbooks_executed CHECK ((execution_count = 0) = (last_execution_at IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX runbooks_by_name ON runbooks (tenant_id, name);
CREATE INDEX runbooks_newest ON runbooks (tenant_id, deleted_at, created_at, id);
CREATE FULLTEXT INDEX runbooks_first ON runbooks (words_first);
CREATE FULLTEXT INDEX runbooks_words ON runbooks (words_first, words_rest);

CREATE TABLE runbook_versions (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    runbook VARCHAR(255) NOT NULL,
    edition BIGINT NOT NULL CHECK (edition > 0),
    definition LONGTEXT NOT NULL,
    hash VARBINARY(16) NOT NULL CHECK (octet_length(hash) = 16),
    author VARCHAR(255),
    note LONGTEXT,
    PRIMARY KEY (tenant_id, id),
    UNIQUE INDEX runbook_versions_edition (tenant_id, runbook, edition),
    CONSTRAINT runbook_versions_of FOREIGN KEY (tenant_id, runbook) REFERENCES runbooks (tenant_id, id)
        ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
-- +migrate StatementBegin
CREATE TRIGGER runbook_versions_kept BEFORE UPDATE ON runbook_versions FOR EACH ROW
IF NOT (old.tenant_id = new.tenant_id AND old.runbook = new.runbook AND old.edition = new.edition
        AND old.definition = new.definition AND old.hash = new.hash) THEN
    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'an edition of a runbook never changes';
END IF;
-- +migrate StatementEnd

-- Runs outlive the incident they were started for.
CREATE TABLE runbook_runs (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    runbook VARCHAR(255) NOT NULL,
    edition BIGINT NOT NULL CHECK (edition > 0),
    execution VARCHAR(255) NOT NULL CHECK (octet_length(execution) BETWEEN 1 AND 255),
    queue VARCHAR(255) NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    incident VARCHAR(255),
    started_by VARCHAR(255),
    inputs LONGBLOB,
    started_at DATETIME(6),
    outcome VARCHAR(9) CHECK (outcome IN ('completed', 'failed', 'cancelled', 'lost')),
    finished_at DATETIME(6),
    PRIMARY KEY (tenant_id, id),
    UNIQUE INDEX runbook_runs_execution (tenant_id, execution),
    CONSTRAINT runbook_runs_ended CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CONSTRAINT runbook_runs_began CHECK (outcome IS NULL OR started_at IS NOT NULL),
    CONSTRAINT runbook_runs_whose FOREIGN KEY (tenant_id, runbook) REFERENCES runbooks (tenant_id, id)
        ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX runbook_runs_newest ON runbook_runs (tenant_id, created_at, id);
CREATE INDEX runbook_runs_of ON runbook_runs (tenant_id, runbook, created_at, id);
CREATE INDEX runbook_runs_for ON runbook_runs (tenant_id, incident, created_at, id);
-- What is still to be settled comes first.
CREATE INDEX runbook_runs_open ON runbook_runs (tenant_id, outcome, id);

-- +migrate Down
DROP TABLE runbook_runs;
DROP TABLE runbook_versions;
DROP TABLE runbooks;
DROP TABLE incident_timeline;
DROP TABLE incidents;
