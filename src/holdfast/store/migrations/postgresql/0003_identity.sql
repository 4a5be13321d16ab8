-- +migrate Up

-- Who uses a platform. Two users of one tenant have the same e-mail only if one of them is deleted; what is
-- compared is its key, which is the same for all ways to write it.
CREATE TABLE {schema}.users (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    email text COLLATE "C" NOT NULL CHECK (octet_length(email) BETWEEN 3 AND 255 AND email LIKE '_%@_%'),
    email_key text COLLATE "C" NOT NULL CHECK (octet_length(email_key) BETWEEN 3 AND 255),
    name text NOT NULL CHECK (octet_length(name) <= 255),
    role text COLLATE "C" NOT NULL CHECK (role IN ('admin', 'operator', 'user', 'viewer')),
    password_hash text,
    password_changed_at timestamptz,
    mfa_secret text,
    failed_logins bigint NOT NULL CHECK (failed_logins >= 0),
    locked_until timestamptz,
    last_login_at timestamptz,
    preferences json NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX users_email ON {schema}.users (tenant_id, email_key) WHERE deleted_at IS NULL;
CREATE INDEX users_by_age ON {schema}.users (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_by_role ON {schema}.users (tenant_id, role, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_locked ON {schema}.users (tenant_id, created_at, id)
    WHERE locked_until IS NOT NULL AND deleted_at IS NULL;
-- Whose second factor is to be encrypted anew when keys change.
CREATE INDEX users_with_mfa ON {schema}.users (tenant_id, id) WHERE mfa_secret IS NOT NULL;

CREATE TABLE {schema}.api_keys (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    prefix text COLLATE "C" NOT NULL CHECK (octet_length(prefix) BETWEEN 1 AND 32),
    hash text NOT NULL,
    scopes text[] NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT api_keys_user
        FOREIGN KEY (tenant_id, user_id) REFERENCES {schema}.users (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX api_keys_by_prefix ON {schema}.api_keys (tenant_id, prefix);
CREATE INDEX api_keys_by_user ON {schema}.api_keys (tenant_id, user_id, created_at, id);
CREATE INDEX api_keys_by_age ON {schema}.api_keys (tenant_id, created_at, id);

CREATE TABLE {schema}.sessions (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    device text COLLATE "C" CHECK (octet_length(device) <= 255),
    ip text COLLATE "C" CHECK (octet_length(ip) <= 255),
    user_agent text,
    context json NOT NULL,
    expires_at timestamptz NOT NULL,
    idle_timeout bigint NOT NULL CHECK (idle_timeout > 0),
    last_seen_at timestamptz NOT NULL,
    terminated_at timestamptz,
    termination text COLLATE "C" CHECK (termination IN ('logout', 'revoked', 'password_changed', 'user_deleted')),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT sessions_user
        FOREIGN KEY (tenant_id, user_id) REFERENCES {schema}.users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT sessions_ended_for_a_reason CHECK ((terminated_at IS NULL) = (termination IS NULL))
);
CREATE UNIQUE INDEX sessions_token ON {schema}.sessions (tenant_id, token_hash);
CREATE INDEX sessions_by_user ON {schema}.sessions (tenant_id, user_id, created_at, id);
CREATE INDEX sessions_by_age ON {schema}.sessions (tenant_id, created_at, id);
-- What may be removed, oldest first.
CREATE INDEX sessions_by_expiry ON {schema}.sessions (tenant_id, expires_at);

CREATE TABLE {schema}.achievements (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    holder text COLLATE "C" NOT NULL CHECK (octet_length(holder) BETWEEN 1 AND 255),
    key text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    title text NOT NULL,
    progress double precision NOT NULL CHECK (progress BETWEEN 0 AND 1),
    earned_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT achievements_earned_at_one CHECK ((earned_at IS NOT NULL) = (progress = 1))
);
CREATE UNIQUE INDEX achievements_by_holder ON {schema}.achievements (tenant_id, holder, key);
CREATE INDEX achievements_by_key ON {schema}.achievements (tenant_id, key, created_at, id);
CREATE INDEX achievements_by_age ON {schema}.achievements (tenant_id, created_at, id);

-- +migrate Down
DROP TABLE {schema}.achievements;
DROP TABLE {schema}.sessions;
DROP TABLE {schema}.api_keys;
DROP TABLE {schema}.users;
