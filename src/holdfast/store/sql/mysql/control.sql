-- Statements of those who do not own an execution: they lock its row, see that nobody alive owns it, raise its
-- epoch and write, all in one transaction.

-- name: control.lock_mailboxes
-- What stands before the execution's row in the order of locks. The names are read first: a join would lock the
-- waits as well, and them before their mailboxes.
SET @hf_names = NULL
-- then
SELECT JSON_ARRAYAGG(JSON_OBJECT('tenant', w.tenant_id, 'name', w.name)) INTO @hf_names
FROM (SELECT DISTINCT tenant_id, name FROM waits WHERE execution = ?1 ORDER BY tenant_id, name) w
-- then
SELECT m.name
FROM JSON_TABLE(@hf_names, '$[*]' COLUMNS (
         no FOR ORDINALITY,
         tenant_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$.tenant',
         name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$.name')) j
STRAIGHT_JOIN mailboxes m ON m.tenant_id = j.tenant_id AND m.name = j.name
FOR UPDATE

-- name: control.lock_approvals
SELECT id FROM approvals WHERE execution = ?1 ORDER BY tenant_id, id FOR UPDATE

-- name: control.lock_tasks
SELECT id FROM tasks WHERE open_execution = ?1 ORDER BY tenant_id, id FOR UPDATE

-- name: control.lock
SELECT owner, epoch, status, id, tenant_id, queue, workflow, definition, parent, parent_path, detached
FROM executions WHERE `key` = ?1 FOR UPDATE

-- name: control.release
-- The epoch rises: whatever an old owner still writes is refused. Columns are set in this order, each seeing what
-- was set before it.
UPDATE executions
SET due_at = CASE WHEN ?2 = 'paused' AND status = 'waiting' THEN due_at END,
    owner = NULL, epoch = epoch + 1, status = ?2, blocked_on = NULL, finished_at = CASE WHEN ?3 THEN {now} END
WHERE `key` = ?1
-- then
SELECT epoch FROM executions WHERE `key` = ?1

-- name: control.reopen
-- An ended execution goes on.
UPDATE executions
SET epoch = epoch + 1, status = 'ready', recoveries = 0, due_at = NULL, blocked_on = NULL, finished_at = NULL
WHERE `key` = ?1
-- then
SELECT epoch FROM executions WHERE `key` = ?1

-- name: control.unpause
-- A delayed start that nobody has sent anything keeps its delay.
SELECT count(*) INTO @hf_messages FROM inbox WHERE execution = ?1
-- then
UPDATE executions FORCE INDEX (PRIMARY)
SET due_at = CASE WHEN due_at > {now} AND @hf_messages = 0 THEN due_at END,
    status = CASE WHEN due_at IS NULL THEN 'ready' ELSE 'waiting' END
WHERE `key` = ?1 AND status = 'paused'
-- then
SELECT status FROM executions WHERE `key` = ?1 AND ROW_COUNT() > 0

-- name: control.event
-- The next line of the log, by the epoch that the same transaction has just raised.
SET @hf_era = NULL
-- then
SELECT era INTO @hf_era FROM log_eras ORDER BY era DESC LIMIT 1 LOCK IN SHARE MODE
-- then
INSERT INTO events (execution, seq, epoch, type, generation, attempt, result, payload, payload_ref, tenant_id, at)
SELECT x.`key`, 1 + coalesce((SELECT max(e.seq) FROM events e WHERE e.execution = x.`key`), 0), x.epoch, ?2,
       0, 0, 0, ?3, ?4, x.tenant_id, {now}
FROM executions x WHERE x.`key` = ?1
-- then
SELECT max(seq) FROM events WHERE execution = ?1

-- name: control.free_slots
UPDATE slots SET holder = NULL WHERE holder = ?1

-- name: control.forget_pauses
SET @hf_messages = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(message)) INTO @hf_messages FROM inbox WHERE execution = ?1 AND kind = 'pause'
-- then
DELETE i FROM JSON_TABLE(@hf_messages, '$[*]' COLUMNS (message VARCHAR(510) PATH '$')) j
STRAIGHT_JOIN inbox i ON i.execution = ?1 AND i.message = UNHEX(j.message)
-- then
SELECT UNHEX(j.message) FROM JSON_TABLE(@hf_messages, '$[*]' COLUMNS (message VARCHAR(510) PATH '$')) j

-- name: control.forget_requests
-- What was asked of an execution, and the ends of its children: all that is looked up again when it goes on.
DELETE FROM inbox WHERE execution = ?1 AND kind IN ('cancel', 'pause', 'child')

-- name: control.take_requests
DELETE FROM inbox WHERE execution = ?1 AND kind IN ('cancel', 'pause')

-- name: control.wake_children
SET @hf_keys = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(woken.k)) INTO @hf_keys
FROM (SELECT `key` AS k FROM executions FORCE INDEX (executions_open_children)
      WHERE open_parent = ?1 ORDER BY `key` FOR UPDATE) woken
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.wakes = e.wakes + 1, e.status = CASE e.status WHEN 'waiting' THEN 'ready' ELSE e.status END
-- then
SELECT UNHEX(j.k) FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j

-- name: control.ask_children
-- The wish to end them is on disk together with the end of their parent.
INSERT INTO inbox (execution, message, tenant_id, kind, name, payload, created_at)
SELECT e.`key`, ?2, e.tenant_id, 'cancel', NULL, ?3, {now}
FROM executions e WHERE e.open_parent = ?1
ON DUPLICATE KEY UPDATE message = inbox.message

-- name: control.children
SELECT `key`, id, status, parent_path, detached FROM executions WHERE parent = ?1 ORDER BY `key`

-- name: control.unfinished_children
SELECT `key`, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM executions WHERE open_parent = ?1 ORDER BY `key`

-- name: control.withdraw_approvals
UPDATE approvals FORCE INDEX (approvals_open) SET status = 'withdrawn', decided_at = {now}
WHERE status = 'pending' AND execution = ?1

-- name: control.withdraw_waits
DELETE FROM waits WHERE execution = ?1

-- name: control.withdraw_tasks
UPDATE tasks
SET status = 'cancelled', agent = NULL, lease_until = NULL, finished_at = {now}, revision = revision + 1,
    updated_at = {now}
WHERE open_execution = ?1

-- name: control.forget_approvals
-- Steps that run again ask again.
DELETE FROM approvals
WHERE execution = ?1
  AND (status = 'withdrawn'
       OR path IN (SELECT j.v FROM JSON_TABLE(?2, '$[*]' COLUMNS (
                       v VARCHAR(2700) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j))

-- name: control.withdraw_tasks_at
-- Steps that run again ask for tasks of their own.
UPDATE tasks
SET status = 'cancelled', agent = NULL, lease_until = NULL, finished_at = {now}, revision = revision + 1,
    updated_at = {now}
WHERE open_execution = ?1
  AND path IN (SELECT j.v FROM JSON_TABLE(?2, '$[*]' COLUMNS (
                   v VARCHAR(2700) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j)

-- name: control.forget_answers
-- Answers to what such steps asked before, of people and agents; what is sent by name stays.
DELETE FROM inbox
WHERE execution = ?1 AND kind = 'signal'
  AND name IN (SELECT j.v FROM JSON_TABLE(?2, '$[*]' COLUMNS (
                   v VARCHAR(2700) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j)

-- name: control.fork
INSERT INTO executions (`key`, tenant_id, id, workflow, version, definition, fingerprint, status, queue,
                        class, priority, epoch, limit_key, created_at)
SELECT ?2, e.tenant_id, ?3, e.workflow, e.version, e.definition, ?4, 'ready', e.queue, e.class, e.priority, 0,
       e.limit_key, {now}
FROM executions e WHERE e.`key` = ?1
ON DUPLICATE KEY UPDATE id = executions.id
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() = 1

-- name: control.fork_details
INSERT INTO execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata,
                               context)
SELECT ?2, e.tenant_id, coalesce(d.tags, '[]'), 'fork', ?3,
       coalesce(d.metadata, '{}'), coalesce(d.context, '{}')
FROM executions e LEFT JOIN execution_details d ON d.execution = e.`key` WHERE e.`key` = ?1

-- name: control.fork_results
-- Numbered anew behind the first event, in their order.
SET @hf_era = NULL
-- then
SELECT era INTO @hf_era FROM log_eras ORDER BY era DESC LIMIT 1 LOCK IN SHARE MODE
-- then
INSERT INTO events (execution, seq, epoch, type, path, generation, ordinal, attempt, result, duration_us,
                    input_digest, input, payload, payload_ref, tenant_id, at)
SELECT ?2, 1 + row_number() OVER (ORDER BY e.seq), 0, e.type, e.path, 0, e.ordinal, e.attempt, 1, e.duration_us,
       e.input_digest, e.input, e.payload, e.payload_ref, e.tenant_id, {now}
FROM JSON_TABLE(?3, '$[*]' COLUMNS (seq BIGINT PATH '$')) j
STRAIGHT_JOIN events e ON e.execution = ?1 AND e.seq = j.seq
WHERE e.result

-- name: control.fork_payloads
INSERT INTO payloads (execution, digest, tenant_id, body)
SELECT ?2, p.digest, p.tenant_id, p.body
FROM payloads p
WHERE p.execution = ?1
  AND p.digest IN (SELECT e.payload_ref FROM events e WHERE e.execution = ?2 AND e.payload_ref IS NOT NULL)
ON DUPLICATE KEY UPDATE digest = payloads.digest
