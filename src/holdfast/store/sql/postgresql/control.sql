-- Statements of those who do not own an execution: they lock its row, see that nobody alive owns it, raise its
-- epoch and write, all in one transaction.

-- name: control.lock_mailboxes
-- What stands before the execution's row in the order of locks.
SELECT m.name FROM {schema}.mailboxes m JOIN {schema}.waits w ON w.tenant_id = m.tenant_id AND w.name = m.name
WHERE w.execution = $1 ORDER BY m.tenant_id, m.name FOR NO KEY UPDATE OF m

-- name: control.lock_approvals
SELECT id FROM {schema}.approvals WHERE execution = $1 ORDER BY tenant_id, id FOR NO KEY UPDATE

-- name: control.lock_tasks
SELECT id FROM {schema}.tasks WHERE execution = $1 AND status IN ('pending', 'claimed')
ORDER BY tenant_id, id FOR NO KEY UPDATE

-- name: control.lock
SELECT owner, epoch, status, id, tenant_id, queue, workflow, definition, parent, parent_path, detached
FROM {schema}.executions WHERE key = $1 FOR NO KEY UPDATE

-- name: control.release
-- The epoch rises: whatever an old owner still writes is refused.
UPDATE {schema}.executions
SET owner = NULL, epoch = epoch + 1, status = $2, blocked_on = NULL,
    due_at = CASE WHEN $2 = 'paused' AND status = 'waiting' THEN due_at END,
    finished_at = CASE WHEN $3::boolean THEN {now} END
WHERE key = $1
RETURNING epoch

-- name: control.reopen
-- An ended execution goes on.
UPDATE {schema}.executions
SET epoch = epoch + 1, status = 'ready', recoveries = 0, due_at = NULL, blocked_on = NULL, finished_at = NULL
WHERE key = $1
RETURNING epoch

-- name: control.unpause
-- A delayed start that nobody has sent anything keeps its delay.
UPDATE {schema}.executions
SET status = CASE WHEN due_at > {now} AND NOT EXISTS (SELECT FROM {schema}.inbox i WHERE i.execution = $1) THEN 'waiting' ELSE 'ready' END,
    due_at = CASE WHEN due_at > {now} AND NOT EXISTS (SELECT FROM {schema}.inbox i WHERE i.execution = $1) THEN due_at END
WHERE key = $1 AND status = 'paused'
RETURNING status

-- name: control.event
-- The next line of the log, by the epoch that the same transaction has just raised.
INSERT INTO {schema}.events (execution, seq, epoch, type, generation, attempt, result, payload, payload_ref,
                             tenant_id, at)
SELECT x.key, 1 + coalesce((SELECT max(e.seq) FROM {schema}.events e WHERE e.execution = x.key), 0), x.epoch, $2,
       0, 0, false, $3, $4, x.tenant_id, {now}
FROM {schema}.executions x WHERE x.key = $1
RETURNING seq

-- name: control.free_slots
UPDATE {schema}.slots SET holder = NULL WHERE holder = $1

-- name: control.forget_pauses
DELETE FROM {schema}.inbox WHERE execution = $1 AND kind = 'pause' RETURNING message

-- name: control.forget_requests
-- What was asked of an execution, and the ends of its children: all that is looked up again when it goes on.
DELETE FROM {schema}.inbox WHERE execution = $1 AND kind IN ('cancel', 'pause', 'child')

-- name: control.take_requests
DELETE FROM {schema}.inbox WHERE execution = $1 AND kind IN ('cancel', 'pause')

-- name: control.wake_children
UPDATE {schema}.executions
SET wakes = wakes + 1, status = CASE status WHEN 'waiting' THEN 'ready' ELSE status END
WHERE parent = $1 AND NOT detached AND finished_at IS NULL
RETURNING key

-- name: control.ask_children
-- The wish to end them is on disk together with the end of their parent.
INSERT INTO {schema}.inbox (execution, message, tenant_id, kind, name, payload, created_at)
SELECT e.key, $2, e.tenant_id, 'cancel', NULL, $3, {now}
FROM {schema}.executions e WHERE e.parent = $1 AND NOT e.detached AND e.finished_at IS NULL
ON CONFLICT DO NOTHING

-- name: control.children
SELECT key, id, status, parent_path, detached FROM {schema}.executions WHERE parent = $1 ORDER BY key

-- name: control.unfinished_children
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions WHERE parent = $1 AND NOT detached AND finished_at IS NULL ORDER BY key

-- name: control.withdraw_approvals
UPDATE {schema}.approvals SET status = 'withdrawn', decided_at = {now} WHERE execution = $1 AND status = 'pending'

-- name: control.withdraw_waits
DELETE FROM {schema}.waits WHERE execution = $1

-- name: control.withdraw_tasks
UPDATE {schema}.tasks
SET status = 'cancelled', agent = NULL, lease_until = NULL, finished_at = {now}, revision = revision + 1,
    updated_at = {now}
WHERE execution = $1 AND status IN ('pending', 'claimed')

-- name: control.forget_approvals
-- Steps that run again ask again.
DELETE FROM {schema}.approvals WHERE execution = $1 AND (status = 'withdrawn' OR path = ANY ($2::text[]))

-- name: control.withdraw_tasks_at
-- Steps that run again ask for tasks of their own.
UPDATE {schema}.tasks
SET status = 'cancelled', agent = NULL, lease_until = NULL, finished_at = {now}, revision = revision + 1,
    updated_at = {now}
WHERE execution = $1 AND status IN ('pending', 'claimed') AND path = ANY ($2::text[])

-- name: control.forget_answers
-- Answers to what such steps asked before, of people and agents; what is sent by name stays.
DELETE FROM {schema}.inbox WHERE execution = $1 AND kind = 'signal' AND name = ANY ($2::text[])

-- name: control.fork
INSERT INTO {schema}.executions (key, tenant_id, id, workflow, version, definition, fingerprint, status, queue,
                                 class, priority, epoch, limit_key, created_at)
SELECT $2, e.tenant_id, $3, e.workflow, e.version, e.definition, $4, 'ready', e.queue, e.class, e.priority, 0,
       e.limit_key, {now}
FROM {schema}.executions e WHERE e.key = $1
ON CONFLICT DO NOTHING
RETURNING key

-- name: control.fork_details
INSERT INTO {schema}.execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata,
                                        context)
SELECT $2, e.tenant_id, coalesce(d.tags, '{}'), 'fork', $3,
       coalesce(d.metadata, '{}'::json), coalesce(d.context, '{}'::json)
FROM {schema}.executions e LEFT JOIN {schema}.execution_details d ON d.execution = e.key WHERE e.key = $1

-- name: control.fork_results
-- Numbered anew behind the first event, in their order.
INSERT INTO {schema}.events (execution, seq, epoch, type, path, generation, ordinal, attempt, result, duration_us,
                             input_digest, input, payload, payload_ref, tenant_id, at)
SELECT $2, 1 + row_number() OVER (ORDER BY e.seq), 0, e.type, e.path, 0, e.ordinal, e.attempt, true, e.duration_us,
       e.input_digest, e.input, e.payload, e.payload_ref, e.tenant_id, {now}
FROM {schema}.events e
WHERE e.execution = $1 AND e.result AND e.seq = ANY ($3::bigint[])

-- name: control.fork_payloads
INSERT INTO {schema}.payloads (execution, digest, tenant_id, body)
SELECT $2, p.digest, p.tenant_id, p.body
FROM {schema}.payloads p
WHERE p.execution = $1
  AND p.digest IN (SELECT e.payload_ref FROM {schema}.events e WHERE e.execution = $2 AND e.payload_ref IS NOT NULL)
ON CONFLICT DO NOTHING
