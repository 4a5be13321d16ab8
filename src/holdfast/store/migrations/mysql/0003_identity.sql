-- +migrate Up

-- Who uses a platform. Two users of one tenant have the same e-mail only if one of them is deleted; what is
-- compared is its key, which is the same for all ways to write it.
CREATE TABLE users (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    email VARCHAR(255) NOT NULL CHECK (octet_length(email) BETWEEN 3 AND 255 AND email LIKE '_%@_%'),
    email_key VARCHAR(255) NOT NULL CHECK (octet_length(email_key) BETWEEN 3 AND 255),
    name VARCHAR(255) NOT NULL CHECK (octet_length(name) <= 255),
    role VARCHAR(20) NOT NULL CHECK (role IN ('admin', 'operator', 'user', 'viewer')),
    password_hash LONGTEXT,
    password_changed_at DATETIME(6),
    mfa_secret LONGTEXT,
    failed_logins BIGINT NOT NULL CHECK (failed_logins >= 0),
    locked_until DATETIME(6),
    last_login_at DATETIME(6),
    preferences LONGTEXT NOT NULL,
    live_email_key VARCHAR(255) AS (CASE WHEN deleted_at IS NULL THEN email_key END) STORED,
    mfa_user VARCHAR(255) AS (CASE WHEN mfa_secret IS NOT NULL THEN id END) STORED,
    PRIMARY KEY (tenant_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE UNIQUE INDEX users_email ON users (tenant_id, live_email_key);
CREATE INDEX users_by_age ON users (tenant_id, created_at, id);
CREATE INDEX users_by_role ON users (tenant_id, role, created_at, id);
CREATE INDEX users_locked ON users (tenant_id, locked_until, created_at, id);
-- Whose second factor is to be encrypted anew when keys change.
CREATE INDEX users_with_mfa ON users (tenant_id, mfa_user);

CREATE TABLE api_keys (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    name VARCHAR(255) NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    prefix VARCHAR(32) NOT NULL CHECK (octet_length(prefix) BETWEEN 1 AND 32),
    hash LONGTEXT NOT NULL,
    scopes LONGTEXT NOT NULL,
    expires_at DATETIME(6),
    last_used_at DATETIME(6),
    revoked_at DATETIME(6),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT api_keys_user
        FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE INDEX api_keys_by_prefix ON api_keys (tenant_id, prefix);
CREATE INDEX api_keys_by_user ON api_keys (tenant_id, user_id, created_at, id);
CREATE INDEX api_keys_by_age ON api_keys (tenant_id, created_at, id);

CREATE TABLE sessions (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    token_hash VARBINARY(32) NOT NULL CHECK (octet_length(token_hash) = 32),
    device VARCHAR(255) CHECK (octet_length(device) <= 255),
    ip VARCHAR(255) CHECK (octet_length(ip) <= 255),
    user_agent LONGTEXT,
    context LONGTEXT NOT NULL,
    expires_at DATETIME(6) NOT NULL,
    idle_timeout BIGINT NOT NULL CHECK (idle_timeout > 0),
    last_seen_at DATETIME(6) NOT NULL,
    terminated_at DATETIME(6),
    termination VARCHAR(20) CHECK (termination IN ('logout', 'revoked', 'password_changed', 'user_deleted')),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT sessions_user
        FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT sessions_ended_for_a_reason CHECK ((terminated_at IS NULL) = (termination IS NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE UNIQUE INDEX sessions_token ON sessions (tenant_id, token_hash);
CREATE INDEX sessions_by_user ON sessions (tenant_id, user_id, created_at, id);
CREATE INDEX sessions_by_age ON sessions (tenant_id, created_at, id);
-- What may be removed, oldest first.
CREATE INDEX sessions_by_expiry ON sessions (tenant_id, expires_at);

CREATE TABLE achievements (
    tenant_id VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    holder VARCHAR(255) NOT NULL CHECK (octet_length(holder) BETWEEN 1 AND 255),
    `key` VARCHAR(255) NOT NULL CHECK (octet_length(`key`) BETWEEN 1 AND 255),
    title LONGTEXT NOT NULL,
    progress DOUBLE NOT NULL CHECK (progress BETWEEN 0 AND 1),
    earned_at DATETIME(6),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT achievements_earned_at_one CHECK ((earned_at IS NOT NULL) = (progress = 1))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE UNIQUE INDEX achievements_by_holder ON achievements (tenant_id, holder, `key`);
CREATE INDEX achievements_by_key ON achievements (tenant_id, `key`, created_at, id);
CREATE INDEX achievements_by_age ON achievements (tenant_id, created_at, id);

-- +migrate Down
DROP TABLE achievements;
DROP TABLE sessions;
DROP TABLE api_keys;
DROP TABLE users;
