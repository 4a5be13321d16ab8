-- name: incidents.last_entry
-- Asked while the incident's row is locked.
SELECT seq, at FROM incident_timeline WHERE tenant_id = ?1 AND incident = ?2 ORDER BY seq DESC LIMIT 1
