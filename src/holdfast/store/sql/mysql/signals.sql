-- Signals by name. Sender and waiter lock the name's mailbox first, so that one of them always sees the other.

-- name: signals.lock_mailbox
SELECT name FROM mailboxes WHERE tenant_id = ?1 AND name = ?2 FOR UPDATE

-- name: signals.open_mailbox
INSERT INTO mailboxes (tenant_id, name, created_at) VALUES (?1, ?2, {now})
ON DUPLICATE KEY UPDATE name = mailboxes.name

-- name: signals.wait
INSERT INTO waits (execution, path, path_digest, tenant_id, name, created_at)
VALUES (?1, ?2, UNHEX(SHA2(?2, 256)), ?3, ?4, {now})
ON DUPLICATE KEY UPDATE name = VALUES(name)

-- name: signals.remove_wait
DELETE FROM waits WHERE execution = ?1 AND path_digest = UNHEX(SHA2(?2, 256))
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() > 0

-- name: signals.first_wait
-- Whoever waits longest; of one execution when the signal is for that one.
SELECT execution, path FROM waits FORCE INDEX (waits_by_name)
WHERE tenant_id = ?1 AND name = ?2 AND (?3 IS NULL OR execution = ?3)
ORDER BY created_at, execution, path_digest LIMIT 1

-- name: signals.delivered
-- Whether a signal for this step lies in the inbox already.
SELECT message FROM inbox WHERE execution = ?1 AND kind = 'signal' AND name = ?2 LIMIT 1

-- name: signals.keep
INSERT INTO signals (tenant_id, name, message, payload, created_at) VALUES (?1, ?2, ?3, ?4, {now})
ON DUPLICATE KEY UPDATE message = signals.message
-- then
SELECT ?3 AS done FROM DUAL WHERE ROW_COUNT() = 1

-- name: signals.first_kept
-- A message begins with the time at which it was sent: the first of the key is the oldest.
SELECT name, message, payload FROM (
    (SELECT name, message, payload FROM signals
     WHERE tenant_id = ?1 AND name = ?2 ORDER BY message LIMIT 1)
    UNION ALL
    (SELECT name, message, payload FROM signals
     WHERE tenant_id = ?1 AND name = ?3 ORDER BY message LIMIT 1)
) AS oldest ORDER BY message LIMIT 1

-- name: signals.take_kept
DELETE FROM signals WHERE tenant_id = ?1 AND name = ?2 AND message = ?3

-- name: signals.unclaimed
-- What came for an execution that has ended since. What is for that one alone stays while it may be retried.
SELECT i.message, i.tenant_id, i.name
FROM inbox i JOIN executions e ON e.`key` = i.execution
WHERE i.execution = ?1 AND i.kind = 'signal' AND INSTR(i.name, CHAR(31 USING utf8mb4)) > 0
  AND e.finished_at IS NOT NULL
  AND (e.status = 'completed' OR INSTR(i.name, CHAR(31, 30 USING utf8mb4)) = 0)
ORDER BY i.message

-- name: signals.lock_ended
-- Under the row's lock, so that it is not reopened while its message goes elsewhere.
SELECT `key` FROM executions WHERE `key` = ?1 AND finished_at IS NOT NULL FOR UPDATE

-- name: signals.take_back
SET @hf_payload = NULL, @hf_taken = 0
-- then
SELECT payload, 1 INTO @hf_payload, @hf_taken FROM inbox WHERE execution = ?1 AND message = ?2 FOR UPDATE
-- then
DELETE FROM inbox WHERE execution = ?1 AND message = ?2
-- then
SELECT @hf_payload FROM DUAL WHERE @hf_taken = 1

-- name: signals.forget_sent
-- Ids of messages are remembered so that sending one again is harmless; for a week.
DELETE FROM signals
WHERE tenant_id = ?1 AND name >= CHAR(29 USING utf8mb4) AND name < CHAR(30 USING utf8mb4)
  AND created_at < {now} - INTERVAL 7 DAY

-- name: signals.addressed
-- Names under which something is kept for one execution only, and whether that one has completed.
SELECT kept.name, coalesce(e.status = 'completed', 1)
FROM (SELECT DISTINCT tenant_id, name FROM signals
      WHERE tenant_id = ?1 AND name > ?2 AND name >= CHAR(30 USING utf8mb4) AND name < CHAR(31 USING utf8mb4)
      ORDER BY name LIMIT ?3) AS kept
LEFT JOIN executions e ON e.`key` = UNHEX(SUBSTR(kept.name, 2, 32))
ORDER BY kept.name

-- name: signals.drop_addressed
SET @hf_messages = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(dropped.message)) INTO @hf_messages
FROM (SELECT message FROM signals WHERE tenant_id = ?1 AND name = ?2 FOR UPDATE) dropped
-- then
DELETE FROM signals WHERE tenant_id = ?1 AND name = ?2
-- then
SELECT UNHEX(j.message) FROM JSON_TABLE(@hf_messages, '$[*]' COLUMNS (message VARCHAR(510) PATH '$')) j

-- name: signals.kept
SELECT name, message, payload, created_at FROM signals
WHERE tenant_id = ?1 AND name NOT BETWEEN CHAR(29 USING utf8mb4) AND CHAR(30 USING utf8mb4)
  AND (?2 IS NULL OR name = ?2)
ORDER BY message LIMIT ?3

-- name: signals.waiting
SELECT w.name, e.id, w.path, w.created_at
FROM waits w JOIN executions e ON e.`key` = w.execution
WHERE w.tenant_id = ?1 AND (?2 IS NULL OR w.name = ?2)
ORDER BY w.created_at, w.execution, w.path LIMIT ?3
