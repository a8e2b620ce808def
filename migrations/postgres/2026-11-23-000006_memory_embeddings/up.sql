CREATE TABLE memory_embeddings (
    model text COLLATE "C" NOT NULL CHECK (length(model) BETWEEN 1 AND 500),
    memory text COLLATE "C" NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    vector bytea NOT NULL CHECK (length(vector) BETWEEN 1 AND 4096),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, memory)
);
COMMENT ON TABLE memory_embeddings IS 'What embedding models have made of memories. What a memory says never changes, so that a row never does.';
COMMENT ON COLUMN memory_embeddings.model IS 'The model. Vectors of two models are never compared.';
COMMENT ON COLUMN memory_embeddings.memory IS 'The memory.';
COMMENT ON COLUMN memory_embeddings.vector IS 'Its direction, one signed byte for each dimension.';
COMMENT ON COLUMN memory_embeddings.created_at IS 'When it was made.';
CREATE INDEX memory_embeddings_memory ON memory_embeddings (memory);

CREATE TABLE embedding_models (
    model text COLLATE "C" PRIMARY KEY CHECK (length(model) BETWEEN 1 AND 500),
    used_at timestamptz NOT NULL,
    holder text COLLATE "C",
    held_until timestamptz
);
COMMENT ON TABLE embedding_models IS 'Embedding models in use, and which process has them read memories.';
COMMENT ON COLUMN embedding_models.model IS 'The model.';
COMMENT ON COLUMN embedding_models.used_at IS 'When a process was last set to use it. The vectors of one that no process uses are deleted.';
COMMENT ON COLUMN embedding_models.holder IS 'The process whose turn it is.';
COMMENT ON COLUMN embedding_models.held_until IS 'Until when, unless it says so again.';

COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, workflow, run, step, memory, memory_embedding or personality.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check and a personality have that of their agent, a memory_embedding that of its memory, a step that of its run, a slash, and its position. The steps of a new run are not named.';
