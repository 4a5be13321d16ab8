-- +migrate Up

-- Conversations with language models. The totals stand here, so that showing a list reads no message; they change
-- with every message, and no index holds a column that does.
CREATE TABLE conversations (
    position INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'archived')),
    user_id TEXT CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    agent_id TEXT CHECK (octet_length(agent_id) BETWEEN 1 AND 255),
    model_settings TEXT NOT NULL,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    message_count INTEGER NOT NULL CHECK (message_count >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    -- Millionths of a unit of money.
    cost_micros INTEGER NOT NULL CHECK (cost_micros >= 0),
    last_message_at INTEGER,
    words_first TEXT NOT NULL,
    words_rest TEXT NOT NULL,
    UNIQUE (tenant_id, id),
    CHECK ((message_count = 0) = (last_message_at IS NULL))
) STRICT;
CREATE INDEX conversations_by_age ON conversations (tenant_id, created_at, id);
CREATE INDEX conversations_by_status ON conversations (tenant_id, status, created_at, id);
CREATE INDEX conversations_of_user ON conversations (tenant_id, user_id, created_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX conversations_of_agent ON conversations (tenant_id, agent_id, created_at, id) WHERE agent_id IS NOT NULL;
CREATE VIRTUAL TABLE conversations_words USING fts5(
    words_first, words_rest, content = 'conversations', content_rowid = 'position', tokenize = 'ascii'
);
-- +migrate StatementBegin
CREATE TRIGGER conversations_words_in AFTER INSERT ON conversations BEGIN
    INSERT INTO conversations_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER conversations_words_out AFTER DELETE ON conversations BEGIN
    INSERT INTO conversations_words (conversations_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER conversations_words_new AFTER UPDATE OF words_first, words_rest ON conversations BEGIN
    INSERT INTO conversations_words (conversations_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
    INSERT INTO conversations_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd

CREATE TABLE messages (
    position INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    conversation_id TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content TEXT,
    tool_calls TEXT NOT NULL,
    tool_call_id TEXT,
    name TEXT,
    tool_result BLOB,
    model TEXT,
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    cost_micros INTEGER NOT NULL CHECK (cost_micros >= 0),
    rating INTEGER CHECK (rating IN (-1, 0, 1)),
    comment TEXT,
    rated_at INTEGER,
    redacted_at INTEGER,
    metadata TEXT NOT NULL,
    words_first TEXT NOT NULL,
    words_rest TEXT NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, conversation_id, seq),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX messages_by_age ON messages (tenant_id, created_at, id);
CREATE INDEX messages_rated ON messages (tenant_id, rating, created_at, id) WHERE rating IS NOT NULL;
CREATE VIRTUAL TABLE messages_words USING fts5(
    words_first, words_rest, content = 'messages', content_rowid = 'position', tokenize = 'ascii'
);
-- Words of what was redacted or deleted leave the index at once, and not when it is next merged.
INSERT INTO messages_words (messages_words, rank) VALUES ('secure-delete', 1);
-- +migrate StatementBegin
CREATE TRIGGER messages_words_in AFTER INSERT ON messages BEGIN
    INSERT INTO messages_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER messages_words_out AFTER DELETE ON messages BEGIN
    INSERT INTO messages_words (messages_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER messages_words_new AFTER UPDATE OF words_first, words_rest ON messages BEGIN
    INSERT INTO messages_words (messages_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
    INSERT INTO messages_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd

-- What a model was given to see, as changes since the snapshot before; `base` is the last that is whole.
CREATE TABLE context_snapshots (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    conversation_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    seq INTEGER NOT NULL CHECK (seq >= 0),
    base INTEGER NOT NULL CHECK (base > 0),
    body BLOB,
    digest BLOB NOT NULL CHECK (octet_length(digest) = 16),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, conversation_id, number),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id) ON DELETE CASCADE,
    CHECK (base <= number)
) STRICT, WITHOUT ROWID;
CREATE INDEX context_snapshots_by_seq ON context_snapshots (tenant_id, conversation_id, seq, number);
CREATE INDEX context_snapshots_by_age ON context_snapshots (tenant_id, created_at, id);

-- +migrate Down
DROP TABLE context_snapshots;
DROP TABLE messages_words;
DROP TABLE messages;
DROP TABLE conversations_words;
DROP TABLE conversations;
