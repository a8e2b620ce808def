DROP TRIGGER memory_embeddings_gone;
DROP TABLE memory_embeddings;
DROP TABLE embedding_models;
DELETE FROM change_log WHERE entity = 'memory_embedding';
