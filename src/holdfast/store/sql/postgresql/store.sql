-- name: store.now
SELECT {now}

-- name: store.ensure_partitions
SELECT {schema}.ensure_partitions($1::integer)

-- name: store.sizes
-- Partitions are added up under their parent; rows are the planner's estimate, which costs nothing.
SELECT parent.relname::text,
       greatest(sum(CASE WHEN leaf.relkind = 'r' THEN leaf.reltuples ELSE 0 END), 0)::bigint,
       sum(pg_total_relation_size(leaf.oid))::bigint
FROM pg_catalog.pg_class parent
JOIN pg_catalog.pg_namespace n ON n.oid = parent.relnamespace
JOIN LATERAL (SELECT relid FROM pg_partition_tree(parent.oid)
              UNION SELECT parent.oid) tree ON true
JOIN pg_catalog.pg_class leaf ON leaf.oid = tree.relid
WHERE n.nspname = trim(both '"' FROM '{schema}') AND parent.relkind IN ('r', 'p') AND NOT parent.relispartition
GROUP BY parent.relname ORDER BY parent.relname
