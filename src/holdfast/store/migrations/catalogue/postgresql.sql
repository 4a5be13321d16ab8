-- What PostgreSQL's catalogue tells about the tables that a migration touches.

-- name: catalogue.table
SELECT to_regclass($1) IS NOT NULL

-- name: catalogue.rows
-- The planner's estimate, over all partitions; -1 stands for a table that was never looked at.
SELECT coalesce(sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)), 0)::bigint
FROM pg_class top
LEFT JOIN LATERAL (SELECT relid FROM pg_partition_tree(top.oid) UNION SELECT top.oid) tree ON true
JOIN pg_class c ON c.oid = tree.relid
WHERE top.oid = to_regclass($1) AND top.relkind IN ('r', 'p', 'm')
HAVING count(*) > 0
