-- +migrate Up

-- Schedules that fire: how far they may be late or early, from when to when, and the time that is planned next.
-- `planned_revision` is the revision that `next_run_at` was computed for: another one is planned anew.
CREATE TABLE schedules_next (
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
    catch_up TEXT NOT NULL CHECK (catch_up IN ('skip', 'latest', 'all')),
    overlap TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    queue TEXT NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    description TEXT,
    tags TEXT NOT NULL,
    next_run_at INTEGER,
    last_run_at INTEGER,
    last_result TEXT CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped', 'lost')),
    last_execution TEXT,
    jitter INTEGER NOT NULL DEFAULT 0 CHECK (jitter >= 0),
    starts_at INTEGER,
    ends_at INTEGER,
    catch_up_max INTEGER NOT NULL DEFAULT 100 CHECK (catch_up_max BETWEEN 1 AND 1000),
    next_nominal_at INTEGER,
    planned_revision INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id)
) STRICT;
INSERT INTO schedules_next (
    tenant_id, id, revision, created_at, updated_at, workflow, version, cron, zone, inputs, enabled, catch_up, overlap,
    queue, description, tags, last_run_at, last_result, last_execution
)
SELECT
    tenant_id, id, revision, created_at, updated_at, workflow, version, cron, zone, inputs, enabled,
    CASE catch_up WHEN 'last' THEN 'latest' ELSE catch_up END, overlap,
    queue, description, tags, last_run_at, last_result, last_execution
FROM schedules;
DROP TABLE schedules;
ALTER TABLE schedules_next RENAME TO schedules;
CREATE INDEX schedules_listed ON schedules (tenant_id, created_at, id);
CREATE INDEX schedules_of ON schedules (tenant_id, workflow, created_at, id);
CREATE INDEX schedules_due ON schedules (tenant_id, next_run_at) WHERE enabled = 1 AND next_run_at IS NOT NULL;
CREATE INDEX schedules_unplanned ON schedules (tenant_id, id) WHERE planned_revision <> revision;

-- What became of each time of a schedule: one row, whoever was there to see it come. They stay when the schedule goes.
CREATE TABLE schedule_firings (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    schedule TEXT NOT NULL CHECK (octet_length(schedule) BETWEEN 1 AND 255),
    nominal_at INTEGER NOT NULL,
    cause TEXT NOT NULL CHECK (cause IN ('time', 'catch_up', 'trigger')),
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'started', 'completed', 'failed', 'cancelled', 'skipped', 'lost')),
    execution TEXT,
    reason TEXT,
    attended_at INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    CHECK ((finished_at IS NULL) = (state IN ('queued', 'started')))
) STRICT;
CREATE UNIQUE INDEX schedule_firings_once ON schedule_firings (tenant_id, schedule, nominal_at);
CREATE INDEX schedule_firings_listed ON schedule_firings (tenant_id, created_at, id);
CREATE INDEX schedule_firings_of ON schedule_firings (tenant_id, schedule, created_at, id);
CREATE INDEX schedule_firings_open ON schedule_firings (tenant_id, schedule)
    WHERE state IN ('queued', 'started');

-- +migrate Down
DROP TABLE schedule_firings;
CREATE TABLE schedules_next (
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
INSERT INTO schedules_next (
    tenant_id, id, revision, created_at, updated_at, workflow, version, cron, zone, inputs, enabled, catch_up, overlap,
    queue, description, tags, last_run_at, last_result, last_execution
)
SELECT
    tenant_id, id, revision, created_at, updated_at, workflow, version, cron, zone, inputs, enabled,
    CASE catch_up WHEN 'latest' THEN 'last' ELSE catch_up END, CASE overlap WHEN 'cancel' THEN 'queue' ELSE overlap END,
    queue, description, tags, last_run_at,
    CASE last_result WHEN 'lost' THEN 'failed' ELSE last_result END, last_execution
FROM schedules;
DROP TABLE schedules;
ALTER TABLE schedules_next RENAME TO schedules;
CREATE INDEX schedules_listed ON schedules (tenant_id, created_at, id);
CREATE INDEX schedules_of ON schedules (tenant_id, workflow, created_at, id);
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE enabled = 1 AND next_run_at IS NOT NULL;
