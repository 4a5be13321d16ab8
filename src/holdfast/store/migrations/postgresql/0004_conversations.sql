-- +migrate Up

-- Conversations with language models. The totals stand here, so that showing a list reads no message; they change
-- with every message, and no index holds a column that does: with room on the page such a change touches no index.
CREATE TABLE {schema}.conversations (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    title text NOT NULL,
    status text COLLATE "C" NOT NULL CHECK (status IN ('active', 'archived')),
    user_id text COLLATE "C" CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    agent_id text COLLATE "C" CHECK (octet_length(agent_id) BETWEEN 1 AND 255),
    model_settings json NOT NULL,
    tags text[] NOT NULL,
    metadata json NOT NULL,
    message_count bigint NOT NULL CHECK (message_count >= 0),
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    -- Millionths of a unit of money.
    cost_micros bigint NOT NULL CHECK (cost_micros >= 0),
    last_message_at timestamptz,
    words_first text NOT NULL,
    words_rest text NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(string_to_array(words_first || ' ' || words_rest, ' '), ''))
    ) STORED,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT conversations_totals CHECK ((message_count = 0) = (last_message_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX conversations_by_age ON {schema}.conversations (tenant_id, created_at, id);
CREATE INDEX conversations_by_status ON {schema}.conversations (tenant_id, status, created_at, id);
CREATE INDEX conversations_of_user ON {schema}.conversations (tenant_id, user_id, created_at, id)
    WHERE user_id IS NOT NULL;
CREATE INDEX conversations_of_agent ON {schema}.conversations (tenant_id, agent_id, created_at, id)
    WHERE agent_id IS NOT NULL;
CREATE INDEX conversations_tags ON {schema}.conversations USING gin (tags);
CREATE INDEX conversations_search ON {schema}.conversations USING gin (search);

CREATE TABLE {schema}.messages (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    role text COLLATE "C" NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content text,
    tool_calls json NOT NULL,
    tool_call_id text COLLATE "C",
    name text COLLATE "C",
    tool_result bytea,
    model text COLLATE "C",
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    cost_micros bigint NOT NULL CHECK (cost_micros >= 0),
    rating bigint CHECK (rating IN (-1, 0, 1)),
    comment text,
    rated_at timestamptz,
    redacted_at timestamptz,
    metadata json NOT NULL,
    words_first text NOT NULL,
    words_rest text NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(string_to_array(words_first || ' ' || words_rest, ' '), ''))
    ) STORED,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, conversation_id, seq),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES {schema}.conversations (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX messages_by_age ON {schema}.messages (tenant_id, created_at, id);
CREATE INDEX messages_rated ON {schema}.messages (tenant_id, rating, created_at, id) WHERE rating IS NOT NULL;
CREATE INDEX messages_search ON {schema}.messages USING gin (search);

-- What a model was given to see, as changes since the snapshot before; `base` is the last that is whole.
CREATE TABLE {schema}.context_snapshots (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    seq bigint NOT NULL CHECK (seq >= 0),
    base bigint NOT NULL CHECK (base > 0),
    body bytea,
    digest bytea NOT NULL CHECK (octet_length(digest) = 16),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, conversation_id, number),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES {schema}.conversations (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT context_snapshots_base CHECK (base <= number)
);
CREATE INDEX context_snapshots_by_seq ON {schema}.context_snapshots (tenant_id, conversation_id, seq, number);
CREATE INDEX context_snapshots_by_age ON {schema}.context_snapshots (tenant_id, created_at, id);

-- +migrate Down
DROP TABLE {schema}.context_snapshots;
DROP TABLE {schema}.messages;
DROP TABLE {schema}.conversations;
