-- name: workers.register
INSERT INTO {schema}.workers (boot_id, program, host, pid, started_at, lease_until)
VALUES ($1, $2, $3, $4, {now}, {now} + $5::interval)

-- name: workers.renew
-- A lease that has run out stays so: its executions may be taken already.
UPDATE {schema}.workers SET lease_until = {now} + $2::interval WHERE boot_id = $1 AND lease_until > {now}
RETURNING boot_id

-- name: workers.lock
-- How much of the lease is left, in microseconds; the row lock keeps a renewal out until the takeover is done.
SELECT host, pid, (extract(epoch FROM lease_until - {now}) * 1000000)::bigint
FROM {schema}.workers WHERE boot_id = $1 FOR UPDATE

-- name: workers.lease_left
-- The same for those who only look: no lock.
SELECT (extract(epoch FROM lease_until - {now}) * 1000000)::bigint FROM {schema}.workers WHERE boot_id = $1

-- name: workers.leave
-- What it could not hand back is for others at once: the row stays until a sweep has put that back.
UPDATE {schema}.workers SET lease_until = {now} WHERE boot_id = $1

-- name: workers.forget_dead
-- Registrations of processes that own nothing any more.
DELETE FROM {schema}.workers w
WHERE w.lease_until < {now} - interval '1 day'
  AND NOT EXISTS (SELECT FROM {schema}.executions e WHERE e.owner = w.boot_id AND e.finished_at IS NULL)
