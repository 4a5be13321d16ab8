-- The statements of one flush. Each is one autocommitted statement: one round trip, one commit.
-- Each has two forms. Events are nearly always new, and inserting them as if a conflict were likely costs a third
-- of the server's time; so the first form lets a unique index refuse the whole batch, and only then it is sent
-- again in the form that has what stands behind "careful:".

-- name: journal.append
-- One plan is made for good, often while a table is all but empty: joins with tables are spelled `= ANY (ARRAY[…])`,
-- which can only be answered by a search in an index for each row. For `=` the planner may read a short index as a
-- whole, and goes on to do so when it has become long.
--
-- The hot path: entries that are only events. `fence` takes the row locks where the epoch still matches; every
-- row is selected from the locked set, so a takeover comes wholly before or wholly after this statement. A row
-- locked elsewhere is skipped, never waited for. One row comes back: how many events were written, and the
-- `wakes` of the executions that have any.
WITH fence AS MATERIALIZED (
    SELECT e.key, e.tenant_id, e.epoch, e.wakes
    FROM unnest($1::bytea[], $2::bigint[]) AS asked(key, epoch)
    JOIN {schema}.executions e ON e.key = ANY (ARRAY[asked.key]) AND e.epoch = asked.epoch
    FOR NO KEY UPDATE OF e SKIP LOCKED
), written AS (
    INSERT INTO {schema}.events (execution, seq, epoch, type, path, generation, ordinal, attempt, result,
                                 duration_us, input_digest, input, payload, payload_ref, tenant_id, at)
    SELECT v.*, fence.tenant_id, {now}
    FROM unnest($3::{schema}.flush_event[]) AS v
    JOIN fence ON fence.key = v.execution AND fence.epoch = v.epoch
    -- careful: ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM written),
       (SELECT array_agg(key) FROM fence WHERE wakes > 0),
       (SELECT array_agg(wakes) FROM fence WHERE wakes > 0)

-- name: journal.flush
-- The same for entries that also create an execution, change its row, take a message, leave one in another
-- execution's inbox, or carry a large value. `effect` holds what happens beside an event; `blocked` are the
-- entries that must not be written because a message came before their suspension or because a receiver's row
-- is locked elsewhere; `done` are the effects whose event was written, so that an entry is written whole or not
-- at all. The two sets are asked for in a form that the planner can only answer by hashing: a join would be
-- planned as a nested loop, because nothing is known about the size of arrays.
WITH fence AS MATERIALIZED (
    SELECT e.key, e.tenant_id, e.epoch, e.wakes
    FROM unnest($1::bytea[], $2::bigint[]) AS asked(key, epoch)
    JOIN {schema}.executions e ON e.key = ANY (ARRAY[asked.key]) AND e.epoch = asked.epoch
    FOR NO KEY UPDATE OF e SKIP LOCKED
), receivers AS MATERIALIZED (
    SELECT e.key FROM {schema}.executions e WHERE e.key = ANY ($3::bytea[]) FOR NO KEY UPDATE SKIP LOCKED
), created AS (
    INSERT INTO {schema}.executions (key, tenant_id, id, workflow, version, definition, fingerprint, status,
                                     queue, class, priority, due_at, owner, epoch, parent, parent_path, limit_key,
                                     dedupe_key, detached, created_at)
    SELECT n.key, n.tenant_id, n.id, n.workflow, n.version, n.definition, n.fingerprint, n.status, n.queue,
           n.class, n.priority, {now} + n.due_in_us * interval '1 microsecond', n.owner, n.epoch, n.parent,
           n.parent_path, n.limit_key, n.dedupe_key, n.detached, {now}
    FROM unnest($4::{schema}.flush_start[]) AS n
    ON CONFLICT DO NOTHING
    RETURNING key, tenant_id, epoch
), held AS MATERIALIZED (
    SELECT key, tenant_id, epoch FROM fence
    UNION ALL
    SELECT key, tenant_id, epoch FROM created
), effect AS MATERIALIZED (
    SELECT * FROM unnest($6::{schema}.flush_effect[])
), blocked AS MATERIALIZED (
    SELECT effect.execution, effect.seq
    FROM effect LEFT JOIN fence ON fence.key = effect.execution
    WHERE (effect.expect_wakes IS NOT NULL AND effect.expect_wakes IS DISTINCT FROM fence.wakes)
       OR (effect.post_target IS NOT NULL AND effect.post_target NOT IN (SELECT key FROM receivers))
), written AS (
    INSERT INTO {schema}.events (execution, seq, epoch, type, path, generation, ordinal, attempt, result,
                                 duration_us, input_digest, input, payload, payload_ref, tenant_id, at)
    SELECT v.*, held.tenant_id, {now}
    FROM unnest($5::{schema}.flush_event[]) AS v
    JOIN held ON held.key = v.execution AND held.epoch = v.epoch
    WHERE (v.execution, v.seq) NOT IN (SELECT execution, seq FROM blocked)
    -- careful: ON CONFLICT DO NOTHING
    RETURNING execution, seq
), done AS MATERIALIZED (
    SELECT effect.* FROM effect
    WHERE ((execution, seq) IN (SELECT execution, seq FROM written)) IS TRUE
), detailed AS (
    INSERT INTO {schema}.execution_details (execution, tenant_id, tags, trigger_source, started_by, metadata,
                                            context)
    SELECT execution, (SELECT tenant_id FROM held WHERE key = execution),
           ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), trigger_source, started_by, metadata::json,
           context::json
    FROM done WHERE trigger_source IS NOT NULL
), stored AS (
    INSERT INTO {schema}.payloads (execution, digest, tenant_id, body)
    SELECT DISTINCT ON (execution, digest) execution, digest,
           (SELECT tenant_id FROM held WHERE key = execution), body
    FROM done WHERE body IS NOT NULL
    ON CONFLICT DO NOTHING
), moved AS (
    UPDATE {schema}.executions e
    SET status = done.new_status,
        due_at = {now} + done.due_in_us * interval '1 microsecond',
        finished_at = CASE WHEN done.final THEN {now} END,
        owner = CASE done.new_status WHEN 'running' THEN e.owner END
    FROM done
    WHERE e.key = ANY (ARRAY[done.execution]) AND done.new_status IS NOT NULL
), freed AS (
    UPDATE {schema}.slots s SET holder = NULL
    FROM done
    WHERE s.holder = ANY (ARRAY[done.execution]) AND done.new_status <> 'running' AND done.execution = ANY ($7::bytea[])
), taken AS (
    DELETE FROM {schema}.inbox i USING done
    WHERE i.execution = ANY (ARRAY[done.execution]) AND i.message = done.take AND done.take IS NOT NULL
), posted AS (
    INSERT INTO {schema}.inbox (execution, message, tenant_id, kind, name, payload, created_at)
    SELECT post_target, post_message, (SELECT tenant_id FROM held WHERE key = execution), post_kind, post_name,
           post_payload, {now}
    FROM done WHERE post_target IS NOT NULL
    ON CONFLICT DO NOTHING
), woken AS (
    -- Unconditional and by primary key: the receiver compares `wakes`, so a message is never overlooked. Said plainly,
    -- `finished_at IS NULL` would let the planner go through all that is unfinished.
    UPDATE {schema}.executions e
    SET wakes = e.wakes + p.messages,
        status = CASE e.status WHEN 'waiting' THEN 'ready' ELSE e.status END
    FROM (SELECT post_target, count(*) AS messages FROM done WHERE post_target IS NOT NULL GROUP BY 1) p
    WHERE e.key = ANY (ARRAY[p.post_target]) AND coalesce(e.finished_at, 'infinity') = 'infinity'
)
SELECT (SELECT count(*) FROM written),
       (SELECT array_agg(key) FROM fence WHERE wakes > 0),
       (SELECT array_agg(wakes) FROM fence WHERE wakes > 0)

-- name: journal.examine
-- A new statement that tells what became of each entry of a batch that was not written as a whole: whether its
-- event stands (ours, now or by an earlier try), whether its place is taken, and what the execution's row says.
SELECT own.epoch IS NOT NULL AND own.epoch = v.epoch,
       own.epoch IS NOT NULL OR rival.seq IS NOT NULL OR (v.new_id IS NOT NULL AND namesake.key IS NOT NULL)
           OR (v.dedupe_key IS NOT NULL AND twin.key IS NOT NULL),
       e.epoch IS NOT NULL AND e.epoch = v.epoch,
       e.wakes,
       v.post_target IS NOT NULL AND receiver.key IS NULL
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::integer[], $6::boolean[], $7::text[],
            $8::text[], $9::bytea[], $10::text[], $11::text[])
     WITH ORDINALITY AS v(execution, seq, epoch, path, generation, result, new_tenant, new_id, post_target,
                          new_queue, dedupe_key, no)
LEFT JOIN {schema}.executions e ON e.key = ANY (ARRAY[v.execution])
LEFT JOIN {schema}.events own ON own.execution = ANY (ARRAY[v.execution]) AND own.seq = v.seq
LEFT JOIN LATERAL (SELECT r.seq FROM {schema}.events r
                   WHERE r.execution = v.execution AND r.path = v.path AND r.generation = v.generation AND r.result
                   LIMIT 1) rival ON v.result
LEFT JOIN {schema}.executions namesake
       ON namesake.tenant_id = ANY (ARRAY[v.new_tenant]) AND namesake.id = v.new_id AND namesake.key <> v.execution
LEFT JOIN LATERAL (SELECT t.key FROM {schema}.executions t
                   WHERE t.tenant_id = v.new_tenant AND t.queue = v.new_queue AND t.dedupe_key = v.dedupe_key
                     AND t.finished_at IS NULL AND t.key <> v.execution LIMIT 1) twin ON true
LEFT JOIN LATERAL (SELECT x.key FROM {schema}.executions x WHERE x.key = v.post_target LIMIT 1) receiver ON true
ORDER BY v.no

-- name: journal.put_payload
-- The digest names the content, so a second copy is the same value.
INSERT INTO {schema}.payloads (execution, digest, tenant_id, body) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
