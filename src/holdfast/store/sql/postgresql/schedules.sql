-- name: schedules.look
-- All that an idle scheduler asks, in one statement that writes nothing. Its rows are of several kinds, named by the
-- first column: the times that come next with the microseconds that are left; schedules that were changed since they
-- were planned; schedules of which something has ended, waits for that, or was left by a process that died; and the
-- newest migration. $3 is how long somebody may take to end what he is asked to, $4 how long maintenance may take.
SELECT 'due', id, due_in FROM (
    SELECT id, (extract(epoch FROM next_run_at - {now}) * 1000000)::bigint AS due_in
    FROM {schema}.schedules
    WHERE tenant_id = $1 AND enabled AND next_run_at IS NOT NULL ORDER BY next_run_at LIMIT $2) AS told
UNION ALL
SELECT 'changed', id, NULL::bigint FROM (
    SELECT id FROM {schema}.schedules WHERE tenant_id = $1 AND planned_revision <> revision ORDER BY id LIMIT $2)
    AS told
UNION ALL
SELECT 'open', schedule, NULL::bigint FROM (
    SELECT DISTINCT f.schedule
    FROM {schema}.schedule_firings f
    LEFT JOIN {schema}.executions e ON e.tenant_id = f.tenant_id AND e.id = f.execution
    LEFT JOIN {schema}.schedules s ON s.tenant_id = f.tenant_id AND s.id = f.schedule
    WHERE f.tenant_id = $1 AND f.state IN ('queued', 'started')
      AND CASE
          WHEN s.id IS NULL AND f.state = 'queued' THEN true
          WHEN f.state = 'started' AND f.execution IS NULL
              THEN f.attended_at IS NULL OR f.attended_at <= {now} - $4::bigint * interval '1 microsecond'
          WHEN f.state = 'started' THEN e.key IS NULL OR e.finished_at IS NOT NULL
          WHEN NOT s.enabled THEN false
          ELSE f.attended_at <= {now} - $3::bigint * interval '1 microsecond'
               OR NOT EXISTS (SELECT 1 FROM {schema}.schedule_firings p
                              WHERE p.tenant_id = f.tenant_id AND p.schedule = f.schedule AND p.state = 'started')
          END
    LIMIT $2) AS told
UNION ALL
SELECT 'schema', NULL, max(version) FROM {schema}.schema_migrations

-- name: schedules.take
-- The row of a schedule under its lock; nothing when somebody else has it.
SELECT id FROM {schema}.schedules WHERE tenant_id = $1 AND id = $2 FOR UPDATE SKIP LOCKED

-- name: schedules.open
-- What has not ended of a schedule, the earliest first, with the execution of it.
SELECT f.id, f.state, f.nominal_at, f.execution,
       f.attended_at <= {now} - $3::bigint * interval '1 microsecond',
       f.attended_at IS NULL OR f.attended_at <= {now} - $4::bigint * interval '1 microsecond',
       e.status, e.finished_at
FROM {schema}.schedule_firings f
LEFT JOIN {schema}.executions e ON e.tenant_id = f.tenant_id AND e.id = f.execution
WHERE f.tenant_id = $1 AND f.schedule = $2 AND f.state IN ('queued', 'started')
ORDER BY f.nominal_at

-- name: schedules.record
-- Nothing comes back when this time of the schedule is recorded already.
INSERT INTO {schema}.schedule_firings (tenant_id, id, schedule, nominal_at, cause, state, execution, reason,
                                       attended_at, finished_at, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6::text, $7, $8, CASE WHEN $9::boolean THEN {now} END,
        CASE WHEN $6::text NOT IN ('queued', 'started') THEN {now} END, 1, {now}, {now})
ON CONFLICT DO NOTHING
RETURNING id

-- name: schedules.move
-- What became of a firing. Without a time of its own the end is now.
UPDATE {schema}.schedule_firings
SET state = $3::text, execution = coalesce($4::text, execution), reason = coalesce($5::text, reason),
    attended_at = CASE WHEN $6::boolean THEN {now} ELSE attended_at END,
    finished_at = CASE WHEN $3::text NOT IN ('queued', 'started') THEN coalesce($7::timestamptz, {now}) END,
    revision = revision + 1, updated_at = {now}
WHERE tenant_id = $1 AND id = $2 AND state IN ('queued', 'started')
RETURNING id

-- name: schedules.start
-- Nothing comes back when the id is taken.
INSERT INTO {schema}.executions (key, tenant_id, id, workflow, version, definition, fingerprint, status, queue, class,
                        priority, epoch, schedule, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'ready', $8, 'io', 0, 0, $9, {now})
ON CONFLICT DO NOTHING
RETURNING key

-- name: schedules.describe
INSERT INTO {schema}.execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata, context)
VALUES ($1, $2, $3, $4, $5, $6, '{}')

-- name: schedules.purge
-- What has ended and was recorded so many microseconds ago; with $3 only maintenance that went well.
DELETE FROM {schema}.schedule_firings WHERE tenant_id = $1 AND id = ANY (ARRAY(
    SELECT id FROM {schema}.schedule_firings
    WHERE tenant_id = $1 AND created_at <= {now} - $2::bigint * interval '1 microsecond' AND finished_at IS NOT NULL
      AND (NOT $3::boolean OR (state = 'completed' AND execution IS NULL))
    ORDER BY created_at LIMIT $4 FOR UPDATE SKIP LOCKED))
RETURNING id
