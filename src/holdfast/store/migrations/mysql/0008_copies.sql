-- +migrate Up

-- How far copies into this store have come. A row moves on in the transaction of the rows it tells of, so a copy
-- that was killed goes on where it was. `after_key` is the last key that is here, as the copy writes it.
CREATE TABLE copies (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    source LONGTEXT NOT NULL,
    selection LONGTEXT NOT NULL,
    table_name VARCHAR(255) NOT NULL,
    after_key LONGBLOB,
    copied_rows BIGINT NOT NULL,
    started_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};

-- +migrate Down
DROP TABLE copies;
