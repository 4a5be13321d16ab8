-- +migrate Up

-- Who did what. Entries are inserted and read; nothing changes or removes one. Removing whole months that were
-- exported first will need a way past these triggers, and there is none yet. TRUNCATE runs no trigger here: the
-- user that appends must not have the privilege DROP.
CREATE TABLE audit_logs (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision = 1),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    seq BIGINT NOT NULL CHECK (seq > 0),
    `at` DATETIME(6) NOT NULL,
    actor_kind VARCHAR(6) NOT NULL CHECK (actor_kind IN ('user', 'key', 'system')),
    actor VARCHAR(255) NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 255),
    `action` VARCHAR(100) NOT NULL CHECK (octet_length(`action`) BETWEEN 1 AND 100),
    resource_kind VARCHAR(100) NOT NULL CHECK (octet_length(resource_kind) BETWEEN 1 AND 100),
    resource_id VARCHAR(255) CHECK (octet_length(resource_id) BETWEEN 1 AND 255),
    `before` LONGTEXT,
    `after` LONGTEXT,
    details LONGTEXT NOT NULL,
    ip VARCHAR(45) CHECK (octet_length(ip) BETWEEN 1 AND 45),
    user_agent LONGTEXT,
    request_id VARCHAR(255) CHECK (octet_length(request_id) BETWEEN 1 AND 255),
    sealed_by VARCHAR(255) NOT NULL,
    previous VARBINARY(32) NOT NULL CHECK (octet_length(previous) = 32),
    hash VARBINARY(32) NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, id),
    UNIQUE INDEX audit_logs_seq (tenant_id, seq),
    CONSTRAINT audit_logs_one_time CHECK (created_at = `at` AND updated_at = `at`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
-- The chain page by page: a unique index is not read in the order of what follows its columns.
CREATE INDEX audit_logs_in_order ON audit_logs (tenant_id, seq, id);
CREATE INDEX audit_logs_newest ON audit_logs (tenant_id, created_at, id);
CREATE INDEX audit_logs_by_actor ON audit_logs (tenant_id, actor, created_at, id);
CREATE INDEX audit_logs_by_action ON audit_logs (tenant_id, `action`, created_at, id);
-- The server adds the id, which would not fit into the key.
CREATE INDEX audit_logs_by_resource ON audit_logs (tenant_id, resource_kind, resource_id, created_at);
-- +migrate StatementBegin
CREATE TRIGGER audit_logs_never_change BEFORE UPDATE ON audit_logs FOR EACH ROW
    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'an audit entry never changes';
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER audit_logs_stay BEFORE DELETE ON audit_logs FOR EACH ROW
    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'an audit entry is never removed';
-- +migrate StatementEnd

-- The end of each tenant's chain. Its row is locked by whoever appends, and only goes forward.
CREATE TABLE audit_heads (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (id = 'head'),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    seq BIGINT NOT NULL CHECK (seq >= 0),
    hash VARBINARY(32) NOT NULL CHECK (octet_length(hash) = 32),
    `at` DATETIME(6) NOT NULL,
    PRIMARY KEY (tenant_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
-- +migrate StatementBegin
CREATE TRIGGER audit_heads_go_forward BEFORE UPDATE ON audit_heads FOR EACH ROW
IF new.seq < old.seq OR (new.seq = old.seq AND new.hash <> old.hash) THEN
    SIGNAL SQLSTATE '23000'
        SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'the end of an audit chain only goes forward';
END IF;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON audit_heads FOR EACH ROW
    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'the end of an audit chain is never removed';
-- +migrate StatementEnd

-- +migrate Down
DROP TABLE audit_heads;
DROP TABLE audit_logs;
