-- +migrate Up

-- Views for people and dashboards, under the same names on every database. They read with the asker's rights.
-- Durations are microseconds.

-- What has not ended. `open_tenant` is the tenant of these alone, and what their index begins with.
CREATE SQL SECURITY INVOKER VIEW active_executions AS
SELECT open_tenant AS tenant_id, `key`, id, workflow, version, status, queue, class, priority, due_at, blocked_on, owner,
       epoch, recoveries, created_at
FROM executions
WHERE open_tenant IS NOT NULL;

-- How the executions of each workflow stand. The mean is from start to completion, time in a queue included.
CREATE SQL SECURITY INVOKER VIEW workflow_statistics AS
SELECT tenant_id,
       workflow,
       count(*) AS executions,
       count(open_tenant) AS active,
       count(CASE WHEN status = 'completed' THEN 1 END) AS completed,
       count(CASE WHEN status = 'failed' THEN 1 END) AS failed,
       count(CASE WHEN status = 'cancelled' THEN 1 END) AS cancelled,
       CAST(avg(CASE WHEN status = 'completed' THEN TIMESTAMPDIFF(MICROSECOND, created_at, finished_at) END) AS SIGNED)
           AS mean_duration_us,
       max(created_at) AS last_created_at
FROM executions
GROUP BY tenant_id, workflow;

-- How much each queue holds; also queues that are empty and have limits.
CREATE SQL SECURITY INVOKER VIEW queue_depths AS
SELECT queue,
       max(paused) AS paused,
       count(CASE WHEN status = 'ready' THEN 1 END) AS ready,
       count(CASE WHEN status = 'running' THEN 1 END) AS running,
       count(CASE WHEN status = 'waiting' THEN 1 END) AS waiting,
       count(blocked_on) AS blocked,
       min(CASE WHEN status = 'ready' THEN created_at END) AS oldest_ready_at
FROM (
    SELECT queue, 0 AS paused, status, blocked_on, created_at FROM executions WHERE open_tenant IS NOT NULL
    UNION ALL
    SELECT name, paused, NULL, NULL, NULL FROM queues
) AS told
GROUP BY queue;

-- What each agent holds and what it has done.
CREATE SQL SECURITY INVOKER VIEW agent_workload AS
SELECT a.tenant_id, a.id AS agent, a.role, a.type, a.status, a.heartbeat_at,
       coalesce(given.claimed, 0) AS claimed,
       coalesce(given.completed, 0) AS completed,
       coalesce(given.failed, 0) AS failed,
       given.next_lease_until
FROM agents a
LEFT JOIN (
    SELECT tenant_id, agent,
           count(CASE WHEN status = 'claimed' THEN 1 END) AS claimed,
           count(CASE WHEN status = 'completed' THEN 1 END) AS completed,
           count(CASE WHEN status = 'failed' THEN 1 END) AS failed,
           min(CASE WHEN status = 'claimed' THEN lease_until END) AS next_lease_until
    FROM tasks
    WHERE agent IS NOT NULL
    GROUP BY tenant_id, agent
) AS given ON given.tenant_id = a.tenant_id AND given.agent = a.id;

-- Incidents that somebody has to do something about; the first to look at have the least urgency number.
CREATE SQL SECURITY INVOKER VIEW open_incidents AS
SELECT tenant_id, id, title, severity, status, assignee, detected_at, acknowledged_at, mitigated_at,
       CASE severity WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'medium' THEN 3 ELSE 4 END AS urgency
FROM incidents
WHERE deleted_at IS NULL AND resolved_at IS NULL;

-- What failed in the last seven days, and the last step that did.
CREATE SQL SECURITY INVOKER VIEW recent_failures AS
SELECT x.tenant_id, x.`key`, x.id, x.workflow, x.version, x.queue, x.recoveries, x.created_at,
       x.finished_at AS failed_at,
       (SELECT e.path FROM events e
        WHERE e.execution = x.`key` AND e.type IN ('step.failed', 'child.failed')
        ORDER BY e.seq DESC LIMIT 1) AS failed_step
FROM executions x
WHERE x.status = 'failed' AND x.finished_at > UTC_TIMESTAMP(6) - INTERVAL 7 DAY;

-- Dashboards: figures by day (UTC), put together when they are asked for.
CREATE SQL SECURITY INVOKER VIEW execution_daily_stats AS
SELECT tenant_id,
       CAST(created_at AS DATE) AS day,
       workflow,
       count(*) AS started,
       count(CASE WHEN status = 'completed' THEN 1 END) AS completed,
       count(CASE WHEN status = 'failed' THEN 1 END) AS failed,
       count(CASE WHEN status = 'cancelled' THEN 1 END) AS cancelled,
       CAST(avg(CASE WHEN status = 'completed' THEN TIMESTAMPDIFF(MICROSECOND, created_at, finished_at) END) AS SIGNED)
           AS mean_duration_us,
       max(CASE WHEN status = 'completed' THEN TIMESTAMPDIFF(MICROSECOND, created_at, finished_at) END) AS longest_us
FROM executions
GROUP BY tenant_id, CAST(created_at AS DATE), workflow;

CREATE SQL SECURITY INVOKER VIEW conversation_daily_stats AS
SELECT tenant_id,
       CAST(created_at AS DATE) AS day,
       count(DISTINCT conversation_id) AS conversations,
       count(*) AS messages,
       CAST(sum(prompt_tokens) AS SIGNED) AS prompt_tokens,
       CAST(sum(completion_tokens) AS SIGNED) AS completion_tokens,
       CAST(sum(cost_micros) AS SIGNED) AS cost_micros
FROM messages
GROUP BY tenant_id, CAST(created_at AS DATE);

CREATE SQL SECURITY INVOKER VIEW incident_daily_stats AS
SELECT tenant_id,
       CAST(detected_at AS DATE) AS day,
       severity,
       count(*) AS detected,
       count(*) - count(resolved_at) AS unresolved,
       CAST(avg(TIMESTAMPDIFF(MICROSECOND, detected_at, acknowledged_at)) AS SIGNED) AS mean_acknowledge_us,
       CAST(avg(TIMESTAMPDIFF(MICROSECOND, detected_at, resolved_at)) AS SIGNED) AS mean_resolve_us
FROM incidents
WHERE deleted_at IS NULL
GROUP BY tenant_id, CAST(detected_at AS DATE), severity;

-- +migrate StatementBegin
CREATE TRIGGER workflows_kept BEFORE UPDATE ON workflows FOR EACH ROW
IF NOT (old.tenant_id = new.tenant_id AND old.name = new.name AND old.version = new.version
        AND old.definition = new.definition) THEN
    SIGNAL SQLSTATE '23000'
        SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = 'a registered version keeps its name and definition';
END IF;
-- +migrate StatementEnd

-- +migrate Down
DROP TRIGGER workflows_kept;
DROP VIEW incident_daily_stats;
DROP VIEW conversation_daily_stats;
DROP VIEW execution_daily_stats;
DROP VIEW recent_failures;
DROP VIEW open_incidents;
DROP VIEW agent_workload;
DROP VIEW queue_depths;
DROP VIEW workflow_statistics;
DROP VIEW active_executions;
