-- name: events.history
-- Everything a replay needs, in one statement. Inputs stay behind: only their digests are compared.
SELECT e.seq, e.type, e.path, e.generation, e.ordinal, e.attempt, e.epoch, e.result, e.at, e.duration_us,
       e.input_digest, coalesce(e.payload, p.body)
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1
ORDER BY e.seq

-- name: events.end
-- How an execution ended. An end that a retry took back is none.
SELECT e.type, coalesce(e.payload, p.body)
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.type IN ('execution.completed', 'execution.failed', 'execution.cancelled')
  AND NOT EXISTS (SELECT 1 FROM events r
                  WHERE r.execution = e.execution AND r.type = 'step.reset' AND r.seq > e.seq)
ORDER BY e.seq DESC LIMIT 1

-- name: events.waits
-- What an execution waits for, as it said when it was suspended.
SELECT coalesce(e.payload, p.body)
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.type = 'execution.suspended'
ORDER BY e.seq DESC LIMIT 1

-- name: events.input
SELECT input FROM events
WHERE execution = ?1 AND path = ?2 AND generation = ?3 AND input IS NOT NULL LIMIT 1

-- name: events.page
SELECT e.seq, e.type, e.path, e.attempt, e.at, e.duration_us, coalesce(e.payload, p.body), e.payload_ref,
       e.generation, e.input, e.position
FROM events e
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.seq > ?2
ORDER BY e.seq LIMIT ?3

-- name: events.eras
-- How many eras there are, and whether anything lies behind the positions that the newest began with.
SELECT (SELECT count(*) FROM log_eras),
       coalesce((SELECT max(position) FROM events), 0) > l.events_before
       OR coalesce((SELECT max(position) FROM stream_events), 0) > l.stream_events_before
FROM log_eras l ORDER BY l.era DESC LIMIT 1

-- name: events.begin_era
-- Begins a new era; see `log_eras`. Committed before old ones are looked at: whoever begins to write then finds it.
INSERT INTO log_eras (era, events_before, stream_events_before)
SELECT l.era + 1, coalesce((SELECT max(position) FROM events), 0),
       coalesce((SELECT max(position) FROM stream_events), 0)
FROM log_eras l ORDER BY l.era DESC LIMIT 1
ON DUPLICATE KEY UPDATE era = log_eras.era

-- name: events.end_eras
-- Marks the old eras in which nobody writes any more, and names them. InnoDB shows a commit to others a moment
-- before it is on disk: of what a reader is told then, a power cut could take the events and the end of their
-- era away together. Whoever has committed a mark knows that all before it is on disk.
SET @hf_over = NULL
-- then
SELECT max(era) INTO @hf_newest FROM log_eras
-- then
SELECT JSON_ARRAYAGG(over_.era) INTO @hf_over
FROM (SELECT era FROM log_eras WHERE era < @hf_newest FOR UPDATE SKIP LOCKED) over_
-- then
UPDATE JSON_TABLE(@hf_over, '$[*]' COLUMNS (era BIGINT PATH '$')) j
STRAIGHT_JOIN log_eras l ON l.era = j.era
SET l.marks = l.marks + 1
-- then
SELECT @hf_over

-- name: events.remove_eras
-- Removes the eras that this process has marked, and so tells everybody that they are complete and on disk.
DELETE l FROM JSON_TABLE(?1, '$[*]' COLUMNS (era BIGINT PATH '$')) j
STRAIGHT_JOIN log_eras l ON l.era = j.era

-- name: events.follow
-- Nothing can appear at or below the positions that the oldest era began with. The page is cut before it is joined:
-- planned as one, a large store would be read as a whole for every page.
SET @hf_before = NULL
-- then
SELECT events_before INTO @hf_before FROM log_eras ORDER BY era LIMIT 1
-- then
SELECT e.seq, e.type, e.path, e.attempt, e.at, e.duration_us, coalesce(e.payload, p.body), e.payload_ref,
       e.generation, e.input, e.position, e.execution, x.id
FROM (SELECT * FROM events FORCE INDEX (events_log_order)
      WHERE position > ?1 AND position <= @hf_before AND tenant_id = ?3 ORDER BY position LIMIT ?2) e
JOIN executions x ON x.`key` = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
ORDER BY e.position

-- name: events.whole
-- The same of all tenants, with all that an event has: what a copy of the log is written from. With ?3 all that can be
-- seen now, behind which more may appear.
SET @hf_before = NULL
-- then
SELECT events_before INTO @hf_before FROM log_eras ORDER BY era LIMIT 1
-- then
SELECT e.execution, e.seq, e.tenant_id, e.epoch, e.type, e.path, e.generation, e.ordinal, e.attempt, e.result, e.at,
       e.duration_us, e.input_digest, e.input, coalesce(e.payload, p.body), e.payload_ref, x.id, e.position
FROM (SELECT * FROM events FORCE INDEX (events_log_order)
      WHERE position > ?1 AND (?3 OR position <= @hf_before) ORDER BY position LIMIT ?2) e
JOIN executions x ON x.`key` = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
ORDER BY e.position

-- name: events.birth
-- What tells one store from another that stood in its place.
SELECT CAST(applied_at AS CHAR) FROM schema_migrations ORDER BY version LIMIT 1

-- name: events.whole_page
SELECT e.execution, e.seq, e.tenant_id, e.epoch, e.type, e.path, e.generation, e.ordinal, e.attempt, e.result, e.at,
       e.duration_us, e.input_digest, e.input, coalesce(e.payload, p.body), e.payload_ref, x.id, e.position
FROM events e
STRAIGHT_JOIN executions x ON x.`key` = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE e.execution = ?1 AND e.seq > ?2
ORDER BY e.seq LIMIT ?3

-- name: events.mark
-- Where a follower that only wants what comes begins.
SELECT events_before FROM log_eras ORDER BY era LIMIT 1

-- name: events.gaps
-- Executions whose numbers do not run from 1 without a hole.
SELECT x.id, count(*), min(e.seq), max(e.seq)
FROM events e JOIN executions x ON x.`key` = e.execution
WHERE x.tenant_id = ?1 GROUP BY x.id HAVING min(e.seq) <> 1 OR max(e.seq) <> count(*) ORDER BY x.id

-- name: events.orphans
-- Events that refer to a value nobody stored.
SELECT x.id, e.seq, e.path
FROM events e
JOIN executions x ON x.`key` = e.execution
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
WHERE x.tenant_id = ?1 AND e.payload_ref IS NOT NULL AND p.digest IS NULL ORDER BY x.id, e.seq

-- name: events.ends
-- Executions whose row and log tell different ends.
SELECT x.id, x.status, e.type
FROM executions x
LEFT JOIN events e ON e.execution = x.`key`
     AND e.type IN ('execution.completed', 'execution.failed', 'execution.cancelled')
     AND NOT EXISTS (SELECT 1 FROM events r
                     WHERE r.execution = e.execution AND r.type = 'step.reset' AND r.seq > e.seq)
WHERE x.tenant_id = ?1
  AND coalesce(CONCAT('execution.', CASE WHEN x.finished_at IS NOT NULL THEN x.status END), '')
      <> coalesce(e.type, '')
ORDER BY x.id

-- name: events.last_seq
SELECT coalesce(max(seq), 0) FROM events WHERE execution = ?1
