-- Conversations, their messages, and what their models were given to see.

-- name: conversations.append
-- The totals move first: what is numbered is numbered from them.
UPDATE conversations
SET message_count = message_count + ?4, prompt_tokens = prompt_tokens + ?5,
    completion_tokens = completion_tokens + ?6, cost_micros = cost_micros + ?7,
    last_message_at = max(coalesce(last_message_at, 0), {now}), updated_at = {now}, revision = revision + 1
WHERE tenant_id = ?1 AND id = ?2 AND status = 'active'
-- then
INSERT INTO messages (tenant_id, id, revision, created_at, updated_at, conversation_id, seq, role, content,
    tool_calls, tool_call_id, name, tool_result, model, prompt_tokens, completion_tokens, cost_micros, metadata,
    words_first, words_rest)
SELECT c.tenant_id, g.value ->> 'id', 1, c.last_message_at, c.last_message_at, c.id,
    c.message_count - ?4 + 1 + g.key, g.value ->> 'role', g.value ->> 'content', g.value ->> 'tool_calls',
    g.value ->> 'tool_call_id', g.value ->> 'name', unhex(g.value ->> 'tool_result'), g.value ->> 'model',
    g.value ->> 'prompt_tokens', g.value ->> 'completion_tokens', g.value ->> 'cost_micros',
    g.value ->> 'metadata', g.value ->> 'words_first', g.value ->> 'words_rest'
FROM conversations c, json_each(?3) g
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
-- Numbers have no gaps, so the newest are known by their numbers. CROSS JOIN keeps the order of the tables.
SELECT m.id, m.revision, m.created_at, m.updated_at, m.conversation_id, m.seq, m.role, m.content, m.tool_calls,
    m.tool_call_id, m.name, m.tool_result, m.model, m.prompt_tokens, m.completion_tokens, m.cost_micros, m.rating,
    m.comment, m.rated_at, m.redacted_at, m.metadata
FROM conversations c CROSS JOIN messages m
WHERE c.tenant_id = ?1 AND c.id IN (SELECT value FROM json_each(?2))
  AND m.tenant_id = ?1 AND m.conversation_id = c.id AND m.seq > c.message_count - ?3
ORDER BY m.conversation_id, m.seq

-- name: conversations.rate
UPDATE messages
SET rating = ?3, comment = ?4, rated_at = CASE WHEN ?3 IS NOT NULL OR ?4 IS NOT NULL THEN {now} END,
    updated_at = {now}, revision = revision + 1
WHERE tenant_id = ?1 AND id = ?2 RETURNING id

-- name: conversations.redact
UPDATE messages
SET content = ?3, words_first = ?4, words_rest = '', tool_calls = '[]', tool_result = NULL, comment = NULL,
    metadata = '{}', redacted_at = {now}, updated_at = {now}, revision = revision + 1
WHERE tenant_id = ?1 AND id = ?2 RETURNING id

-- name: conversations.forget_contexts
DELETE FROM context_snapshots WHERE tenant_id = ?1 AND conversation_id = ?2 AND seq >= ?3

-- name: conversations.context_chain
-- From the last whole snapshot to the newest that was taken at or before a message.
SELECT s.number, s.base, s.seq, s.body, s.digest
FROM (SELECT number, base FROM context_snapshots WHERE tenant_id = ?1 AND conversation_id = ?2 AND seq <= ?3
      ORDER BY seq DESC, number DESC LIMIT 1) newest
CROSS JOIN context_snapshots s
WHERE s.tenant_id = ?1 AND s.conversation_id = ?2 AND s.number BETWEEN newest.base AND newest.number
ORDER BY s.number
