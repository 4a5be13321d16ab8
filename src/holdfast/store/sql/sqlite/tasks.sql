-- name: tasks.offer
-- The id follows from the step, so offering again changes nothing; unless it was taken back meanwhile, by the end
-- of an execution that goes on now. Its epoch rises: an agent that had it before can not end it.
INSERT INTO tasks (tenant_id, id, execution, path, capability, type, priority, status, payload, max_attempts,
                   lease, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?9, ?10, {now}, {now})
ON CONFLICT (tenant_id, id) DO UPDATE
SET status = 'pending', agent = NULL, epoch = tasks.epoch + 1, attempts = 0, result = NULL, error = NULL,
    lease_until = NULL, finished_at = NULL, revision = tasks.revision + 1, updated_at = excluded.updated_at
WHERE tasks.status = 'cancelled'
RETURNING id

-- name: tasks.claim
UPDATE tasks
SET status = 'claimed', agent = ?3, epoch = epoch + 1, attempts = attempts + 1, revision = revision + 1,
    updated_at = {now},
    lease_until = {now} + lease
WHERE tenant_id = ?1 AND id = (SELECT id FROM tasks
                               WHERE tenant_id = ?1 AND capability = ?2 AND status = 'pending'
                               ORDER BY priority DESC, created_at, id LIMIT 1)
RETURNING id, tenant_id, capability, type, priority, status, payload, agent, epoch, attempts, max_attempts,
          lease, created_at

-- name: tasks.get
SELECT id, tenant_id, capability, type, priority, status, payload, agent, epoch, attempts, max_attempts, lease,
       created_at
FROM tasks WHERE tenant_id = ?1 AND id = ?2

-- name: tasks.renew
-- A lease that has run out stays so: the task may be with another agent already.
UPDATE tasks SET lease_until = {now} + lease, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND epoch = ?3 AND status = 'claimed' AND lease_until > {now}
RETURNING id

-- name: tasks.lock
-- BEGIN IMMEDIATE is the lock.
SELECT status, epoch, attempts, max_attempts, execution, path FROM tasks WHERE tenant_id = ?1 AND id = ?2

-- name: tasks.end
UPDATE tasks
SET status = ?3, result = ?4, error = ?5, lease_until = NULL, finished_at = {now}, revision = revision + 1,
    updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2

-- name: tasks.give_back
UPDATE tasks
SET status = 'pending', agent = NULL, lease_until = NULL, error = ?3, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2

-- name: tasks.lapsed
SELECT tenant_id, id, epoch FROM tasks
WHERE status = 'claimed' AND lease_until <= {now} ORDER BY lease_until LIMIT ?1

-- name: tasks.requeue
-- Its epoch rises: an agent that had it before can not end it.
UPDATE tasks
SET status = ?3, agent = NULL, epoch = epoch + 1, attempts = 0, result = NULL, error = NULL, lease_until = NULL,
    finished_at = NULL, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2

-- name: tasks.agents_of
-- The agents that have carried out steps of an execution: ids of such tasks begin with the execution's id and `:`.
SELECT DISTINCT agent FROM tasks
WHERE tenant_id = ?1 AND id >= ?2 || ':' AND id < ?2 || ';' AND execution = ?3 AND agent IS NOT NULL ORDER BY agent
