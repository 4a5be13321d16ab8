-- What executions have left outside of themselves when they ended.

-- name: leaving.page
-- Executions that something refers to, by the kind of what does and the newest first, and whether each has ended
-- for it: what was sent to one alone is dropped when it completes, and kept for a retry until then. A part reads
-- no more of its index than the page is long, however much waits.
SELECT referred.kind, referred.`key`,
       (SELECT CASE WHEN referred.addressed THEN e.status = 'completed' ELSE e.finished_at IS NOT NULL END
        FROM executions e WHERE e.`key` = referred.`key`)
FROM (
    (SELECT 'wait' AS kind, execution AS `key`, 0 AS addressed FROM waits FORCE INDEX (PRIMARY)
     WHERE execution < ?1 ORDER BY execution DESC LIMIT ?2)
    UNION ALL
    (SELECT 'approval', execution, 0 FROM approvals FORCE INDEX (approvals_open)
     WHERE status = 'pending' AND execution < ?1 ORDER BY execution DESC LIMIT ?2)
    UNION ALL
    (SELECT 'task', open_execution, 0 FROM tasks FORCE INDEX (tasks_open)
     WHERE open_execution < ?1 ORDER BY open_execution DESC LIMIT ?2)
    UNION ALL
    (SELECT 'child', open_parent, 0 FROM executions FORCE INDEX (executions_open_children)
     WHERE open_parent < ?1 ORDER BY open_parent DESC LIMIT ?2)
    UNION ALL
    (SELECT 'signal', execution, INSTR(name, CHAR(31, 30 USING utf8mb4)) > 0 FROM inbox FORCE INDEX (PRIMARY)
     WHERE execution < ?1 AND kind = 'signal' AND INSTR(name, CHAR(31 USING utf8mb4)) > 0
     ORDER BY execution DESC LIMIT ?2)
) AS referred
ORDER BY referred.kind, referred.`key` DESC
