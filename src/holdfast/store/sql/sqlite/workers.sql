-- name: workers.register
INSERT INTO workers (boot_id, program, host, pid, started_at, lease_until)
VALUES (?1, ?2, ?3, ?4, {now}, {now} + ?5)

-- name: workers.renew
-- A lease that has run out stays so: its executions may be taken already.
UPDATE workers SET lease_until = {now} + ?2 WHERE boot_id = ?1 AND lease_until > {now}
RETURNING boot_id

-- name: workers.lock
-- How much of the lease is left, in microseconds. BEGIN IMMEDIATE keeps a renewal out.
SELECT host, pid, lease_until - {now} FROM workers WHERE boot_id = ?1

-- name: workers.lease_left
-- The same for those who only look: no lock.
SELECT lease_until - {now} FROM workers WHERE boot_id = ?1

-- name: workers.leave
-- What it could not hand back is for others at once: the row stays until a sweep has put that back.
UPDATE workers SET lease_until = {now} WHERE boot_id = ?1

-- name: workers.forget_dead
-- Registrations of processes that own nothing any more.
DELETE FROM workers
WHERE lease_until < {now} - 86400000000
  AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.owner = workers.boot_id AND e.finished_at IS NULL)
