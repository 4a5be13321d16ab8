-- +migrate Up

-- Who did what. Entries are inserted and read; nothing changes or removes one. Removing whole months that were
-- exported first will need a way past these triggers, and there is none yet. A role that appends needs no more than
--     GRANT SELECT, INSERT ON audit_logs TO …; GRANT SELECT, INSERT, UPDATE ON audit_heads TO …;
-- and one that reads SELECT on both. The owner of the tables can switch triggers off: the chain tells that it did.
CREATE TABLE {schema}.audit_logs (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 255),
    revision bigint NOT NULL CHECK (revision = 1),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    at timestamptz NOT NULL,
    actor_kind text COLLATE "C" NOT NULL CHECK (actor_kind IN ('user', 'key', 'system')),
    actor text COLLATE "C" NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 255),
    action text COLLATE "C" NOT NULL CHECK (octet_length(action) BETWEEN 1 AND 100),
    resource_kind text COLLATE "C" NOT NULL CHECK (octet_length(resource_kind) BETWEEN 1 AND 100),
    resource_id text COLLATE "C" CHECK (octet_length(resource_id) BETWEEN 1 AND 255),
    before json,
    after json,
    details json NOT NULL,
    ip text COLLATE "C" CHECK (octet_length(ip) BETWEEN 1 AND 45),
    user_agent text,
    request_id text COLLATE "C" CHECK (octet_length(request_id) BETWEEN 1 AND 255),
    sealed_by text COLLATE "C" NOT NULL,
    previous bytea NOT NULL CHECK (octet_length(previous) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT audit_logs_one_time CHECK (created_at = at AND updated_at = at)
);
CREATE UNIQUE INDEX audit_logs_seq ON {schema}.audit_logs (tenant_id, seq);
CREATE INDEX audit_logs_newest ON {schema}.audit_logs (tenant_id, created_at, id);
CREATE INDEX audit_logs_by_actor ON {schema}.audit_logs (tenant_id, actor, created_at, id);
CREATE INDEX audit_logs_by_action ON {schema}.audit_logs (tenant_id, action, created_at, id);
CREATE INDEX audit_logs_by_resource
    ON {schema}.audit_logs (tenant_id, resource_kind, resource_id, created_at, id);

-- The end of each tenant's chain. Its row is locked by whoever appends, and only goes forward.
CREATE TABLE {schema}.audit_heads (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (id = 'head'),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 50);

-- +migrate StatementBegin
CREATE FUNCTION {schema}.refuse_audit_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = 'restrict_violation';
END
$$;
-- +migrate StatementEnd
CREATE TRIGGER audit_logs_never_change BEFORE UPDATE OR DELETE ON {schema}.audit_logs
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_audit_change();
CREATE TRIGGER audit_logs_stay BEFORE TRUNCATE ON {schema}.audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_audit_change();
CREATE TRIGGER audit_heads_go_forward BEFORE UPDATE ON {schema}.audit_heads
    FOR EACH ROW WHEN (new.seq < old.seq OR (new.seq = old.seq AND new.hash <> old.hash))
    EXECUTE FUNCTION {schema}.refuse_audit_change();
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON {schema}.audit_heads
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_audit_change();
CREATE TRIGGER audit_heads_stay_all BEFORE TRUNCATE ON {schema}.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_audit_change();

-- +migrate Down
DROP TABLE {schema}.audit_heads;
DROP TABLE {schema}.audit_logs;
DROP FUNCTION {schema}.refuse_audit_change();
