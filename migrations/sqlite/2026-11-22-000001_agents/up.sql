-- The same tables as for Postgres, where every column is explained. Times are milliseconds since 1970 in UTC,
-- JSON is text, the id of an operation is text.

CREATE TABLE store_meta (
    singleton INTEGER PRIMARY KEY NOT NULL DEFAULT 1 CHECK (singleton = 1),
    epoch TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    change_log_pruned BIGINT NOT NULL DEFAULT 0
);
INSERT INTO store_meta DEFAULT VALUES;

CREATE TABLE agents (
    namespace TEXT NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    revision BIGINT NOT NULL CHECK (revision > 0),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    description TEXT NOT NULL,
    instructions TEXT NOT NULL,
    category TEXT NOT NULL,
    tags TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    capabilities TEXT NOT NULL,
    executor_kind TEXT NOT NULL,
    executor_settings TEXT NOT NULL,
    config TEXT NOT NULL,
    deprecated TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deployed_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (namespace, id)
);

CREATE TABLE agent_history (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    content_hash BLOB NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    description TEXT NOT NULL,
    instructions TEXT NOT NULL,
    category TEXT NOT NULL,
    tags TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    capabilities TEXT NOT NULL,
    executor_kind TEXT NOT NULL,
    executor_settings TEXT NOT NULL,
    config TEXT NOT NULL,
    deprecated TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deployed_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (namespace, id, revision)
);

CREATE TABLE tombstones (
    entity TEXT NOT NULL,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    purged_at BIGINT NOT NULL,
    PRIMARY KEY (entity, namespace, id)
);

CREATE TABLE change_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    entity TEXT NOT NULL,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    op TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE applied_ops (
    op_id TEXT PRIMARY KEY NOT NULL,
    entity TEXT NOT NULL,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    replaced_revision BIGINT,
    op TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE tool_usage (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at BIGINT NOT NULL,
    tool TEXT NOT NULL,
    agent TEXT,
    actor TEXT NOT NULL,
    duration_us BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    error_code TEXT
);
CREATE INDEX tool_usage_at ON tool_usage (at);
