-- name: copies.latest
SELECT id, source, selection, table_name, after_key, copied_rows, finished_at FROM copies
ORDER BY started_at DESC, id DESC LIMIT 1

-- name: copies.begin
INSERT INTO copies (id, source, selection, table_name, copied_rows, started_at, updated_at)
VALUES (?1, ?2, ?3, '', 0, {now}, {now})

-- name: copies.advance
UPDATE copies SET table_name = ?2, after_key = ?3, copied_rows = ?4, updated_at = {now}, finished_at = NULL
WHERE id = ?1

-- name: copies.finish
UPDATE copies SET finished_at = {now}, updated_at = {now} WHERE id = ?1

-- name: copies.present
-- Processes that hold a lease: what they run changes while it is read.
SELECT host, pid FROM workers WHERE lease_until > {now} ORDER BY host, pid LIMIT 5
