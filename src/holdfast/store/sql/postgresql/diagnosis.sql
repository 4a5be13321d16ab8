-- name: diagnosis.versions
-- Executions that were put aside because the worker that claimed them had no code for them, and with them those
-- that it passes over since.
SELECT encode(b.definition, 'hex'), b.workflow, b.version, b.queue,
       b.count + (SELECT count(*) FROM {schema}.executions r
                  WHERE r.status = 'ready' AND r.queue = b.queue AND r.definition = b.definition),
       b.example
FROM (SELECT definition, workflow, version, queue, count(*) AS count, min(id) AS example FROM {schema}.executions
      WHERE blocked_on >= 'version:' AND blocked_on < 'version;' AND status = 'waiting'
      GROUP BY definition, workflow, version, queue) b
ORDER BY b.workflow, b.version, b.queue

-- name: diagnosis.ready
-- What may be claimed, by who would have to claim it; read from the partial index alone.
SELECT r.queue, r.class, coalesce(q.paused, false), r.count
FROM (SELECT queue, class, count(*) AS count FROM {schema}.executions
      WHERE status = 'ready' GROUP BY queue, class) r
LEFT JOIN {schema}.queues q ON q.name = r.queue
ORDER BY r.queue, r.class

-- name: diagnosis.orphans
-- Running executions whose owner is not registered at all.
SELECT encode(e.owner, 'hex'), count(*) FROM {schema}.executions e
WHERE e.status = 'running' AND NOT EXISTS (SELECT FROM {schema}.workers w WHERE w.boot_id = e.owner)
GROUP BY e.owner ORDER BY 1

-- name: diagnosis.settings
SELECT current_setting('server_version_num')::integer, current_setting('synchronous_commit'),
       current_setting('fsync'), current_setting('full_page_writes'),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')

-- name: diagnosis.snapshots
-- The oldest transactions of this database, prepared ones included: they decide what vacuum may remove.
SELECT * FROM (
    SELECT coalesce(nullif(application_name, ''), usename::text) || ', process ' || pid, coalesce(state, 'unknown'),
           (extract(epoch FROM clock_timestamp() - xact_start) * 1000000)::bigint AS age_us
    FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
      AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared as ' || gid, 'prepared', (extract(epoch FROM clock_timestamp() - prepared) * 1000000)::bigint
    FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
) open ORDER BY age_us DESC LIMIT 5

-- name: diagnosis.partitions
-- Months from the next one on without a gap, and rows that found no month (a thousand at most are counted).
WITH parents(name, strays) AS (
    SELECT 'events', (SELECT count(*) FROM (SELECT FROM {schema}.events_default LIMIT 1000) d)
    UNION ALL
    SELECT 'payloads', (SELECT count(*) FROM (SELECT FROM {schema}.payloads_default LIMIT 1000) d)
    UNION ALL
    SELECT 'execution_details', (SELECT count(*) FROM (SELECT FROM {schema}.execution_details_default LIMIT 1000) d)
    UNION ALL
    SELECT 'stream_events', (SELECT count(*) FROM (SELECT FROM {schema}.stream_events_default LIMIT 1000) d)
), months AS (
    SELECT p.name, m, to_regclass('{schema}.' || quote_ident(p.name || to_char(
               date_trunc('month', {now} AT TIME ZONE 'UTC') + make_interval(months => m), '"_"YYYY"_"MM'
           ))) IS NOT NULL AS is_there
    FROM parents p CROSS JOIN generate_series(1, 12) m
)
SELECT p.name, coalesce((SELECT min(m) - 1 FROM months WHERE months.name = p.name AND NOT is_there), 12), p.strays
FROM parents p ORDER BY p.name
