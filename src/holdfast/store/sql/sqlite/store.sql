-- name: store.now
SELECT {now}

-- name: store.sizes
-- Rows are counted; bytes are the pages of a table and of its indexes.
WITH bytes AS MATERIALIZED (
    SELECT m.tbl_name AS name, s.pgsize
    FROM sqlite_schema m JOIN dbstat s ON s.name = m.name
    WHERE s.aggregate = TRUE
)
SELECT 'executions', (SELECT count(*) FROM executions), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'executions')
UNION ALL
SELECT 'execution_details', (SELECT count(*) FROM execution_details), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'execution_details')
UNION ALL
SELECT 'events', (SELECT count(*) FROM events), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'events')
UNION ALL
SELECT 'payloads', (SELECT count(*) FROM payloads), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'payloads')
UNION ALL
SELECT 'inbox', (SELECT count(*) FROM inbox), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'inbox')
UNION ALL
SELECT 'streams', (SELECT count(*) FROM streams), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'streams')
UNION ALL
SELECT 'stream_events', (SELECT count(*) FROM stream_events), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'stream_events')
UNION ALL
SELECT 'workers', (SELECT count(*) FROM workers), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'workers')
UNION ALL
SELECT 'definitions', (SELECT count(*) FROM definitions), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'definitions')
UNION ALL
SELECT 'workflows', (SELECT count(*) FROM workflows), (SELECT coalesce(sum(b.pgsize), 0) FROM bytes b WHERE b.name = 'workflows')
