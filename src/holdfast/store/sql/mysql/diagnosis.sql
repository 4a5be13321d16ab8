-- name: diagnosis.versions
-- Executions that were put aside because the worker that claimed them had no code for them, and with them those
-- that it passes over since.
SELECT LOWER(HEX(b.definition)), b.workflow, b.version, b.queue,
       b.count + (SELECT count(*) FROM executions r
                  WHERE r.status = 'ready' AND r.queue = b.queue AND r.definition = b.definition),
       b.example
FROM (SELECT definition, workflow, version, queue, count(*) AS count, min(id) AS example FROM executions
      WHERE blocked_on >= 'version:' AND blocked_on < 'version;' AND status = 'waiting'
      GROUP BY definition, workflow, version, queue) b
ORDER BY b.workflow, b.version, b.queue

-- name: diagnosis.ready
-- What may be claimed, by who would have to claim it; read from one range of an index alone.
SELECT r.queue, r.class, coalesce(q.paused, 0), r.count
FROM (SELECT queue, class, count(*) AS count FROM executions WHERE status = 'ready' GROUP BY queue, class) r
LEFT JOIN queues q ON q.name = r.queue
ORDER BY r.queue, r.class

-- name: diagnosis.orphans
-- Running executions whose owner is not registered at all.
SELECT LOWER(HEX(e.owner)), count(*) FROM executions e
WHERE e.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.boot_id = e.owner)
GROUP BY e.owner ORDER BY e.owner

-- name: diagnosis.settings
SELECT version(), @@innodb_doublewrite
