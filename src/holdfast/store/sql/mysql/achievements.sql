-- name: achievements.progress
-- Raises the progress to one value (?6), or by another (?7); at one it is earned. Nothing is answered when it was
-- earned before, so whoever is told of an earned one has earned it. Sums of tenths fall short of one by a hair,
-- therefore the rounding. The id (?2) is new for every call: a row that has it was made by this one.
INSERT INTO achievements (tenant_id, id, revision, created_at, updated_at, holder, `key`, title, progress)
VALUES (?1, ?2, 1, {now}, {now}, ?3, ?4, COALESCE(?5, ?4), 0) ON DUPLICATE KEY UPDATE id = achievements.id
-- then
-- Assigned from left to right: behind the progress its new value would be seen.
UPDATE achievements
SET title = COALESCE(?5, title), updated_at = {now},
    earned_at = CASE WHEN ROUND(GREATEST(progress, ?6) + ?7, 9) >= 1 THEN {now} END,
    progress = LEAST(1, ROUND(GREATEST(progress, ?6) + ?7, 9)),
    revision = CASE WHEN id = ?2 THEN revision ELSE revision + 1 END
WHERE tenant_id = ?1 AND holder = ?3 AND `key` = ?4 AND earned_at IS NULL
-- then
SET @hf_n = ROW_COUNT()
-- then
SELECT id, revision, created_at, updated_at, holder, `key`, title, progress, earned_at
FROM achievements WHERE tenant_id = ?1 AND holder = ?3 AND `key` = ?4 AND (@hf_n > 0 OR id = ?2)

-- name: achievements.get
SELECT id, revision, created_at, updated_at, holder, `key`, title, progress, earned_at
FROM achievements WHERE tenant_id = ?1 AND holder = ?2 AND `key` = ?3
