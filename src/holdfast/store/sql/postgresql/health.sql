-- name: health.write
-- Inside a transaction that is rolled back.
INSERT INTO {schema}.mailboxes (tenant_id, name, created_at) VALUES ($1, $2, {now}) RETURNING name

-- name: health.server
-- Version, whether it refuses writes, how many copies follow it, how far behind they or it are (microseconds).
-- A standby that has replayed everything it got is not behind, however old the last change is.
SELECT current_setting('server_version'),
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
       (SELECT count(*) FROM pg_stat_replication),
       (extract(epoch FROM CASE
            WHEN NOT pg_is_in_recovery() THEN (SELECT max(replay_lag) FROM pg_stat_replication)
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN interval '0'
            ELSE clock_timestamp() - pg_last_xact_replay_timestamp()
        END) * 1000000)::bigint
