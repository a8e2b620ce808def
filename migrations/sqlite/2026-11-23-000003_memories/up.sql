CREATE TABLE memories (
    id TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    data TEXT,
    tags TEXT NOT NULL,
    importance REAL NOT NULL,
    decay REAL NOT NULL,
    expires_at BIGINT,
    key TEXT,
    agent TEXT,
    session TEXT,
    user_name TEXT,
    run_id TEXT,
    step TEXT,
    supersedes TEXT NOT NULL,
    relations TEXT NOT NULL,
    author TEXT NOT NULL,
    trust TEXT NOT NULL,
    derived_from TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    frequency BIGINT NOT NULL,
    accesses BIGINT NOT NULL,
    last_accessed BIGINT NOT NULL,
    superseded_by TEXT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    removed_at BIGINT
);
CREATE INDEX memories_content_hash ON memories (content_hash);
CREATE INDEX memories_key ON memories (namespace, key) WHERE key IS NOT NULL;
CREATE INDEX memories_expiring ON memories (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX memories_removed ON memories (removed_at) WHERE removed_at IS NOT NULL;

CREATE TABLE agent_personalities (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    confidence REAL NOT NULL,
    caution REAL NOT NULL,
    thoroughness REAL NOT NULL,
    creativity REAL NOT NULL,
    cooperation REAL NOT NULL,
    interactions BIGINT NOT NULL,
    positive BIGINT NOT NULL,
    negative BIGINT NOT NULL,
    capabilities TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID;
