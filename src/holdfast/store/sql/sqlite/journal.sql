-- The statements of one flush. They run inside BEGIN IMMEDIATE, which excludes every other writer.

-- name: journal.fence
SELECT key, epoch, wakes, tenant_id FROM executions WHERE key IN (?)

-- name: journal.insert_event
INSERT INTO events (execution, seq, epoch, type, path, generation, ordinal, attempt, result, duration_us,
                    input_digest, input, payload, payload_ref, tenant_id, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: journal.insert_execution
INSERT INTO executions (key, tenant_id, id, workflow, version, definition, fingerprint, status, queue,
                        class, priority, due_at, owner, epoch, parent, parent_path, limit_key, dedupe_key,
                        detached, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?20 + ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)

-- name: journal.insert_details
INSERT INTO execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata, context)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: journal.insert_payload
-- The digest names the content, so a second copy is the same value.
INSERT INTO payloads (execution, digest, tenant_id, body) VALUES (?, ?, ?, ?)
ON CONFLICT (execution, digest) DO NOTHING

-- name: journal.id_taken
SELECT 1 FROM executions
WHERE (tenant_id = ?1 AND id = ?2) OR key = ?3
   OR (tenant_id = ?1 AND queue = ?4 AND dedupe_key = ?5 AND finished_at IS NULL)

-- name: journal.stands
-- Only the holder of the epoch gives out its numbers, so such an event is our own write.
SELECT 1 FROM events WHERE execution = ? AND seq = ? AND epoch = ?

-- name: journal.recorded
SELECT 1 FROM events
WHERE execution = ?1 AND (seq = ?2 OR (?5 AND result AND path = ?3 AND generation = ?4))

-- name: journal.transition
UPDATE executions
SET status = ?1, due_at = ?2, finished_at = ?3, owner = CASE ?1 WHEN 'running' THEN owner END
WHERE key = ?4

-- name: journal.free_slots
UPDATE slots SET holder = NULL WHERE holder = ?

-- name: journal.take_message
DELETE FROM inbox WHERE execution = ? AND message = ?

-- name: journal.insert_message
INSERT INTO inbox (execution, message, tenant_id, kind, name, payload, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (execution, message) DO NOTHING

-- name: journal.wake
-- Unconditional and by primary key: the receiver compares `wakes`, so a message is never overlooked.
UPDATE executions
SET wakes = wakes + 1, status = CASE status WHEN 'waiting' THEN 'ready' ELSE status END
WHERE key = ? AND finished_at IS NULL

-- name: journal.put_payload
INSERT INTO payloads (execution, digest, tenant_id, body) VALUES (?, ?, ?, ?)
ON CONFLICT (execution, digest) DO NOTHING
