-- +migrate Up

-- Views for people and dashboards, under the same names on every database. Times and durations are microseconds.

-- What has not ended.
CREATE VIEW active_executions AS
SELECT tenant_id, key, id, workflow, version, status, queue, class, priority, due_at, blocked_on, owner, epoch,
       recoveries, created_at
FROM executions
WHERE finished_at IS NULL;

-- How the executions of each workflow stand. The mean is from start to completion, time in a queue included.
CREATE VIEW workflow_statistics AS
SELECT tenant_id,
       workflow,
       count(*) AS executions,
       count(*) FILTER (WHERE finished_at IS NULL) AS active,
       count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       CAST(round(avg(finished_at - created_at) FILTER (WHERE status = 'completed')) AS INTEGER) AS mean_duration_us,
       max(created_at) AS last_created_at
FROM executions
GROUP BY tenant_id, workflow;

-- How much each queue holds; also queues that are empty and have limits.
CREATE VIEW queue_depths AS
SELECT queue,
       max(paused) AS paused,
       count(status) FILTER (WHERE status = 'ready') AS ready,
       count(status) FILTER (WHERE status = 'running') AS running,
       count(status) FILTER (WHERE status = 'waiting') AS waiting,
       count(blocked_on) AS blocked,
       min(created_at) FILTER (WHERE status = 'ready') AS oldest_ready_at
FROM (
    SELECT queue, 0 AS paused, status, blocked_on, created_at FROM executions WHERE finished_at IS NULL
    UNION ALL
    SELECT name, paused, NULL, NULL, NULL FROM queues
) AS told
GROUP BY queue;

-- What each agent holds and what it has done.
CREATE VIEW agent_workload AS
SELECT a.tenant_id, a.id AS agent, a.role, a.type, a.status, a.heartbeat_at,
       coalesce(given.claimed, 0) AS claimed,
       coalesce(given.completed, 0) AS completed,
       coalesce(given.failed, 0) AS failed,
       given.next_lease_until
FROM agents a
LEFT JOIN (
    SELECT tenant_id, agent,
           count(*) FILTER (WHERE status = 'claimed') AS claimed,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           min(lease_until) FILTER (WHERE status = 'claimed') AS next_lease_until
    FROM tasks
    WHERE agent IS NOT NULL
    GROUP BY tenant_id, agent
) AS given ON given.tenant_id = a.tenant_id AND given.agent = a.id;

-- Incidents that somebody has to do something about; the first to look at have the least urgency number.
CREATE VIEW open_incidents AS
SELECT tenant_id, id, title, severity, status, assignee, detected_at, acknowledged_at, mitigated_at,
       CASE severity WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END AS urgency
FROM incidents
WHERE deleted_at IS NULL AND resolved_at IS NULL;
CREATE INDEX incidents_urgent ON incidents (
    tenant_id,
    (CASE severity WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END),
    detected_at
) WHERE deleted_at IS NULL AND resolved_at IS NULL;

-- What failed in the last seven days, and the last step that did.
CREATE VIEW recent_failures AS
SELECT x.tenant_id, x.key, x.id, x.workflow, x.version, x.queue, x.recoveries, x.created_at,
       x.finished_at AS failed_at,
       (SELECT e.path FROM events e
        WHERE e.execution = x.key AND e.type IN ('step.failed', 'child.failed')
        ORDER BY e.seq DESC LIMIT 1) AS failed_step
FROM executions x
WHERE x.status = 'failed' AND x.finished_at > unixepoch('now', '-7 days') * 1000000;

-- Dashboards: figures by day (UTC), put together when they are asked for.
CREATE VIEW execution_daily_stats AS
SELECT tenant_id,
       date(created_at / 1000000, 'unixepoch') AS day,
       workflow,
       count(*) AS started,
       count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       CAST(round(avg(finished_at - created_at) FILTER (WHERE status = 'completed')) AS INTEGER) AS mean_duration_us,
       max(finished_at - created_at) FILTER (WHERE status = 'completed') AS longest_us
FROM executions
GROUP BY 1, 2, 3;

CREATE VIEW conversation_daily_stats AS
SELECT tenant_id,
       date(created_at / 1000000, 'unixepoch') AS day,
       count(DISTINCT conversation_id) AS conversations,
       count(*) AS messages,
       sum(prompt_tokens) AS prompt_tokens,
       sum(completion_tokens) AS completion_tokens,
       sum(cost_micros) AS cost_micros
FROM messages
GROUP BY 1, 2;

CREATE VIEW incident_daily_stats AS
SELECT tenant_id,
       date(detected_at / 1000000, 'unixepoch') AS day,
       severity,
       count(*) AS detected,
       count(*) FILTER (WHERE resolved_at IS NULL) AS unresolved,
       CAST(round(avg(acknowledged_at - detected_at)) AS INTEGER) AS mean_acknowledge_us,
       CAST(round(avg(resolved_at - detected_at)) AS INTEGER) AS mean_resolve_us
FROM incidents
WHERE deleted_at IS NULL
GROUP BY 1, 2, 3;

-- +migrate StatementBegin
CREATE TRIGGER workflows_kept BEFORE UPDATE ON workflows
WHEN (old.tenant_id, old.name, old.version, old.definition)
     IS NOT (new.tenant_id, new.name, new.version, new.definition)
BEGIN
    SELECT raise(ABORT, 'a registered version keeps its name and definition');
END;
-- +migrate StatementEnd

-- +migrate Down
DROP TRIGGER workflows_kept;
DROP VIEW incident_daily_stats;
DROP VIEW conversation_daily_stats;
DROP VIEW execution_daily_stats;
DROP VIEW recent_failures;
DROP INDEX incidents_urgent;
DROP VIEW open_incidents;
DROP VIEW agent_workload;
DROP VIEW queue_depths;
DROP VIEW workflow_statistics;
DROP VIEW active_executions;
