CREATE TABLE memory_embeddings (
    model TEXT NOT NULL,
    memory TEXT NOT NULL,
    vector BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (model, memory)
) WITHOUT ROWID;
CREATE INDEX memory_embeddings_memory ON memory_embeddings (memory);
-- Foreign keys are off in SQLite unless each connection turns them on.
CREATE TRIGGER memory_embeddings_gone AFTER DELETE ON memories
BEGIN
    DELETE FROM memory_embeddings WHERE memory = old.id;
END;

CREATE TABLE embedding_models (
    model TEXT PRIMARY KEY NOT NULL,
    used_at BIGINT NOT NULL,
    holder TEXT,
    held_until BIGINT
);
