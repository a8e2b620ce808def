DROP TABLE agent_embeddings;
DELETE FROM change_log WHERE entity = 'agent_embedding';
COMMENT ON TABLE embedding_models IS 'Embedding models in use, and which process has them read memories.';
COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, workflow, run, step, memory, memory_embedding or personality.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check and a personality have that of their agent, a memory_embedding that of its memory, a step that of its run, a slash, and its position. The steps of a new run are not named.';
