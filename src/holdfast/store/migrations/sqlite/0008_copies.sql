-- +migrate Up

-- How far copies into this store have come. A row moves on in the transaction of the rows it tells of, so a copy
-- that was killed goes on where it was. `after_key` is the last key that is here, as the copy writes it.
CREATE TABLE copies (
    id TEXT NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    selection TEXT NOT NULL,
    table_name TEXT NOT NULL,
    after_key BLOB,
    copied_rows INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;

-- +migrate Down
DROP TABLE copies;
