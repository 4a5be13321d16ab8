-- name: achievements.progress
-- Raises the progress to one value ($6), or by another ($7); at one it is earned. Nothing is answered when it was
-- earned before, so whoever is told of an earned one has earned it. Sums of tenths fall short of one by a hair,
-- therefore the rounding.
INSERT INTO {schema}.achievements AS known
    (tenant_id, id, revision, created_at, updated_at, holder, key, title, progress, earned_at)
VALUES ($1, $2, 1, {now}, {now}, $3, $4, COALESCE($5::text, $4),
        least(1, round(($6::double precision + $7::double precision)::numeric, 9)),
        CASE WHEN round(($6::double precision + $7::double precision)::numeric, 9) >= 1 THEN {now} END)
ON CONFLICT (tenant_id, holder, key) DO UPDATE
SET title = COALESCE($5::text, known.title),
    progress = least(1, round((greatest(known.progress, $6) + $7::double precision)::numeric, 9)),
    earned_at = CASE WHEN round((greatest(known.progress, $6) + $7::double precision)::numeric, 9) >= 1
                     THEN {now} END,
    revision = known.revision + 1, updated_at = {now}
WHERE known.earned_at IS NULL
RETURNING id, revision, created_at, updated_at, holder, key, title, progress, earned_at

-- name: achievements.get
SELECT id, revision, created_at, updated_at, holder, key, title, progress, earned_at
FROM {schema}.achievements WHERE tenant_id = $1 AND holder = $2 AND key = $3
