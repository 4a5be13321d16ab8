-- What executions have left outside of themselves when they ended.

-- name: leaving.page
-- Executions that something refers to, by the kind of what does and the newest first, and whether each has ended
-- for it: what was sent to one alone is dropped when it completes, and kept for a retry until then. A part reads
-- no more of its index than the page is long, however much waits.
SELECT referred.kind, referred.key,
       (SELECT CASE WHEN referred.addressed THEN e.status = 'completed' ELSE e.finished_at IS NOT NULL END
        FROM {schema}.executions e WHERE e.key = referred.key)
FROM (
    (SELECT 'wait' AS kind, execution AS key, false AS addressed FROM {schema}.waits
     WHERE execution < $1 ORDER BY execution DESC LIMIT $2)
    UNION ALL
    (SELECT 'approval' AS kind, execution AS key, false AS addressed FROM {schema}.approvals
     WHERE execution < $1 AND status = 'pending' ORDER BY execution DESC LIMIT $2)
    UNION ALL
    (SELECT 'task' AS kind, execution AS key, false AS addressed FROM {schema}.tasks
     WHERE execution < $1 AND execution IS NOT NULL AND status IN ('pending', 'claimed')
     ORDER BY execution DESC LIMIT $2)
    UNION ALL
    (SELECT 'child' AS kind, parent AS key, false AS addressed FROM {schema}.executions
     WHERE parent < $1 AND parent IS NOT NULL AND finished_at IS NULL AND NOT detached
     ORDER BY parent DESC LIMIT $2)
    UNION ALL
    (SELECT 'signal' AS kind, execution AS key, strpos(name, chr(31) || chr(30)) > 0 AS addressed
     FROM {schema}.inbox
     WHERE execution < $1 AND kind = 'signal' AND strpos(name, chr(31)) > 0 ORDER BY execution DESC LIMIT $2)
) AS referred
ORDER BY referred.kind, referred.key DESC
