-- Tasks that wait for other tasks. Rows are locked from what is waited for to what waits, and by id among equals.

-- name: dependencies.lock
SELECT id, status, execution FROM tasks
WHERE tenant_id = ?1
  AND id IN (SELECT v FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) AS listed)
ORDER BY id FOR UPDATE

-- name: dependencies.add
INSERT INTO task_dependencies (tenant_id, task, dependency)
SELECT ?1, ?2, v FROM JSON_TABLE(?3, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) AS listed

-- name: dependencies.lock_dependents
-- The tasks that wait for one of some tasks.
SELECT id, on_failed_dependency FROM tasks
WHERE tenant_id = ?1 AND status = 'blocked'
  AND id IN (SELECT e.task FROM task_dependencies e
             WHERE e.tenant_id = ?1
               AND e.dependency IN (SELECT v
                                    FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) AS listed))
ORDER BY id FOR UPDATE

-- name: dependencies.held
-- Those of some locked tasks that wait for another one still. A statement of its own, so that it sees what was
-- written until the lock was given.
SELECT DISTINCT e.task
FROM task_dependencies e JOIN tasks d ON d.tenant_id = e.tenant_id AND d.id = e.dependency
WHERE e.tenant_id = ?1 AND d.status <> 'completed'
  AND e.task IN (SELECT v FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) AS listed)

-- name: dependencies.release
UPDATE tasks SET status = 'pending', revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND status = 'blocked'
  AND id IN (SELECT v FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) AS listed)

-- name: dependencies.end
UPDATE tasks
SET status = ?3, error = ?4, finished_at = {now}, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND status = 'blocked'
  AND id IN (SELECT v FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(511) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) AS listed)
