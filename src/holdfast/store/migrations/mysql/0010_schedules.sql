-- +migrate Up

-- Schedules that fire: how far they may be late or early, from when to when, and the time that is planned next.
-- `planned_revision` is the revision that `next_run_at` was computed for: another one is planned anew.
CREATE TABLE schedules_next (
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
    catch_up VARCHAR(9) NOT NULL CHECK (catch_up IN ('skip', 'latest', 'all')),
    overlap VARCHAR(9) NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    queue VARCHAR(255) NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 255),
    description LONGTEXT,
    tags LONGTEXT NOT NULL,
    next_run_at DATETIME(6),
    last_run_at DATETIME(6),
    last_result VARCHAR(9) CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped', 'lost')),
    last_execution VARCHAR(255),
    jitter BIGINT NOT NULL DEFAULT 0 CHECK (jitter >= 0),
    starts_at DATETIME(6),
    ends_at DATETIME(6),
    catch_up_max BIGINT NOT NULL DEFAULT 100 CHECK (catch_up_max BETWEEN 1 AND 1000),
    next_nominal_at DATETIME(6),
    planned_revision BIGINT NOT NULL DEFAULT 0,
    due_at DATETIME(6) AS (CASE WHEN enabled THEN next_run_at END) VIRTUAL,
    unplanned VARCHAR(255) AS (CASE WHEN planned_revision <> revision THEN id END) VIRTUAL,
    PRIMARY KEY (tenant_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
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
CREATE INDEX schedules_of ON schedules (tenant_id, workflow, created_at);
CREATE INDEX schedules_due ON schedules (tenant_id, due_at);
CREATE INDEX schedules_unplanned ON schedules (tenant_id, unplanned);

-- What became of each time of a schedule: one row, whoever was there to see it come. They stay when the schedule goes.
CREATE TABLE schedule_firings (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    schedule VARCHAR(255) NOT NULL CHECK (octet_length(schedule) BETWEEN 1 AND 255),
    nominal_at DATETIME(6) NOT NULL,
    cause VARCHAR(9) NOT NULL CHECK (cause IN ('time', 'catch_up', 'trigger')),
    state VARCHAR(9) NOT NULL
        CHECK (state IN ('queued', 'started', 'completed', 'failed', 'cancelled', 'skipped', 'lost')),
    execution VARCHAR(255),
    reason LONGTEXT,
    attended_at DATETIME(6),
    finished_at DATETIME(6),
    open_schedule VARCHAR(255) AS (CASE WHEN state IN ('queued', 'started') THEN schedule END) VIRTUAL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((finished_at IS NULL) = (state IN ('queued', 'started')))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE UNIQUE INDEX schedule_firings_once ON schedule_firings (tenant_id, schedule, nominal_at);
CREATE INDEX schedule_firings_listed ON schedule_firings (tenant_id, created_at, id);
CREATE INDEX schedule_firings_of ON schedule_firings (tenant_id, schedule, created_at);
CREATE INDEX schedule_firings_open ON schedule_firings (tenant_id, open_schedule);

-- +migrate Down
DROP TABLE schedule_firings;
CREATE TABLE schedules_next (
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
CREATE INDEX schedules_of ON schedules (tenant_id, workflow, created_at);
CREATE INDEX schedules_due ON schedules (due_at);
