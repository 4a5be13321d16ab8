-- name: events.history
-- Everything a replay needs, in one statement. Inputs stay behind: only their digests are compared.
SELECT e.seq, e.type, e.path, e.generation, e.ordinal, e.attempt, e.epoch, e.result, e.at, e.duration_us,
       e.input_digest, coalesce(e.payload, p.body)
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1
ORDER BY e.seq

-- name: events.end
-- How an execution ended. An end that a retry took back is none.
SELECT e.type, coalesce(e.payload, p.body)
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.type IN ('execution.completed', 'execution.failed', 'execution.cancelled')
  AND NOT EXISTS (SELECT 1 FROM events r
                  WHERE r.execution = e.execution AND r.type = 'step.reset' AND r.seq > e.seq)
ORDER BY e.seq DESC LIMIT 1

-- name: events.waits
-- What an execution waits for, as it said when it was suspended.
SELECT coalesce(e.payload, p.body)
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.type = 'execution.suspended'
ORDER BY e.seq DESC LIMIT 1

-- name: events.input
SELECT input FROM events
WHERE execution = ?1 AND path = ?2 AND generation = ?3 AND input IS NOT NULL LIMIT 1

-- name: events.page
SELECT e.seq, e.type, e.path, e.attempt, e.at, e.duration_us, coalesce(e.payload, p.body), e.payload_ref,
       e.generation, e.input, e.position
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.seq > ?2
ORDER BY e.seq LIMIT ?3

-- name: events.follow
-- One writer at a time makes `position` the order of commits. CROSS JOIN keeps the events outside: from the
-- executions, a large store would be read as a whole for every page.
SELECT e.seq, e.type, e.path, e.attempt, e.at, e.duration_us, coalesce(e.payload, p.body), e.payload_ref,
       e.generation, e.input, e.position, e.execution, x.id
FROM events e
CROSS JOIN executions x ON x.key = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.position > ?1 AND x.tenant_id = ?3
ORDER BY e.position LIMIT ?2

-- name: events.whole
-- The same of all tenants, with all that an event has: what a copy of the log is written from.
SELECT e.execution, e.seq, e.tenant_id, e.epoch, e.type, e.path, e.generation, e.ordinal, e.attempt, e.result, e.at,
       e.duration_us, e.input_digest, e.input, coalesce(e.payload, p.body), e.payload_ref, x.id, e.position
FROM events e
CROSS JOIN executions x ON x.key = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.position > ?1
ORDER BY e.position LIMIT ?2

-- name: events.birth
-- What tells one store from another that stood in its place.
SELECT applied_at FROM schema_migrations ORDER BY version LIMIT 1

-- name: events.whole_page
SELECT e.execution, e.seq, e.tenant_id, e.epoch, e.type, e.path, e.generation, e.ordinal, e.attempt, e.result, e.at,
       e.duration_us, e.input_digest, e.input, coalesce(e.payload, p.body), e.payload_ref, x.id, e.position
FROM events e
CROSS JOIN executions x ON x.key = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.seq > ?2
ORDER BY e.seq LIMIT ?3

-- name: events.mark
-- Where a follower that only wants what comes begins.
SELECT coalesce(max(position), 0) FROM events

-- name: events.gaps
-- Executions whose numbers do not run from 1 without a hole.
SELECT x.id, count(*), min(e.seq), max(e.seq)
FROM events e JOIN executions x ON x.key = e.execution
WHERE x.tenant_id = ?1 GROUP BY x.id HAVING min(e.seq) <> 1 OR max(e.seq) <> count(*) ORDER BY x.id

-- name: events.orphans
-- Events that refer to a value nobody stored.
SELECT x.id, e.seq, e.path
FROM events e
JOIN executions x ON x.key = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE x.tenant_id = ?1 AND e.payload_ref IS NOT NULL AND p.digest IS NULL ORDER BY x.id, e.seq

-- name: events.ends
-- Executions whose row and log tell different ends.
SELECT x.id, x.status, e.type
FROM executions x
LEFT JOIN events e ON e.execution = x.key
     AND e.type IN ('execution.completed', 'execution.failed', 'execution.cancelled')
     AND NOT EXISTS (SELECT 1 FROM events r
                     WHERE r.execution = e.execution AND r.type = 'step.reset' AND r.seq > e.seq)
WHERE x.tenant_id = ?1
  AND coalesce('execution.' || CASE WHEN x.finished_at IS NOT NULL THEN x.status END, '') <> coalesce(e.type, '')
ORDER BY x.id

-- name: events.last_seq
SELECT coalesce(max(seq), 0) FROM events WHERE execution = ?1
