-- +migrate Up

-- How far copies into this store have come. A row moves on in the transaction of the rows it tells of, so a copy
-- that was killed goes on where it was. `after_key` is the last key that is here, as the copy writes it.
CREATE TABLE {schema}.copies (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    source text NOT NULL,
    selection text NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    after_key bytea,
    copied_rows bigint NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);

-- +migrate Down
DROP TABLE {schema}.copies;
