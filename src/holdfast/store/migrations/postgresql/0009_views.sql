-- +migrate Up

-- Views for people and dashboards, under the same names on every database. What row security hides from whoever asks,
-- the views hide as well: they read with the asker's rights. Durations are microseconds.

-- What has not ended.
CREATE VIEW {schema}.active_executions WITH (security_invoker = true) AS
SELECT tenant_id, key, id, workflow, version, status, queue, class, priority, due_at, blocked_on, owner, epoch,
       recoveries, created_at
FROM {schema}.executions
WHERE finished_at IS NULL;

-- How the executions of each workflow stand. The mean is from start to completion, time in a queue included.
CREATE VIEW {schema}.workflow_statistics WITH (security_invoker = true) AS
SELECT tenant_id,
       workflow,
       count(*) AS executions,
       count(*) FILTER (WHERE finished_at IS NULL) AS active,
       count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       (avg(extract(epoch FROM finished_at - created_at)) FILTER (WHERE status = 'completed') * 1000000)::bigint
           AS mean_duration_us,
       max(created_at) AS last_created_at
FROM {schema}.executions
GROUP BY tenant_id, workflow;

-- How much each queue holds; also queues that are empty and have limits.
CREATE VIEW {schema}.queue_depths WITH (security_invoker = true) AS
SELECT queue,
       max(paused) = 1 AS paused,
       count(status) FILTER (WHERE status = 'ready') AS ready,
       count(status) FILTER (WHERE status = 'running') AS running,
       count(status) FILTER (WHERE status = 'waiting') AS waiting,
       count(blocked_on) AS blocked,
       min(created_at) FILTER (WHERE status = 'ready') AS oldest_ready_at
FROM (
    SELECT queue, 0 AS paused, status, blocked_on, created_at FROM {schema}.executions WHERE finished_at IS NULL
    UNION ALL
    SELECT name, paused::integer, NULL, NULL, NULL FROM {schema}.queues
) AS told
GROUP BY queue;

-- What each agent holds and what it has done.
CREATE VIEW {schema}.agent_workload WITH (security_invoker = true) AS
SELECT a.tenant_id, a.id AS agent, a.role, a.type, a.status, a.heartbeat_at,
       coalesce(given.claimed, 0) AS claimed,
       coalesce(given.completed, 0) AS completed,
       coalesce(given.failed, 0) AS failed,
       given.next_lease_until
FROM {schema}.agents a
LEFT JOIN (
    SELECT tenant_id, agent,
           count(*) FILTER (WHERE status = 'claimed') AS claimed,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           min(lease_until) FILTER (WHERE status = 'claimed') AS next_lease_until
    FROM {schema}.tasks
    WHERE agent IS NOT NULL
    GROUP BY tenant_id, agent
) AS given ON given.tenant_id = a.tenant_id AND given.agent = a.id;

-- Incidents that somebody has to do something about; the first to look at have the least urgency number.
CREATE VIEW {schema}.open_incidents WITH (security_invoker = true) AS
SELECT tenant_id, id, title, severity, status, assignee, detected_at, acknowledged_at, mitigated_at,
       CASE severity WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END AS urgency
FROM {schema}.incidents
WHERE deleted_at IS NULL AND resolved_at IS NULL;
CREATE INDEX incidents_urgent ON {schema}.incidents (
    tenant_id,
    (CASE severity WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END),
    detected_at
) WHERE deleted_at IS NULL AND resolved_at IS NULL;

-- What failed in the last seven days, and the last step that did.
CREATE VIEW {schema}.recent_failures WITH (security_invoker = true) AS
SELECT x.tenant_id, x.key, x.id, x.workflow, x.version, x.queue, x.recoveries, x.created_at,
       x.finished_at AS failed_at,
       (SELECT e.path FROM {schema}.events e
        WHERE e.execution = x.key AND e.type IN ('step.failed', 'child.failed')
        ORDER BY e.seq DESC LIMIT 1) AS failed_step
FROM {schema}.executions x
WHERE x.status = 'failed' AND x.finished_at > now() - interval '7 days';

-- Dashboards: figures by day (UTC), kept. They are as old as their last refresh, and the same for whoever may read them:
-- row security does not reach into a materialized view, so a role that is kept to one tenant gets no right to them.
CREATE MATERIALIZED VIEW {schema}.execution_daily_stats AS
SELECT tenant_id,
       (created_at AT TIME ZONE 'UTC')::date AS day,
       workflow,
       count(*) AS started,
       count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       (avg(extract(epoch FROM finished_at - created_at)) FILTER (WHERE status = 'completed') * 1000000)::bigint
           AS mean_duration_us,
       (max(extract(epoch FROM finished_at - created_at)) FILTER (WHERE status = 'completed') * 1000000)::bigint
           AS longest_us
FROM {schema}.executions
GROUP BY 1, 2, 3;
CREATE UNIQUE INDEX execution_daily_stats_one ON {schema}.execution_daily_stats (tenant_id, day, workflow);

CREATE MATERIALIZED VIEW {schema}.conversation_daily_stats AS
SELECT tenant_id,
       (created_at AT TIME ZONE 'UTC')::date AS day,
       count(DISTINCT conversation_id) AS conversations,
       count(*) AS messages,
       sum(prompt_tokens)::bigint AS prompt_tokens,
       sum(completion_tokens)::bigint AS completion_tokens,
       sum(cost_micros)::bigint AS cost_micros
FROM {schema}.messages
GROUP BY 1, 2;
CREATE UNIQUE INDEX conversation_daily_stats_one ON {schema}.conversation_daily_stats (tenant_id, day);

CREATE MATERIALIZED VIEW {schema}.incident_daily_stats AS
SELECT tenant_id,
       (detected_at AT TIME ZONE 'UTC')::date AS day,
       severity,
       count(*) AS detected,
       count(*) FILTER (WHERE resolved_at IS NULL) AS unresolved,
       (avg(extract(epoch FROM acknowledged_at - detected_at)) * 1000000)::bigint AS mean_acknowledge_us,
       (avg(extract(epoch FROM resolved_at - detected_at)) * 1000000)::bigint AS mean_resolve_us
FROM {schema}.incidents
WHERE deleted_at IS NULL
GROUP BY 1, 2, 3;
CREATE UNIQUE INDEX incident_daily_stats_one ON {schema}.incident_daily_stats (tenant_id, day, severity);

-- +migrate StatementBegin
-- Reads all dashboards anew, without keeping anybody from reading them; for their owner.
CREATE FUNCTION {schema}.refresh_dashboards() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY {schema}.execution_daily_stats;
    REFRESH MATERIALIZED VIEW CONCURRENTLY {schema}.conversation_daily_stats;
    REFRESH MATERIALIZED VIEW CONCURRENTLY {schema}.incident_daily_stats;
END
$$;
-- +migrate StatementEnd

-- What the server has counted about the tables here since its statistics were last reset.
CREATE VIEW {schema}.index_usage_stats WITH (security_invoker = true) AS
SELECT s.relname AS table_name,
       s.indexrelname AS index_name,
       -- On a partition: the index of the partitioned table that it is a part of.
       coalesce(p.relname, s.indexrelname) AS belongs_to,
       s.idx_scan AS scans,
       s.idx_tup_read AS tuples_read,
       s.idx_tup_fetch AS tuples_fetched,
       pg_relation_size(s.indexrelid) AS bytes,
       i.indisunique AS is_unique
FROM pg_stat_user_indexes s
JOIN pg_index i ON i.indexrelid = s.indexrelid
JOIN pg_class t ON t.oid = s.relid
LEFT JOIN pg_inherits h ON h.inhrelid = s.indexrelid
LEFT JOIN pg_class p ON p.oid = h.inhparent
WHERE t.relnamespace = '{schema}'::regnamespace;

-- Partitions count to their table. Rows are the server's estimate.
CREATE VIEW {schema}.table_sizes WITH (security_invoker = true) AS
SELECT root.relname AS table_name,
       count(*) FILTER (WHERE c.oid <> root.oid) AS partitions,
       sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind <> 'p')::bigint AS estimated_rows,
       sum(pg_table_size(c.oid))::bigint AS table_bytes,
       sum(pg_indexes_size(c.oid))::bigint AS index_bytes,
       sum(pg_total_relation_size(c.oid))::bigint AS total_bytes
FROM pg_class c
JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'p', 'm')
GROUP BY root.relname;

-- How tables are read: many rows for each sequential scan mean that a query has no index.
CREATE VIEW {schema}.table_scans WITH (security_invoker = true) AS
SELECT s.relname AS table_name,
       s.seq_scan AS sequential_scans,
       s.seq_tup_read AS rows_read_sequentially,
       s.seq_tup_read / nullif(s.seq_scan, 0) AS rows_per_sequential_scan,
       s.idx_scan AS index_scans,
       io.heap_blks_hit::double precision / nullif(io.heap_blks_hit + io.heap_blks_read, 0) AS cached_share
FROM pg_stat_user_tables s
JOIN pg_class t ON t.oid = s.relid
LEFT JOIN pg_statio_user_tables io ON io.relid = s.relid
WHERE t.relnamespace = '{schema}'::regnamespace;

-- What vacuum has left to do. Updates that are not hot write into every index.
CREATE VIEW {schema}.table_bloat WITH (security_invoker = true) AS
SELECT s.relname AS table_name,
       s.n_live_tup AS live_rows,
       s.n_dead_tup AS dead_rows,
       s.n_dead_tup::double precision / nullif(s.n_live_tup + s.n_dead_tup, 0) AS dead_share,
       s.n_tup_hot_upd::double precision / nullif(s.n_tup_upd, 0) AS hot_share,
       s.n_mod_since_analyze AS changed_since_analyze,
       greatest(s.last_vacuum, s.last_autovacuum) AS last_vacuum_at,
       greatest(s.last_analyze, s.last_autoanalyze) AS last_analyze_at
FROM pg_stat_user_tables s
JOIN pg_class t ON t.oid = s.relid
WHERE t.relnamespace = '{schema}'::regnamespace;

-- Who is connected to this database. Of other people's sessions the server tells little to ordinary roles.
CREATE VIEW {schema}.connection_stats WITH (security_invoker = true) AS
SELECT usename AS user_name,
       application_name AS application,
       coalesce(state, 'unknown') AS state,
       count(*) AS connections,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting_for_locks,
       min(xact_start) AS oldest_transaction_at
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
GROUP BY 1, 2, 3;

-- +migrate StatementBegin
CREATE FUNCTION {schema}.refuse_version_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'a registered version keeps its name and definition' USING ERRCODE = 'restrict_violation';
END
$$;
-- +migrate StatementEnd
CREATE TRIGGER workflows_kept BEFORE UPDATE ON {schema}.workflows FOR EACH ROW
    WHEN ((old.tenant_id, old.name, old.version, old.definition)
          IS DISTINCT FROM (new.tenant_id, new.name, new.version, new.definition))
    EXECUTE FUNCTION {schema}.refuse_version_change();

-- +migrate Down
DROP TRIGGER workflows_kept ON {schema}.workflows;
DROP FUNCTION {schema}.refuse_version_change();
DROP VIEW {schema}.connection_stats;
DROP VIEW {schema}.table_bloat;
DROP VIEW {schema}.table_scans;
DROP VIEW {schema}.table_sizes;
DROP VIEW {schema}.index_usage_stats;
DROP FUNCTION {schema}.refresh_dashboards();
DROP MATERIALIZED VIEW {schema}.incident_daily_stats;
DROP MATERIALIZED VIEW {schema}.conversation_daily_stats;
DROP MATERIALIZED VIEW {schema}.execution_daily_stats;
DROP VIEW {schema}.recent_failures;
DROP INDEX {schema}.incidents_urgent;
DROP VIEW {schema}.open_incidents;
DROP VIEW {schema}.agent_workload;
DROP VIEW {schema}.queue_depths;
DROP VIEW {schema}.workflow_statistics;
DROP VIEW {schema}.active_executions;
