-- Conversations, their messages, and what their models were given to see.

-- name: conversations.append
-- One round trip: the row of the conversation is locked by its update, and what is written is numbered from what
-- that update gave back. The time never goes backwards along the numbers, though transactions may begin in
-- another order than they get the lock.
WITH moved AS (
    UPDATE {schema}.conversations
    SET message_count = message_count + $4::bigint, prompt_tokens = prompt_tokens + $5::bigint,
        completion_tokens = completion_tokens + $6::bigint, cost_micros = cost_micros + $7::bigint,
        last_message_at = greatest(last_message_at, {now}), updated_at = {now}, revision = revision + 1
    WHERE tenant_id = $1 AND id = $2 AND status = 'active'
    RETURNING tenant_id, id, message_count - $4::bigint AS before, last_message_at AS at
), written AS (
    INSERT INTO {schema}.messages (tenant_id, id, revision, created_at, updated_at, conversation_id, seq, role,
        content, tool_calls, tool_call_id, name, tool_result, model, prompt_tokens, completion_tokens,
        cost_micros, metadata, words_first, words_rest)
    SELECT m.tenant_id, g.id, 1, m.at, m.at, m.id, m.before + g.place, g.role, g.content, g.tool_calls::json,
        g.tool_call_id, g.name, decode(g.tool_result, 'hex'), g.model, g.prompt_tokens, g.completion_tokens,
        g.cost_micros, g.metadata::json, g.words_first, g.words_rest
    FROM moved m, ROWS FROM (
        json_to_recordset($3::json) AS (
            id text, role text, content text, tool_calls text, tool_call_id text, name text, tool_result text,
            model text, prompt_tokens bigint, completion_tokens bigint, cost_micros bigint, metadata text,
            words_first text, words_rest text
        )
    ) WITH ORDINALITY AS g (
        id, role, content, tool_calls, tool_call_id, name, tool_result, model, prompt_tokens, completion_tokens,
        cost_micros, metadata, words_first, words_rest, place
    )
)
SELECT before, at FROM moved

-- name: conversations.messages_after
SELECT id, revision, created_at, updated_at, conversation_id, seq, role, content, tool_calls, tool_call_id, name,
    tool_result, model, prompt_tokens, completion_tokens, cost_micros, rating, comment, rated_at, redacted_at,
    metadata
FROM {schema}.messages WHERE tenant_id = $1 AND conversation_id = $2 AND seq > $3 AND seq < $4
ORDER BY seq LIMIT $5

-- name: conversations.messages_before
SELECT id, revision, created_at, updated_at, conversation_id, seq, role, content, tool_calls, tool_call_id, name,
    tool_result, model, prompt_tokens, completion_tokens, cost_micros, rating, comment, rated_at, redacted_at,
    metadata
FROM {schema}.messages WHERE tenant_id = $1 AND conversation_id = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4

-- name: conversations.newest_messages
-- Numbers have no gaps, so the newest are known by their numbers. The limit has each conversation read by index.
SELECT m.id, m.revision, m.created_at, m.updated_at, m.conversation_id, m.seq, m.role, m.content, m.tool_calls,
    m.tool_call_id, m.name, m.tool_result, m.model, m.prompt_tokens, m.completion_tokens, m.cost_micros, m.rating,
    m.comment, m.rated_at, m.redacted_at, m.metadata
FROM {schema}.conversations c
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.messages
    WHERE tenant_id = c.tenant_id AND conversation_id = c.id AND seq > c.message_count - $3::bigint
    ORDER BY seq LIMIT $3::bigint
) m
WHERE c.tenant_id = $1 AND c.id = ANY ($2::text[])
ORDER BY m.conversation_id, m.seq

-- name: conversations.rate
UPDATE {schema}.messages
SET rating = $3::bigint, comment = $4::text,
    rated_at = CASE WHEN $3::bigint IS NOT NULL OR $4::text IS NOT NULL THEN {now} END,
    updated_at = {now}, revision = revision + 1
WHERE tenant_id = $1 AND id = $2 RETURNING id

-- name: conversations.redact
UPDATE {schema}.messages
SET content = $3, words_first = $4, words_rest = '', tool_calls = '[]', tool_result = NULL, comment = NULL,
    metadata = '{}', redacted_at = {now}, updated_at = {now}, revision = revision + 1
WHERE tenant_id = $1 AND id = $2 RETURNING id

-- name: conversations.forget_contexts
DELETE FROM {schema}.context_snapshots WHERE tenant_id = $1 AND conversation_id = $2 AND seq >= $3

-- name: conversations.context_chain
-- From the last whole snapshot to the newest that was taken at or before a message.
SELECT s.number, s.base, s.seq, s.body, s.digest
FROM (SELECT number, base FROM {schema}.context_snapshots
      WHERE tenant_id = $1 AND conversation_id = $2 AND seq <= $3
      ORDER BY seq DESC, number DESC LIMIT 1) newest
JOIN {schema}.context_snapshots s ON s.number BETWEEN newest.base AND newest.number
WHERE s.tenant_id = $1 AND s.conversation_id = $2
ORDER BY s.number
