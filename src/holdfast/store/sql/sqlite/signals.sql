-- Signals by name. BEGIN IMMEDIATE is the lock of the mailbox: sender and waiter always see each other.

-- name: signals.lock_mailbox
SELECT name FROM mailboxes WHERE tenant_id = ?1 AND name = ?2

-- name: signals.open_mailbox
INSERT INTO mailboxes (tenant_id, name, created_at) VALUES (?1, ?2, {now}) ON CONFLICT DO NOTHING

-- name: signals.wait
INSERT INTO waits (execution, path, tenant_id, name, created_at) VALUES (?1, ?2, ?3, ?4, {now})
ON CONFLICT (execution, path) DO UPDATE SET name = excluded.name

-- name: signals.remove_wait
DELETE FROM waits WHERE execution = ?1 AND path = ?2 RETURNING path

-- name: signals.first_wait
-- Whoever waits longest; of one execution when the signal is for that one.
SELECT execution, path FROM waits
WHERE tenant_id = ?1 AND name = ?2 AND (?3 IS NULL OR execution = ?3)
ORDER BY created_at, execution, path LIMIT 1

-- name: signals.delivered
-- Whether a signal for this step lies in the inbox already.
SELECT message FROM inbox WHERE execution = ?1 AND kind = 'signal' AND name = ?2 LIMIT 1

-- name: signals.keep
INSERT INTO signals (tenant_id, name, message, payload, created_at) VALUES (?1, ?2, ?3, ?4, {now})
ON CONFLICT DO NOTHING
RETURNING message

-- name: signals.first_kept
-- A message begins with the time at which it was sent: the first of the key is the oldest.
SELECT name, message, payload FROM (
    SELECT * FROM (SELECT name, message, payload FROM signals
                   WHERE tenant_id = ?1 AND name = ?2 ORDER BY tenant_id, name, message LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT name, message, payload FROM signals
                   WHERE tenant_id = ?1 AND name = ?3 ORDER BY tenant_id, name, message LIMIT 1)
) AS oldest ORDER BY message LIMIT 1

-- name: signals.take_kept
DELETE FROM signals WHERE tenant_id = ?1 AND name = ?2 AND message = ?3

-- name: signals.unclaimed
-- What came for an execution that has ended since. What is for that one alone stays while it may be retried.
SELECT i.message, i.tenant_id, i.name
FROM inbox i JOIN executions e ON e.key = i.execution
WHERE i.execution = ?1 AND i.kind = 'signal' AND instr(i.name, char(31)) > 0 AND e.finished_at IS NOT NULL
  AND (e.status = 'completed' OR instr(i.name, char(31) || char(30)) = 0)
ORDER BY i.message

-- name: signals.lock_ended
-- In the transaction that moves its message, so that it is not reopened meanwhile.
SELECT key FROM executions WHERE key = ?1 AND finished_at IS NOT NULL

-- name: signals.take_back
DELETE FROM inbox WHERE execution = ?1 AND message = ?2 RETURNING payload

-- name: signals.forget_sent
-- Ids of messages are remembered so that sending one again is harmless; for a week.
DELETE FROM signals
WHERE tenant_id = ?1 AND name >= char(29) AND name < char(30) AND created_at < {now} - 604800000000

-- name: signals.addressed
-- Names under which something is kept for one execution only, and whether that one has completed.
SELECT kept.name, coalesce(e.status = 'completed', 1)
FROM (SELECT DISTINCT name FROM signals
      WHERE tenant_id = ?1 AND name > ?2 AND name >= char(30) AND name < char(31)
      ORDER BY name LIMIT ?3) AS kept
LEFT JOIN executions e ON e.key = unhex(substr(kept.name, 2, 32))
ORDER BY kept.name

-- name: signals.drop_addressed
DELETE FROM signals WHERE tenant_id = ?1 AND name = ?2 RETURNING message

-- name: signals.kept
SELECT name, message, payload, created_at FROM signals
WHERE tenant_id = ?1 AND name NOT BETWEEN char(29) AND char(30) AND (?2 IS NULL OR name = ?2)
ORDER BY message LIMIT ?3

-- name: signals.waiting
SELECT w.name, e.id, w.path, w.created_at
FROM waits w JOIN executions e ON e.key = w.execution
WHERE w.tenant_id = ?1 AND (?2 IS NULL OR w.name = ?2)
ORDER BY w.created_at, w.execution, w.path LIMIT ?3
