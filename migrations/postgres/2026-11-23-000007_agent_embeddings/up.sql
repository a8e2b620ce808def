CREATE TABLE agent_embeddings (
    model text COLLATE "C" NOT NULL CHECK (length(model) BETWEEN 1 AND 500),
    namespace text COLLATE "C" NOT NULL,
    agent text COLLATE "C" NOT NULL,
    passage_hash bytea NOT NULL CHECK (length(passage_hash) = 32),
    vector bytea NOT NULL CHECK (length(vector) BETWEEN 1 AND 4096),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, namespace, agent)
);
COMMENT ON TABLE agent_embeddings IS 'What embedding models have made of agents.';
COMMENT ON COLUMN agent_embeddings.model IS 'The model. Vectors of two models are never compared.';
COMMENT ON COLUMN agent_embeddings.namespace IS 'Of the agent.';
COMMENT ON COLUMN agent_embeddings.agent IS 'Its id.';
COMMENT ON COLUMN agent_embeddings.passage_hash IS 'SHA-256 of what the model has read. The vector is that of the agent only while this is what it says of itself.';
COMMENT ON COLUMN agent_embeddings.vector IS 'Its direction, one signed byte for each dimension.';
COMMENT ON COLUMN agent_embeddings.created_at IS 'When it was made.';
COMMENT ON TABLE embedding_models IS 'Embedding models in use, and which process has them read memories and agents.';
COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, agent_embedding, workflow, run, step, memory, memory_embedding or personality.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check, an agent_embedding and a personality have that of their agent, a memory_embedding that of its memory, a step that of its run, a slash, and its position. The steps of a new run are not named.';
