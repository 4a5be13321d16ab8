-- +migrate Up

-- Incidents. Lists and JSON are texts; words_* are what full-text search looks into.
CREATE TABLE incidents (
    position INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    title TEXT NOT NULL CHECK (octet_length(title) > 0),
    description TEXT,
    severity TEXT NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    status TEXT NOT NULL CHECK (status IN ('open', 'acknowledged', 'mitigated', 'resolved', 'closed')),
    assignee TEXT CHECK (octet_length(assignee) BETWEEN 1 AND 255),
    blast_radius TEXT,
    affected_services TEXT NOT NULL,
    root_cause TEXT,
    remediation TEXT,
    tags TEXT NOT NULL,
    reopened INTEGER NOT NULL CHECK (reopened >= 0),
    detected_at INTEGER NOT NULL CHECK (detected_at > 0),
    acknowledged_at INTEGER,
    mitigated_at INTEGER,
    resolved_at INTEGER,
    closed_at INTEGER,
    words_first TEXT NOT NULL,
    words_rest TEXT NOT NULL,
    UNIQUE (tenant_id, id),
    CONSTRAINT incidents_acknowledged CHECK (status = 'open' OR acknowledged_at IS NOT NULL),
    CONSTRAINT incidents_mitigated
        CHECK ((status IN ('mitigated', 'resolved', 'closed')) = (mitigated_at IS NOT NULL)),
    CONSTRAINT incidents_resolved CHECK ((status IN ('resolved', 'closed')) = (resolved_at IS NOT NULL)),
    CONSTRAINT incidents_closed CHECK ((status = 'closed') = (closed_at IS NOT NULL))
) STRICT;
CREATE INDEX incidents_newest ON incidents (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX incidents_by_status ON incidents (tenant_id, status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX incidents_by_severity ON incidents (tenant_id, severity, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX incidents_by_assignee ON incidents (tenant_id, assignee, created_at, id)
    WHERE assignee IS NOT NULL AND deleted_at IS NULL;
CREATE VIRTUAL TABLE incidents_words USING fts5(
    words_first, words_rest, content = 'incidents', content_rowid = 'position', tokenize = 'ascii'
);
-- +migrate StatementBegin
CREATE TRIGGER incidents_words_in AFTER INSERT ON incidents BEGIN
    INSERT INTO incidents_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER incidents_words_out AFTER DELETE ON incidents BEGIN
    INSERT INTO incidents_words (incidents_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER incidents_words_new AFTER UPDATE OF words_first, words_rest ON incidents BEGIN
    INSERT INTO incidents_words (incidents_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
    INSERT INTO incidents_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd

-- What happened to an incident, numbered without gaps under the lock of its row.
CREATE TABLE incident_timeline (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    incident TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('opened', 'acknowledged', 'assigned', 'mitigated', 'resolved', 'closed',
                                       'reopened', 'note', 'severity', 'scope', 'runbook')),
    actor TEXT NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 255),
    text TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, incident) REFERENCES incidents (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
-- Also what tells the last number and its time, from the index alone.
CREATE UNIQUE INDEX incident_timeline_seq ON incident_timeline (tenant_id, incident, seq);

-- Runbooks, each with its published editions and its runs.
CREATE TABLE runbooks (
    position INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    name TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    title TEXT NOT NULL,
    description TEXT,
    trigger_conditions TEXT NOT NULL,
    tags TEXT NOT NULL,
    edition INTEGER NOT NULL CHECK (edition >= 0),
    execution_count INTEGER NOT NULL CHECK (execution_count >= 0),
    success_count INTEGER NOT NULL CHECK (success_count BETWEEN 0 AND execution_count),
    last_execution_at INTEGER,
    words_first TEXT NOT NULL,
    words_rest TEXT NOT NULL,
    UNIQUE (tenant_id, id),
    CONSTRAINT runbooks_executed CHECK ((execution_count = 0) = (last_execution_at IS NULL))
) STRICT;
-- A deleted runbook leaves its name to another one.
CREATE UNIQUE INDEX runbooks_named ON runbooks (tenant_id, name) WHERE deleted_at IS NULL;
CREATE INDEX runbooks_newest ON runbooks (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE VIRTUAL TABLE runbooks_words USING fts5(
    words_first, words_rest, content = 'runbooks', content_rowid = 'position', tokenize = 'ascii'
);
-- +migrate StatementBegin
CREATE TRIGGER runbooks_words_in AFTER INSERT ON runbooks BEGIN
    INSERT INTO runbooks_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER runbooks_words_out AFTER DELETE ON runbooks BEGIN
    INSERT INTO runbooks_words (runbooks_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER runbooks_words_new AFTER UPDATE OF words_first, words_rest ON runbooks BEGIN
    INSERT INTO runbooks_words (runbooks_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
    INSERT INTO runbooks_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd

CREATE TABLE runbook_versions (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    runbook TEXT NOT NULL,
    edition INTEGER NOT NULL CHECK (edition > 0),
    definition TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 16),
    author TEXT,
    note TEXT,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, runbook) REFERENCES runbooks (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX runbook_versions_edition ON runbook_versions (tenant_id, runbook, edition);
-- +migrate StatementBegin
CREATE TRIGGER runbook_versions_kept BEFORE UPDATE ON runbook_versions
WHEN (old.tenant_id, old.runbook, old.edition, old.definition, old.hash)
     IS NOT (new.tenant_id, new.runbook, new.edition, new.definition, new.hash)
BEGIN
    SELECT raise(ABORT, 'an edition of a runbook never changes');
END;
-- +migrate StatementEnd

-- Runs outlive the incident they were started for.
CREATE TABLE runbook_runs (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    runbook TEXT NOT NULL,
    edition INTEGER NOT NULL CHECK (edition > 0),
    execution TEXT NOT NULL CHECK (octet_length(execution) BETWEEN 1 AND 255),
    queue TEXT NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    incident TEXT,
    started_by TEXT,
    inputs BLOB,
    started_at INTEGER,
    outcome TEXT CHECK (outcome IN ('completed', 'failed', 'cancelled', 'lost')),
    finished_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT runbook_runs_ended CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CONSTRAINT runbook_runs_began CHECK (outcome IS NULL OR started_at IS NOT NULL),
    FOREIGN KEY (tenant_id, runbook) REFERENCES runbooks (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX runbook_runs_execution ON runbook_runs (tenant_id, execution);
CREATE INDEX runbook_runs_newest ON runbook_runs (tenant_id, created_at, id);
CREATE INDEX runbook_runs_of ON runbook_runs (tenant_id, runbook, created_at, id);
CREATE INDEX runbook_runs_for ON runbook_runs (tenant_id, incident, created_at, id) WHERE incident IS NOT NULL;
-- What is still to be settled.
CREATE INDEX runbook_runs_open ON runbook_runs (tenant_id, id) WHERE outcome IS NULL;

-- +migrate Down
DROP TABLE runbook_runs;
DROP TABLE runbook_versions;
DROP TABLE runbooks_words;
DROP TABLE runbooks;
DROP TABLE incident_timeline;
DROP TABLE incidents_words;
DROP TABLE incidents;
