-- +migrate Up

-- Schedules that fire: how far they may be late or early, from when to when, and the time that is planned next.
-- `planned_revision` is the revision that `next_run_at` was computed for: another one is planned anew.
ALTER TABLE {schema}.schedules
    DROP CONSTRAINT schedules_catch_up_check,
    DROP CONSTRAINT schedules_overlap_check,
    DROP CONSTRAINT schedules_last_result_check;
UPDATE {schema}.schedules SET catch_up = 'latest' WHERE catch_up = 'last';
UPDATE {schema}.schedules SET next_run_at = NULL WHERE next_run_at IS NOT NULL;
ALTER TABLE {schema}.schedules
    ADD CONSTRAINT schedules_catch_up_check CHECK (catch_up IN ('skip', 'latest', 'all')),
    ADD CONSTRAINT schedules_overlap_check CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    ADD CONSTRAINT schedules_last_result_check
        CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped', 'lost')),
    ADD COLUMN jitter bigint NOT NULL DEFAULT 0 CHECK (jitter >= 0),
    ADD COLUMN starts_at timestamptz,
    ADD COLUMN ends_at timestamptz,
    ADD COLUMN catch_up_max bigint NOT NULL DEFAULT 100 CHECK (catch_up_max BETWEEN 1 AND 1000),
    ADD COLUMN next_nominal_at timestamptz,
    ADD COLUMN planned_revision bigint NOT NULL DEFAULT 0;
DROP INDEX {schema}.schedules_due;
CREATE INDEX schedules_due ON {schema}.schedules (tenant_id, next_run_at) WHERE enabled AND next_run_at IS NOT NULL;
CREATE INDEX schedules_unplanned ON {schema}.schedules (tenant_id, id) WHERE planned_revision <> revision;

-- What became of each time of a schedule: one row, whoever was there to see it come. They stay when the schedule goes.
CREATE TABLE {schema}.schedule_firings (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    schedule text COLLATE "C" NOT NULL CHECK (octet_length(schedule) BETWEEN 1 AND 255),
    nominal_at timestamptz NOT NULL,
    cause text COLLATE "C" NOT NULL CHECK (cause IN ('time', 'catch_up', 'trigger')),
    state text COLLATE "C" NOT NULL
        CHECK (state IN ('queued', 'started', 'completed', 'failed', 'cancelled', 'skipped', 'lost')),
    execution text COLLATE "C",
    reason text,
    attended_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK ((finished_at IS NULL) = (state IN ('queued', 'started')))
);
CREATE UNIQUE INDEX schedule_firings_once ON {schema}.schedule_firings (tenant_id, schedule, nominal_at);
CREATE INDEX schedule_firings_listed ON {schema}.schedule_firings (tenant_id, created_at, id);
CREATE INDEX schedule_firings_of ON {schema}.schedule_firings (tenant_id, schedule, created_at, id);
CREATE INDEX schedule_firings_open ON {schema}.schedule_firings (tenant_id, schedule)
    WHERE state IN ('queued', 'started');

-- +migrate Down
DROP TABLE {schema}.schedule_firings;
DROP INDEX {schema}.schedules_unplanned;
DROP INDEX {schema}.schedules_due;
CREATE INDEX schedules_due ON {schema}.schedules (next_run_at) WHERE enabled AND next_run_at IS NOT NULL;
ALTER TABLE {schema}.schedules
    DROP CONSTRAINT schedules_catch_up_check,
    DROP CONSTRAINT schedules_overlap_check,
    DROP CONSTRAINT schedules_last_result_check,
    DROP COLUMN planned_revision,
    DROP COLUMN next_nominal_at,
    DROP COLUMN catch_up_max,
    DROP COLUMN ends_at,
    DROP COLUMN starts_at,
    DROP COLUMN jitter;
UPDATE {schema}.schedules SET catch_up = 'last' WHERE catch_up = 'latest';
UPDATE {schema}.schedules SET overlap = 'queue' WHERE overlap = 'cancel';
UPDATE {schema}.schedules SET last_result = 'failed' WHERE last_result = 'lost';
ALTER TABLE {schema}.schedules
    ADD CONSTRAINT schedules_catch_up_check CHECK (catch_up IN ('skip', 'last', 'all')),
    ADD CONSTRAINT schedules_overlap_check CHECK (overlap IN ('skip', 'queue', 'allow')),
    ADD CONSTRAINT schedules_last_result_check
        CHECK (last_result IN ('completed', 'failed', 'cancelled', 'skipped'));
