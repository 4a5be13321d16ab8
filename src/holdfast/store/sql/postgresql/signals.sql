-- Signals by name. Sender and waiter lock the name's mailbox first, so that one of them always sees the other.

-- name: signals.lock_mailbox
SELECT name FROM {schema}.mailboxes WHERE tenant_id = $1 AND name = $2 FOR UPDATE

-- name: signals.open_mailbox
INSERT INTO {schema}.mailboxes (tenant_id, name, created_at) VALUES ($1, $2, {now}) ON CONFLICT DO NOTHING

-- name: signals.wait
INSERT INTO {schema}.waits (execution, path, tenant_id, name, created_at) VALUES ($1, $2, $3, $4, {now})
ON CONFLICT (execution, path) DO UPDATE SET name = excluded.name

-- name: signals.remove_wait
DELETE FROM {schema}.waits WHERE execution = $1 AND path = $2 RETURNING path

-- name: signals.first_wait
-- Whoever waits longest; of one execution when the signal is for that one.
SELECT execution, path FROM {schema}.waits
WHERE tenant_id = $1 AND name = $2 AND ($3::bytea IS NULL OR execution = $3)
ORDER BY created_at, execution, path LIMIT 1

-- name: signals.delivered
-- Whether a signal for this step lies in the inbox already.
SELECT message FROM {schema}.inbox WHERE execution = $1 AND kind = 'signal' AND name = $2 LIMIT 1

-- name: signals.keep
INSERT INTO {schema}.signals (tenant_id, name, message, payload, created_at) VALUES ($1, $2, $3, $4, {now})
ON CONFLICT DO NOTHING
RETURNING message

-- name: signals.first_kept
-- A message begins with the time at which it was sent: the first of the key is the oldest.
SELECT name, message, payload FROM (
    (SELECT name, message, payload FROM {schema}.signals
     WHERE tenant_id = $1 AND name = $2 ORDER BY tenant_id, name, message LIMIT 1)
    UNION ALL
    (SELECT name, message, payload FROM {schema}.signals
     WHERE tenant_id = $1 AND name = $3 ORDER BY tenant_id, name, message LIMIT 1)
) AS oldest ORDER BY message LIMIT 1

-- name: signals.take_kept
DELETE FROM {schema}.signals WHERE tenant_id = $1 AND name = $2 AND message = $3

-- name: signals.unclaimed
-- What came for an execution that has ended since. What is for that one alone stays while it may be retried.
SELECT i.message, i.tenant_id, i.name
FROM {schema}.inbox i JOIN {schema}.executions e ON e.key = i.execution
WHERE i.execution = $1 AND i.kind = 'signal' AND strpos(i.name, chr(31)) > 0 AND e.finished_at IS NOT NULL
  AND (e.status = 'completed' OR strpos(i.name, chr(31) || chr(30)) = 0)
ORDER BY i.message

-- name: signals.lock_ended
-- Under the row's lock, so that it is not reopened while its message goes elsewhere.
SELECT key FROM {schema}.executions WHERE key = $1 AND finished_at IS NOT NULL FOR NO KEY UPDATE

-- name: signals.take_back
DELETE FROM {schema}.inbox WHERE execution = $1 AND message = $2 RETURNING payload

-- name: signals.forget_sent
-- Ids of messages are remembered so that sending one again is harmless; for a week.
DELETE FROM {schema}.signals
WHERE tenant_id = $1 AND name >= chr(29) AND name < chr(30) AND created_at < {now} - interval '7 days'

-- name: signals.addressed
-- Names under which something is kept for one execution only, and whether that one has completed.
SELECT kept.name, coalesce(e.status = 'completed', true)
FROM (SELECT DISTINCT name FROM {schema}.signals
      WHERE tenant_id = $1 AND name > $2 AND name >= chr(30) AND name < chr(31)
      ORDER BY name LIMIT $3) AS kept
LEFT JOIN {schema}.executions e ON e.key = decode(substr(kept.name, 2, 32), 'hex')
ORDER BY kept.name

-- name: signals.drop_addressed
DELETE FROM {schema}.signals WHERE tenant_id = $1 AND name = $2 RETURNING message

-- name: signals.kept
SELECT name, message, payload, created_at FROM {schema}.signals
WHERE tenant_id = $1 AND name NOT BETWEEN chr(29) AND chr(30) AND ($2::text IS NULL OR name = $2)
ORDER BY message LIMIT $3

-- name: signals.waiting
SELECT w.name, e.id, w.path, w.created_at
FROM {schema}.waits w JOIN {schema}.executions e ON e.key = w.execution
WHERE w.tenant_id = $1 AND ($2::text IS NULL OR w.name = $2)
ORDER BY w.created_at, w.execution, w.path LIMIT $3
