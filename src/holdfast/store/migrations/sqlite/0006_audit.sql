-- +migrate Up

-- Who did what. Entries are inserted and read; nothing changes or removes one. Removing whole months that were
-- exported first will need a way past these triggers, and there is none yet.
CREATE TABLE audit_logs (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision = 1),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    at INTEGER NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('user', 'key', 'system')),
    actor TEXT NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 255),
    action TEXT NOT NULL CHECK (octet_length(action) BETWEEN 1 AND 100),
    resource_kind TEXT NOT NULL CHECK (octet_length(resource_kind) BETWEEN 1 AND 100),
    resource_id TEXT CHECK (octet_length(resource_id) BETWEEN 1 AND 255),
    before TEXT,
    after TEXT,
    details TEXT NOT NULL,
    ip TEXT CHECK (octet_length(ip) BETWEEN 1 AND 45),
    user_agent TEXT,
    request_id TEXT CHECK (octet_length(request_id) BETWEEN 1 AND 255),
    sealed_by TEXT NOT NULL,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT audit_logs_one_time CHECK (created_at = at AND updated_at = at)
) STRICT;
CREATE UNIQUE INDEX audit_logs_seq ON audit_logs (tenant_id, seq);
CREATE INDEX audit_logs_newest ON audit_logs (tenant_id, created_at, id);
CREATE INDEX audit_logs_by_actor ON audit_logs (tenant_id, actor, created_at, id);
CREATE INDEX audit_logs_by_action ON audit_logs (tenant_id, action, created_at, id);
CREATE INDEX audit_logs_by_resource ON audit_logs (tenant_id, resource_kind, resource_id, created_at, id);
-- +migrate StatementBegin
CREATE TRIGGER audit_logs_never_change BEFORE UPDATE ON audit_logs BEGIN
    SELECT raise(ABORT, 'an audit entry never changes');
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER audit_logs_stay BEFORE DELETE ON audit_logs BEGIN
    SELECT raise(ABORT, 'an audit entry is never removed');
END;
-- +migrate StatementEnd

-- The end of each tenant's chain. Its row is locked by whoever appends, and only goes forward.
CREATE TABLE audit_heads (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (id = 'head'),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
-- +migrate StatementBegin
CREATE TRIGGER audit_heads_go_forward BEFORE UPDATE ON audit_heads
WHEN new.seq < old.seq OR (new.seq = old.seq AND new.hash <> old.hash)
BEGIN
    SELECT raise(ABORT, 'the end of an audit chain only goes forward');
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON audit_heads BEGIN
    SELECT raise(ABORT, 'the end of an audit chain is never removed');
END;
-- +migrate StatementEnd

-- +migrate Down
DROP TABLE audit_heads;
DROP TABLE audit_logs;
