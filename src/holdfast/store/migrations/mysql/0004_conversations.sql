-- +migrate Up

-- Conversations with language models. The totals stand here, so that showing a list reads no message; they change
-- with every message, and no index holds a column that does.
CREATE TABLE conversations (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    title LONGTEXT NOT NULL,
    status VARCHAR(8) NOT NULL CHECK (status IN ('active', 'archived')),
    user_id VARCHAR(255) CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    agent_id VARCHAR(255) CHECK (octet_length(agent_id) BETWEEN 1 AND 255),
    model_settings LONGTEXT NOT NULL,
    tags LONGTEXT NOT NULL,
    metadata LONGTEXT NOT NULL,
    message_count BIGINT NOT NULL CHECK (message_count >= 0),
    prompt_tokens BIGINT NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens BIGINT NOT NULL CHECK (completion_tokens >= 0),
    -- Millionths of a unit of money.
    cost_micros BIGINT NOT NULL CHECK (cost_micros >= 0),
    last_message_at DATETIME(6),
    words_first LONGTEXT NOT NULL,
    words_rest LONGTEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT conversations_totals CHECK ((message_count = 0) = (last_message_at IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX conversations_by_age ON conversations (tenant_id, created_at, id);
CREATE INDEX conversations_by_status ON conversations (tenant_id, status, created_at, id);
CREATE INDEX conversations_of_user ON conversations (tenant_id, user_id, created_at, id);
CREATE INDEX conversations_of_agent ON conversations (tenant_id, agent_id, created_at, id);
CREATE FULLTEXT INDEX conversations_first ON conversations (words_first);
CREATE FULLTEXT INDEX conversations_words ON conversations (words_first, words_rest);

CREATE TABLE messages (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    conversation_id VARCHAR(255) NOT NULL,
    seq BIGINT NOT NULL CHECK (seq > 0),
    role VARCHAR(9) NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content LONGTEXT,
    tool_calls LONGTEXT NOT NULL,
    tool_call_id LONGTEXT,
    name LONGTEXT,
    tool_result LONGBLOB,
    model LONGTEXT,
    prompt_tokens BIGINT NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens BIGINT NOT NULL CHECK (completion_tokens >= 0),
    cost_micros BIGINT NOT NULL CHECK (cost_micros >= 0),
    rating BIGINT CHECK (rating IN (-1, 0, 1)),
    comment LONGTEXT,
    rated_at DATETIME(6),
    redacted_at DATETIME(6),
    metadata LONGTEXT NOT NULL,
    words_first LONGTEXT NOT NULL,
    words_rest LONGTEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE KEY messages_in_order (tenant_id, conversation_id, seq),
    CONSTRAINT messages_belong FOREIGN KEY (tenant_id, conversation_id)
        REFERENCES conversations (tenant_id, id) ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX messages_by_age ON messages (tenant_id, created_at, id);
CREATE INDEX messages_rated ON messages (tenant_id, rating, created_at, id);
CREATE FULLTEXT INDEX messages_first ON messages (words_first);
CREATE FULLTEXT INDEX messages_words ON messages (words_first, words_rest);

-- What a model was given to see, as changes since the snapshot before; `base` is the last that is whole.
CREATE TABLE context_snapshots (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    conversation_id VARCHAR(255) NOT NULL,
    number BIGINT NOT NULL CHECK (number > 0),
    seq BIGINT NOT NULL CHECK (seq >= 0),
    base BIGINT NOT NULL CHECK (base > 0),
    body LONGBLOB,
    digest VARBINARY(16) NOT NULL CHECK (octet_length(digest) = 16),
    PRIMARY KEY (tenant_id, id),
    UNIQUE KEY context_snapshots_in_order (tenant_id, conversation_id, number),
    CONSTRAINT context_snapshots_belong FOREIGN KEY (tenant_id, conversation_id)
        REFERENCES conversations (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT context_snapshots_base CHECK (base <= number)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX context_snapshots_by_seq ON context_snapshots (tenant_id, conversation_id, seq, number);
CREATE INDEX context_snapshots_by_age ON context_snapshots (tenant_id, created_at, id);

-- +migrate Down
DROP TABLE context_snapshots;
DROP TABLE messages;
DROP TABLE conversations;
