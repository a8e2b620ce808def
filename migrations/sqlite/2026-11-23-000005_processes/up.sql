CREATE TABLE processes (
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 64) PRIMARY KEY,
    kind TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    version TEXT NOT NULL,
    schema TEXT NOT NULL,
    mode TEXT NOT NULL,
    namespace TEXT NOT NULL,
    client TEXT,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
