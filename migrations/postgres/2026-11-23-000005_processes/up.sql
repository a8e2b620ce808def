CREATE TABLE processes (
    id text COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 64) PRIMARY KEY,
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    schema text NOT NULL,
    mode text NOT NULL,
    namespace text NOT NULL,
    client text,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);
COMMENT ON TABLE processes IS 'The servers and workers that use this database, for those who look after it. Nothing depends on it.';
COMMENT ON COLUMN processes.id IS 'Chosen by the process at its start.';
COMMENT ON COLUMN processes.kind IS 'serve or worker.';
COMMENT ON COLUMN processes.host IS 'The machine that it runs on.';
COMMENT ON COLUMN processes.pid IS 'Its number there.';
COMMENT ON COLUMN processes.version IS 'The version of the program.';
COMMENT ON COLUMN processes.schema IS 'The newest migration that the program knows.';
COMMENT ON COLUMN processes.mode IS 'How it keeps agents, as A2A_STORAGE says it.';
COMMENT ON COLUMN processes.namespace IS 'The namespace of its calls that name none.';
COMMENT ON COLUMN processes.client IS 'What its client calls itself, once that is known.';
COMMENT ON COLUMN processes.started_at IS 'When it first wrote this row.';
COMMENT ON COLUMN processes.seen_at IS 'When it was last alive. It takes the row away when it ends; whoever is silent for long is taken away by others.';
