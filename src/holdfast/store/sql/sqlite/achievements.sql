-- name: achievements.progress
-- Raises the progress to one value (?6), or by another (?7); at one it is earned. Nothing is answered when it was
-- earned before, so whoever is told of an earned one has earned it. Sums of tenths fall short of one by a hair,
-- therefore the rounding.
INSERT INTO achievements AS achievements
    (tenant_id, id, revision, created_at, updated_at, holder, key, title, progress, earned_at)
VALUES (?1, ?2, 1, {now}, {now}, ?3, ?4, COALESCE(?5, ?4), min(1.0, round(?6 + ?7, 9)),
        CASE WHEN round(?6 + ?7, 9) >= 1 THEN {now} END)
ON CONFLICT (tenant_id, holder, key) DO UPDATE
SET title = COALESCE(?5, achievements.title),
    progress = min(1.0, round(max(achievements.progress, ?6) + ?7, 9)),
    earned_at = CASE WHEN round(max(achievements.progress, ?6) + ?7, 9) >= 1 THEN {now} END,
    revision = achievements.revision + 1, updated_at = {now}
WHERE achievements.earned_at IS NULL
RETURNING id, revision, created_at, updated_at, holder, key, title, progress, earned_at

-- name: achievements.get
SELECT id, revision, created_at, updated_at, holder, key, title, progress, earned_at
FROM achievements WHERE tenant_id = ?1 AND holder = ?2 AND key = ?3
