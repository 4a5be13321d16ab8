-- The statements of one flush, sent together in two packets: the fence, then all that is written and COMMIT.
-- Lists stand for as many literals as there are.

-- name: journal.era
-- Before anything is inserted into `events`, and held until the commit: see `log_eras`.
SELECT era FROM log_eras ORDER BY era DESC LIMIT 1 LOCK IN SHARE MODE

-- name: journal.fence
-- Locks the rows; one that is locked elsewhere is left out, never waited for.
SELECT `key`, epoch, wakes, tenant_id FROM executions FORCE INDEX (PRIMARY)
WHERE `key` IN (?1) FOR UPDATE SKIP LOCKED

-- name: journal.left_out
-- A plain read of rows that the fence did not get: locked elsewhere, or not there.
SELECT `key`, epoch, wakes FROM executions WHERE `key` IN (?1)

-- name: journal.insert_event
INSERT INTO events (execution, seq, epoch, type, path, generation, ordinal, attempt, result, duration_us,
                    input_digest, input, payload, payload_ref, tenant_id, at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, {now})

-- name: journal.insert_execution
INSERT INTO executions (`key`, tenant_id, id, workflow, version, definition, fingerprint, status, queue,
                        class, priority, due_at, owner, epoch, parent, parent_path, limit_key, dedupe_key,
                        detached, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, {now} + INTERVAL ?12 MICROSECOND, ?13, ?14, ?15, ?16,
        ?17, ?18, ?19, {now})

-- name: journal.insert_details
INSERT INTO execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata, context)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- name: journal.insert_payload
-- The digest names the content, so a second copy is the same value.
INSERT INTO payloads (execution, digest, tenant_id, body) VALUES (?1, ?2, ?3, ?4)
ON DUPLICATE KEY UPDATE digest = payloads.digest

-- name: journal.id_taken
SELECT 1 FROM executions WHERE tenant_id = ?1 AND id = ?2
UNION ALL SELECT 1 FROM executions WHERE `key` = ?3
UNION ALL SELECT 1 FROM executions WHERE tenant_id = ?1 AND queue = ?4 AND open_dedupe_key = ?5
LIMIT 1

-- name: journal.stands
-- Only the holder of the epoch gives out its numbers, so such an event is our own write.
SELECT 1 FROM events WHERE execution = ?1 AND seq = ?2 AND epoch = ?3

-- name: journal.recorded
SELECT 1 FROM events WHERE execution = ?1 AND seq = ?2
UNION ALL
SELECT 1 FROM events
WHERE execution = ?1 AND ?5 AND result_digest = UNHEX(SHA2(?3, 256)) AND generation = ?4
LIMIT 1

-- name: journal.transition
UPDATE executions
SET owner = CASE ?1 WHEN 'running' THEN owner END,
    due_at = {now} + INTERVAL ?2 MICROSECOND,
    finished_at = CASE WHEN ?3 THEN {now} END,
    status = ?1
WHERE `key` = ?4

-- name: journal.free_slots
UPDATE slots SET holder = NULL WHERE holder = ?1

-- name: journal.take_message
DELETE FROM inbox WHERE execution = ?1 AND message = ?2

-- name: journal.insert_message
INSERT INTO inbox (execution, message, tenant_id, kind, name, payload, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, {now})
ON DUPLICATE KEY UPDATE message = inbox.message

-- name: journal.wake
-- Unconditional and by primary key: the receiver compares `wakes`, so a message is never overlooked.
UPDATE executions
SET wakes = wakes + 1, status = CASE status WHEN 'waiting' THEN 'ready' ELSE status END
WHERE `key` = ?1 AND finished_at IS NULL

-- name: journal.put_payload
INSERT INTO payloads (execution, digest, tenant_id, body) VALUES (?1, ?2, ?3, ?4)
ON DUPLICATE KEY UPDATE digest = payloads.digest
