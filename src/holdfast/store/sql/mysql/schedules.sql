-- name: schedules.look
-- All that an idle scheduler asks, in one statement that writes nothing. Its rows are of several kinds, named by the
-- first column: the times that come next with the microseconds that are left; schedules that were changed since they
-- were planned; schedules of which something has ended, waits for that, or was left by a process that died; and the
-- newest migration. ?3 is how long somebody may take to end what he is asked to, ?4 how long maintenance may take.
SELECT 'due', id, due_in FROM (
    SELECT id, TIMESTAMPDIFF(MICROSECOND, {now}, due_at) AS due_in FROM schedules FORCE INDEX (schedules_due)
    WHERE tenant_id = ?1 AND due_at IS NOT NULL ORDER BY due_at LIMIT ?2) AS due_
UNION ALL
SELECT 'changed', id, NULL FROM (
    SELECT id FROM schedules FORCE INDEX (schedules_unplanned)
    WHERE tenant_id = ?1 AND unplanned IS NOT NULL LIMIT ?2) AS changed
UNION ALL
SELECT 'open', schedule, NULL FROM (
    SELECT DISTINCT f.schedule
    FROM schedule_firings f FORCE INDEX (schedule_firings_open)
    LEFT JOIN executions e ON e.tenant_id = f.tenant_id AND e.id = f.execution
    LEFT JOIN schedules s ON s.tenant_id = f.tenant_id AND s.id = f.schedule
    WHERE f.tenant_id = ?1 AND f.open_schedule IS NOT NULL
      AND CASE
          WHEN s.id IS NULL AND f.state = 'queued' THEN 1
          WHEN f.state = 'started' AND f.execution IS NULL
              THEN f.attended_at IS NULL OR f.attended_at <= {now} - INTERVAL ?4 MICROSECOND
          WHEN f.state = 'started' THEN e.`key` IS NULL OR e.finished_at IS NOT NULL
          WHEN s.enabled = 0 THEN 0
          ELSE f.attended_at <= {now} - INTERVAL ?3 MICROSECOND
               OR NOT EXISTS (SELECT 1 FROM schedule_firings p
                              WHERE p.tenant_id = f.tenant_id AND p.open_schedule = f.schedule
                                AND p.state = 'started')
          END
    LIMIT ?2) AS open_
UNION ALL
SELECT 'schema', NULL, max(version) FROM schema_migrations

-- name: schedules.take
-- The row of a schedule under its lock; nothing when somebody else has it.
SELECT id FROM schedules FORCE INDEX (PRIMARY) WHERE tenant_id = ?1 AND id = ?2 FOR UPDATE SKIP LOCKED

-- name: schedules.open
-- What has not ended of a schedule, the earliest first, with the execution of it.
SELECT f.id, f.state, f.nominal_at, f.execution,
       f.attended_at <= {now} - INTERVAL ?3 MICROSECOND,
       f.attended_at IS NULL OR f.attended_at <= {now} - INTERVAL ?4 MICROSECOND,
       e.status, e.finished_at
FROM schedule_firings f FORCE INDEX (schedule_firings_open)
LEFT JOIN executions e ON e.tenant_id = f.tenant_id AND e.id = f.execution
WHERE f.tenant_id = ?1 AND f.open_schedule = ?2
ORDER BY f.nominal_at

-- name: schedules.record
-- Nothing comes back when this time of the schedule is recorded already.
INSERT INTO schedule_firings (tenant_id, id, schedule, nominal_at, cause, state, execution, reason, attended_at,
                              finished_at, revision, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, CASE WHEN ?9 THEN {now} END,
        CASE WHEN ?6 NOT IN ('queued', 'started') THEN {now} END, 1, {now}, {now})
ON DUPLICATE KEY UPDATE id = schedule_firings.id
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() = 1

-- name: schedules.move
-- What became of a firing. Without a time of its own the end is now.
UPDATE schedule_firings
SET execution = coalesce(?4, execution), reason = coalesce(?5, reason),
    attended_at = CASE WHEN ?6 THEN {now} ELSE attended_at END,
    finished_at = CASE WHEN ?3 NOT IN ('queued', 'started') THEN coalesce(?7, {now}) END,
    state = ?3, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND finished_at IS NULL
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() > 0

-- name: schedules.start
-- Nothing comes back when the id is taken.
INSERT INTO executions (`key`, tenant_id, id, workflow, version, definition, fingerprint, status, queue, class,
                        priority, epoch, schedule, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'ready', ?8, 'io', 0, 0, ?9, {now})
ON DUPLICATE KEY UPDATE id = executions.id
-- then
SELECT ?1 AS done FROM DUAL WHERE ROW_COUNT() = 1

-- name: schedules.describe
INSERT INTO execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata, context)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, '{}')

-- name: schedules.purge
-- What has ended and was recorded so many microseconds ago; with ?3 only maintenance that went well.
DELETE FROM schedule_firings
WHERE tenant_id = ?1 AND created_at <= {now} - INTERVAL ?2 MICROSECOND AND finished_at IS NOT NULL
  AND (NOT ?3 OR (state = 'completed' AND execution IS NULL))
ORDER BY created_at LIMIT ?4
-- then
SELECT ROW_COUNT()
