-- +migrate Up

-- Who uses a platform. Two users of one tenant have the same e-mail only if one of them is deleted; what is
-- compared is its key, which is the same for all ways to write it.
CREATE TABLE users (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    email TEXT NOT NULL CHECK (octet_length(email) BETWEEN 3 AND 255 AND email LIKE '_%@_%'),
    email_key TEXT NOT NULL CHECK (octet_length(email_key) BETWEEN 3 AND 255),
    name TEXT NOT NULL CHECK (octet_length(name) <= 255),
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'user', 'viewer')),
    password_hash TEXT,
    password_changed_at INTEGER,
    mfa_secret TEXT,
    failed_logins INTEGER NOT NULL CHECK (failed_logins >= 0),
    locked_until INTEGER,
    last_login_at INTEGER,
    preferences TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX users_email ON users (tenant_id, email_key) WHERE deleted_at IS NULL;
CREATE INDEX users_by_age ON users (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_by_role ON users (tenant_id, role, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_locked ON users (tenant_id, created_at, id)
    WHERE locked_until IS NOT NULL AND deleted_at IS NULL;
-- Whose second factor is to be encrypted anew when keys change.
CREATE INDEX users_with_mfa ON users (tenant_id, id) WHERE mfa_secret IS NOT NULL;

CREATE TABLE api_keys (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    prefix TEXT NOT NULL CHECK (octet_length(prefix) BETWEEN 1 AND 32),
    hash TEXT NOT NULL,
    scopes TEXT NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT api_keys_user
        FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_by_prefix ON api_keys (tenant_id, prefix);
CREATE INDEX api_keys_by_user ON api_keys (tenant_id, user_id, created_at, id);
CREATE INDEX api_keys_by_age ON api_keys (tenant_id, created_at, id);

CREATE TABLE sessions (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    token_hash BLOB NOT NULL CHECK (octet_length(token_hash) = 32),
    device TEXT CHECK (octet_length(device) <= 255),
    ip TEXT CHECK (octet_length(ip) <= 255),
    user_agent TEXT,
    context TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    idle_timeout INTEGER NOT NULL CHECK (idle_timeout > 0),
    last_seen_at INTEGER NOT NULL,
    terminated_at INTEGER,
    termination TEXT CHECK (termination IN ('logout', 'revoked', 'password_changed', 'user_deleted')),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT sessions_user
        FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT sessions_ended_for_a_reason CHECK ((terminated_at IS NULL) = (termination IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_token ON sessions (tenant_id, token_hash);
CREATE INDEX sessions_by_user ON sessions (tenant_id, user_id, created_at, id);
CREATE INDEX sessions_by_age ON sessions (tenant_id, created_at, id);
-- What may be removed, oldest first.
CREATE INDEX sessions_by_expiry ON sessions (tenant_id, expires_at);

CREATE TABLE achievements (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision INTEGER NOT NULL CHECK (revision > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    holder TEXT NOT NULL CHECK (octet_length(holder) BETWEEN 1 AND 255),
    key TEXT NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    title TEXT NOT NULL,
    progress REAL NOT NULL CHECK (progress BETWEEN 0 AND 1),
    earned_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT achievements_earned_at_one CHECK ((earned_at IS NOT NULL) = (progress = 1))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX achievements_by_holder ON achievements (tenant_id, holder, key);
CREATE INDEX achievements_by_key ON achievements (tenant_id, key, created_at, id);
CREATE INDEX achievements_by_age ON achievements (tenant_id, created_at, id);

-- +migrate Down
DROP TABLE achievements;
DROP TABLE sessions;
DROP TABLE api_keys;
DROP TABLE users;
