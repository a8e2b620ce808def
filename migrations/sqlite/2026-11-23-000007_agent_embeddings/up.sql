CREATE TABLE agent_embeddings (
    model TEXT NOT NULL,
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    passage_hash BLOB NOT NULL,
    vector BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (model, namespace, agent)
) WITHOUT ROWID;
