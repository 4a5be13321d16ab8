-- name: workers.register
INSERT INTO workers (boot_id, program, host, pid, started_at, lease_until)
VALUES (?1, ?2, ?3, ?4, {now}, {now} + INTERVAL ?5 MICROSECOND)

-- name: workers.renew
-- A lease that has run out stays so: its executions may be taken already.
UPDATE workers SET lease_until = {now} + INTERVAL ?2 MICROSECOND WHERE boot_id = ?1 AND lease_until > {now}
-- then
SELECT ?1 AS done FROM DUAL WHERE ROW_COUNT() > 0

-- name: workers.lock
-- How much of the lease is left, in microseconds; the row lock keeps a renewal out until the takeover is done.
SELECT host, pid, TIMESTAMPDIFF(MICROSECOND, {now}, lease_until) FROM workers WHERE boot_id = ?1 FOR UPDATE

-- name: workers.lease_left
-- The same for those who only look: no lock.
SELECT TIMESTAMPDIFF(MICROSECOND, {now}, lease_until) FROM workers WHERE boot_id = ?1

-- name: workers.leave
-- What it could not hand back is for others at once: the row stays until a sweep has put that back.
UPDATE workers SET lease_until = {now} WHERE boot_id = ?1

-- name: workers.forget_dead
-- Registrations of processes that own nothing any more. They are looked for apart: a DELETE would lock the
-- executions that it looks at.
SET @hf_boots = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(w.boot_id)) INTO @hf_boots
FROM workers w
WHERE w.lease_until < {now} - INTERVAL 1 DAY AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.owner = w.boot_id)
-- then
DELETE w FROM JSON_TABLE(@hf_boots, '$[*]' COLUMNS (boot CHAR(32) PATH '$')) j
STRAIGHT_JOIN workers w ON w.boot_id = UNHEX(j.boot)
