-- The same tables as for Postgres, where every column is explained.

CREATE TABLE workflows (
    namespace TEXT NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    revision BIGINT NOT NULL CHECK (revision > 0),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (namespace, id)
);

CREATE TABLE workflow_history (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    content_hash BLOB NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (namespace, id, revision)
);

CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    namespace TEXT NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    workflow_id TEXT CHECK (length(workflow_id) BETWEEN 1 AND 128),
    workflow_revision BIGINT CHECK (workflow_revision > 0),
    definition_hash BLOB NOT NULL CHECK (length(definition_hash) = 32),
    definition TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('PENDING', 'RUNNING', 'WAITING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    paused BOOLEAN NOT NULL,
    priority BIGINT NOT NULL CHECK (priority BETWEEN 0 AND 9),
    context TEXT NOT NULL,
    input TEXT NOT NULL,
    result TEXT,
    error TEXT,
    idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 256),
    forked_from TEXT CHECK (length(forked_from) BETWEEN 1 AND 128),
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    timeout_at BIGINT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    CHECK ((finished_at IS NOT NULL) = (status IN ('COMPLETED', 'FAILED', 'CANCELLED')))
);
CREATE INDEX runs_live ON runs (id) WHERE finished_at IS NULL;
CREATE INDEX runs_listed ON runs (namespace, created_at, id);
CREATE INDEX runs_by_status ON runs (namespace, status, created_at, id);
CREATE INDEX runs_by_workflow ON runs (namespace, workflow_id, created_at, id) WHERE workflow_id IS NOT NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX runs_idempotency_key ON runs (namespace, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE steps (
    run_id TEXT NOT NULL CHECK (length(run_id) BETWEEN 1 AND 128),
    ord BIGINT NOT NULL CHECK (ord BETWEEN 0 AND 9999),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    agent TEXT NOT NULL CHECK (length(agent) BETWEEN 1 AND 128),
    executor_kind TEXT NOT NULL,
    executor_settings TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN
        ('PENDING', 'READY', 'RUNNING', 'WAITING', 'COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')),
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    failures BIGINT NOT NULL CHECK (failures >= 0),
    input TEXT,
    output TEXT,
    error TEXT,
    wait TEXT,
    answer TEXT,
    checkpoint TEXT,
    progress TEXT,
    lease_owner TEXT,
    lease_until BIGINT,
    progress_until BIGINT,
    timeout_at BIGINT,
    due_at BIGINT,
    ready_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    revision BIGINT NOT NULL CHECK (revision >= 0),
    PRIMARY KEY (run_id, ord)
);
