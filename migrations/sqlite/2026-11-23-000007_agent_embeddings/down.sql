DROP TABLE agent_embeddings;
DELETE FROM change_log WHERE entity = 'agent_embedding';
