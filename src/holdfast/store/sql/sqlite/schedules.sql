-- name: schedules.look
-- All that an idle scheduler asks, in one statement that writes nothing. Its rows are of several kinds, named by the
-- first column: the times that come next with the microseconds that are left; schedules that were changed since they
-- were planned; schedules of which something has ended, waits for that, or was left by a process that died; and the
-- newest migration. ?3 is how long somebody may take to end what he is asked to, ?4 how long maintenance may take.
SELECT 'due', id, due_in FROM (
    SELECT id, next_run_at - {now} AS due_in FROM schedules
    WHERE tenant_id = ?1 AND enabled = 1 AND next_run_at IS NOT NULL ORDER BY next_run_at LIMIT ?2)
UNION ALL
SELECT 'changed', id, NULL FROM (
    SELECT id FROM schedules WHERE tenant_id = ?1 AND planned_revision <> revision LIMIT ?2)
UNION ALL
SELECT 'open', schedule, NULL FROM (
    SELECT DISTINCT f.schedule
    FROM schedule_firings f
    LEFT JOIN executions e ON e.tenant_id = f.tenant_id AND e.id = f.execution
    LEFT JOIN schedules s ON s.tenant_id = f.tenant_id AND s.id = f.schedule
    WHERE f.tenant_id = ?1 AND f.state IN ('queued', 'started')
      AND CASE
          WHEN s.id IS NULL AND f.state = 'queued' THEN 1
          WHEN f.state = 'started' AND f.execution IS NULL
              THEN f.attended_at IS NULL OR f.attended_at <= {now} - ?4
          WHEN f.state = 'started' THEN e.key IS NULL OR e.finished_at IS NOT NULL
          WHEN s.enabled = 0 THEN 0
          ELSE f.attended_at <= {now} - ?3
               OR NOT EXISTS (SELECT 1 FROM schedule_firings p
                              WHERE p.tenant_id = f.tenant_id AND p.schedule = f.schedule AND p.state = 'started')
          END
    LIMIT ?2)
UNION ALL
SELECT 'schema', NULL, max(version) FROM schema_migrations

-- name: schedules.take
-- The row of a schedule under its lock. The transaction has the only one there is.
SELECT id FROM schedules WHERE tenant_id = ?1 AND id = ?2

-- name: schedules.open
-- What has not ended of a schedule, the earliest first, with the execution of it.
SELECT f.id, f.state, f.nominal_at, f.execution,
       f.attended_at <= {now} - ?3,
       f.attended_at IS NULL OR f.attended_at <= {now} - ?4,
       e.status, e.finished_at
FROM schedule_firings f
LEFT JOIN executions e ON e.tenant_id = f.tenant_id AND e.id = f.execution
WHERE f.tenant_id = ?1 AND f.schedule = ?2 AND f.state IN ('queued', 'started')
ORDER BY f.nominal_at

-- name: schedules.record
-- Nothing comes back when this time of the schedule is recorded already.
INSERT INTO schedule_firings (tenant_id, id, schedule, nominal_at, cause, state, execution, reason, attended_at,
                              finished_at, revision, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, CASE WHEN ?9 THEN {now} END,
        CASE WHEN ?6 NOT IN ('queued', 'started') THEN {now} END, 1, {now}, {now})
ON CONFLICT DO NOTHING
RETURNING id

-- name: schedules.move
-- What became of a firing. Without a time of its own the end is now.
UPDATE schedule_firings
SET state = ?3, execution = coalesce(?4, execution), reason = coalesce(?5, reason),
    attended_at = CASE WHEN ?6 THEN {now} ELSE attended_at END,
    finished_at = CASE WHEN ?3 NOT IN ('queued', 'started') THEN coalesce(?7, {now}) END,
    revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND state IN ('queued', 'started')
RETURNING id

-- name: schedules.start
-- Nothing comes back when the id is taken.
INSERT INTO executions (key, tenant_id, id, workflow, version, definition, fingerprint, status, queue, class,
                        priority, epoch, schedule, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'ready', ?8, 'io', 0, 0, ?9, {now})
ON CONFLICT DO NOTHING
RETURNING key

-- name: schedules.describe
INSERT INTO execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata, context)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, '{}')

-- name: schedules.purge
-- What has ended and was recorded so many microseconds ago; with ?3 only maintenance that went well.
DELETE FROM schedule_firings WHERE tenant_id = ?1 AND id IN (
    SELECT id FROM schedule_firings
    WHERE tenant_id = ?1 AND created_at <= {now} - ?2 AND finished_at IS NOT NULL
      AND (NOT ?3 OR (state = 'completed' AND execution IS NULL))
    ORDER BY created_at LIMIT ?4)
RETURNING id
