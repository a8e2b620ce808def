DROP TABLE memory_embeddings;
DROP TABLE embedding_models;
DELETE FROM change_log WHERE entity = 'memory_embedding';
COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, workflow, run, step, memory or personality.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check and a personality have that of their agent, a step that of its run, a slash, and its position. The steps of a new run are not named.';
