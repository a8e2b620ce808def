CREATE TABLE agent_checks (
    namespace TEXT NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    reachable BOOLEAN NOT NULL,
    detail TEXT CHECK (length(detail) BETWEEN 1 AND 500),
    checked_at BIGINT NOT NULL,
    checked_by TEXT NOT NULL,
    revision BIGINT NOT NULL CHECK (revision > 0),
    PRIMARY KEY (namespace, id)
);
