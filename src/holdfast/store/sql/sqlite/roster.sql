-- name: roster.list
-- Every registered process, oldest first, with what is left of its lease in microseconds and what it runs.
SELECT w.boot_id, w.program, w.host, w.pid, w.started_at, w.lease_until - {now}, w.details,
       (SELECT count(*) FROM executions e WHERE e.owner = w.boot_id AND e.status = 'running')
FROM workers w ORDER BY w.started_at, w.boot_id

-- name: roster.running
-- What one process runs, oldest first.
SELECT e.id, e.workflow, e.version, e.queue FROM executions e
WHERE e.owner = ?1 AND e.status = 'running' ORDER BY e.key LIMIT ?2
