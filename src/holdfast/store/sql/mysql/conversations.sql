-- Conversations, their messages, and what their models were given to see.

-- name: conversations.append
-- The totals move first, which locks the conversation's row: what is numbered is numbered from them.
UPDATE conversations
SET message_count = message_count + ?4, prompt_tokens = prompt_tokens + ?5,
    completion_tokens = completion_tokens + ?6, cost_micros = cost_micros + ?7,
    last_message_at = GREATEST(COALESCE(last_message_at, {now}), {now}), updated_at = {now},
    revision = revision + 1
WHERE tenant_id = ?1 AND id = ?2 AND status = 'active'
-- then
INSERT INTO messages (tenant_id, id, revision, created_at, updated_at, conversation_id, seq, role, content,
    tool_calls, tool_call_id, name, tool_result, model, prompt_tokens, completion_tokens, cost_micros, metadata,
    words_first, words_rest)
SELECT c.tenant_id, g.id, 1, c.last_message_at, c.last_message_at, c.id, c.message_count - ?4 + g.place, g.role,
    g.content, g.tool_calls, g.tool_call_id, g.name, UNHEX(g.tool_result), g.model, g.prompt_tokens,
    g.completion_tokens, g.cost_micros, g.metadata, g.words_first, g.words_rest
FROM conversations c CROSS JOIN JSON_TABLE(?3, '$[*]' COLUMNS (
    place FOR ORDINALITY,
    id VARCHAR(255) CHARACTER SET utf8mb4 PATH '$.id',
    role VARCHAR(9) CHARACTER SET utf8mb4 PATH '$.role',
    content LONGTEXT CHARACTER SET utf8mb4 PATH '$.content',
    tool_calls LONGTEXT CHARACTER SET utf8mb4 PATH '$.tool_calls',
    tool_call_id LONGTEXT CHARACTER SET utf8mb4 PATH '$.tool_call_id',
    name LONGTEXT CHARACTER SET utf8mb4 PATH '$.name',
    tool_result LONGTEXT CHARACTER SET utf8mb4 PATH '$.tool_result',
    model LONGTEXT CHARACTER SET utf8mb4 PATH '$.model',
    prompt_tokens BIGINT PATH '$.prompt_tokens',
    completion_tokens BIGINT PATH '$.completion_tokens',
    cost_micros BIGINT PATH '$.cost_micros',
    metadata LONGTEXT CHARACTER SET utf8mb4 PATH '$.metadata',
    words_first LONGTEXT CHARACTER SET utf8mb4 PATH '$.words_first',
    words_rest LONGTEXT CHARACTER SET utf8mb4 PATH '$.words_rest'
)) AS g
WHERE c.tenant_id = ?1 AND c.id = ?2 AND c.status = 'active'
-- then
SELECT message_count - ?4, last_message_at FROM conversations
WHERE tenant_id = ?1 AND id = ?2 AND status = 'active'

-- name: conversations.messages_after
SELECT id, revision, created_at, updated_at, conversation_id, seq, role, content, tool_calls, tool_call_id, name,
    tool_result, model, prompt_tokens, completion_tokens, cost_micros, rating, comment, rated_at, redacted_at,
    metadata
FROM messages WHERE tenant_id = ?1 AND conversation_id = ?2 AND seq > ?3 AND seq < ?4 ORDER BY seq LIMIT ?5

-- name: conversations.messages_before
SELECT id, revision, created_at, updated_at, conversation_id, seq, role, content, tool_calls, tool_call_id, name,
    tool_result, model, prompt_tokens, completion_tokens, cost_micros, rating, comment, rated_at, redacted_at,
    metadata
FROM messages WHERE tenant_id = ?1 AND conversation_id = ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4

-- name: conversations.newest_messages
-- Numbers have no gaps, so the newest are looked up by number, one by one: a range whose bound comes from another
-- table would read all messages of a conversation.
WITH RECURSIVE backwards (step) AS (
    SELECT 0 UNION ALL SELECT step + 1 FROM backwards WHERE step + 1 < ?3
)
SELECT m.id, m.revision, m.created_at, m.updated_at, m.conversation_id, m.seq, m.role, m.content, m.tool_calls,
    m.tool_call_id, m.name, m.tool_result, m.model, m.prompt_tokens, m.completion_tokens, m.cost_micros, m.rating,
    m.comment, m.rated_at, m.redacted_at, m.metadata
FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 PATH '$')) AS listed
STRAIGHT_JOIN conversations c ON c.tenant_id = ?1 AND c.id = listed.v COLLATE {binary}
STRAIGHT_JOIN backwards ON backwards.step < c.message_count
STRAIGHT_JOIN messages m ON m.tenant_id = ?1 AND m.conversation_id = c.id AND m.seq = c.message_count - backwards.step
ORDER BY m.conversation_id, m.seq

-- name: conversations.rate
UPDATE messages
SET rating = ?3, comment = ?4, rated_at = CASE WHEN ?3 IS NOT NULL OR ?4 IS NOT NULL THEN {now} END,
    updated_at = {now}, revision = revision + 1
WHERE tenant_id = ?1 AND id = ?2
-- then
SELECT id FROM messages WHERE tenant_id = ?1 AND id = ?2

-- name: conversations.redact
UPDATE messages
SET content = ?3, words_first = ?4, words_rest = '', tool_calls = '[]', tool_result = NULL, comment = NULL,
    metadata = '{}', redacted_at = {now}, updated_at = {now}, revision = revision + 1
WHERE tenant_id = ?1 AND id = ?2
-- then
SELECT id FROM messages WHERE tenant_id = ?1 AND id = ?2

-- name: conversations.forget_contexts
DELETE FROM context_snapshots WHERE tenant_id = ?1 AND conversation_id = ?2 AND seq >= ?3

-- name: conversations.context_chain
-- From the last whole snapshot to the newest that was taken at or before a message. The bounds are looked up
-- first: a range whose bounds come from another table would read all snapshots.
SET @hf_base = NULL, @hf_number = NULL
-- then
SELECT base, number INTO @hf_base, @hf_number FROM context_snapshots
WHERE tenant_id = ?1 AND conversation_id = ?2 AND seq <= ?3 ORDER BY seq DESC, number DESC LIMIT 1
-- then
SELECT number, base, seq, body, digest FROM context_snapshots
WHERE tenant_id = ?1 AND conversation_id = ?2 AND number BETWEEN @hf_base AND @hf_number ORDER BY number
