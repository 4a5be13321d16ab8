-- name: roster.list
-- Every registered process, oldest first, with what is left of its lease in microseconds and what it runs.
SELECT w.boot_id, w.program, w.host, w.pid, w.started_at, TIMESTAMPDIFF(MICROSECOND, {now}, w.lease_until),
       w.details, (SELECT count(*) FROM executions e WHERE e.owner = w.boot_id)
FROM workers w ORDER BY w.started_at, w.boot_id

-- name: roster.running
-- What one process runs, oldest first.
SELECT e.id, e.workflow, e.version, e.queue FROM executions e
WHERE e.owner = ?1 ORDER BY e.`key` LIMIT ?2
