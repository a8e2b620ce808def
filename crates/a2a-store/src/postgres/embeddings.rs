//! What an embedding model has made of memories and agents. Each write is one statement, which is a transaction of its own.

use a2a_core::embedding::ModelVector;
use a2a_core::ids::{AgentKey, MemoryId};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Binary, Text};
use diesel_async::AsyncPgConnection;

use super::workflow_rows::{by_id, by_pair};
use super::{PgStatement, Postgres};
use crate::agent_cache::AgentVector;
use crate::error::StoreError;
use crate::store::Pruned;
use crate::store::embeddings::{AgentVectorRow, PRUNE_VECTORS_MAX, VectorRow, read_agent_rows, read_rows};

impl Postgres {
    pub(crate) async fn embedding_model_used(&self, model: &str) -> Result<(), StoreError> {
        const USED: &str = "INSERT INTO embedding_models (model, used_at) VALUES (?, now()) \
             ON CONFLICT (model) DO UPDATE SET used_at = now()";
        self.read(async |conn| {
            PgStatement::<()>::new(USED).bind::<Text, _>(model).run(conn).await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn embedding_claim(&self, model: &str, holder: &str, millis: i64) -> Result<bool, StoreError> {
        const CLAIM: &str = "INSERT INTO embedding_models AS m (model, used_at, holder, held_until) \
             VALUES (?, now(), ?, now() + ?::bigint * interval '1 millisecond') \
             ON CONFLICT (model) DO UPDATE SET used_at = now(), holder = excluded.holder, held_until = excluded.held_until \
             WHERE m.holder IS NULL OR m.holder = excluded.holder OR m.held_until < now()";
        self.read(async |conn| {
            let taken = PgStatement::<()>::new(CLAIM)
                .bind::<Text, _>(model)
                .bind::<Text, _>(holder)
                .bind::<BigInt, _>(millis)
                .run(conn)
                .await?;
            Ok(taken > 0)
        })
        .await
    }

    pub(crate) async fn embedding_release(&self, model: &str, holder: &str) -> Result<(), StoreError> {
        const RELEASE: &str =
            "UPDATE embedding_models SET holder = NULL, held_until = NULL WHERE model = ? AND holder = ?";
        self.read(async |conn| {
            PgStatement::<()>::new(RELEASE).bind::<Text, _>(model).bind::<Text, _>(holder).run(conn).await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn memory_vectors_put(
        &self,
        model: &str,
        vectors: &[(MemoryId, ModelVector)],
    ) -> Result<(), StoreError> {
        // In the order of ids, as whoever locks memories takes them. What is gone by now is left out.
        const PUT: &str = "\
WITH there AS (
    SELECT m.namespace, m.id, g.vector FROM UNNEST(?, ?) AS g(memory, vector) JOIN memories m ON m.id = g.memory
    ORDER BY m.id FOR KEY SHARE OF m
), put AS (
    INSERT INTO memory_embeddings (model, memory, vector) SELECT ?, id, vector FROM there
    ON CONFLICT DO NOTHING RETURNING memory
)
INSERT INTO change_log (entity, namespace, id, revision, op)
SELECT 'memory_embedding', there.namespace, there.id, 1, 'put' FROM put JOIN there ON there.id = put.memory";
        self.read(async |conn| {
            PgStatement::<()>::new(PUT)
                .bind::<Array<Text>, _>(vectors.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
                .bind::<Array<Binary>, _>(vectors.iter().map(|(_, vector)| vector.to_bytes()).collect::<Vec<_>>())
                .bind::<Text, _>(model)
                .run(conn)
                .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn memory_vectors_read(
        &self,
        model: &str,
        ids: &[MemoryId],
    ) -> Result<Vec<(MemoryId, ModelVector)>, StoreError> {
        const READ: &str = concat!(
            "SELECT e.memory, e.vector FROM ",
            by_id!(),
            "JOIN memory_embeddings e ON e.memory = k.id AND e.model = ?"
        );
        self.read(async |conn| {
            let rows: Vec<VectorRow> = PgStatement::<(Text, Binary)>::new(READ)
                .bind::<Array<Text>, _>(ids.iter().map(MemoryId::as_str).collect::<Vec<_>>())
                .bind::<Text, _>(model)
                .rows(conn)
                .await?;
            Ok(read_rows(rows))
        })
        .await
    }

    pub(crate) async fn agent_vectors_put(&self, model: &str, vectors: &[AgentVector]) -> Result<(), StoreError> {
        // In the order of keys, as whoever locks agents takes them. What is gone by now is left out.
        const PUT: &str = "\
WITH there AS (
    SELECT a.namespace, a.id, g.passage_hash, g.vector
    FROM UNNEST(?, ?, ?, ?) AS g(namespace, agent, passage_hash, vector)
    JOIN agents a ON a.namespace = g.namespace AND a.id = g.agent
    ORDER BY a.namespace, a.id FOR KEY SHARE OF a
), put AS (
    INSERT INTO agent_embeddings AS e (model, namespace, agent, passage_hash, vector)
    SELECT ?, namespace, id, passage_hash, vector FROM there
    ON CONFLICT (model, namespace, agent) DO UPDATE
    SET passage_hash = excluded.passage_hash, vector = excluded.vector, created_at = now()
    WHERE e.passage_hash <> excluded.passage_hash RETURNING namespace, agent
)
INSERT INTO change_log (entity, namespace, id, revision, op)
SELECT 'agent_embedding', namespace, agent, 1, 'put' FROM put";
        self.read(async |conn| {
            let of = |pick: fn(&AgentVector) -> &str| vectors.iter().map(pick).collect::<Vec<&str>>();
            PgStatement::<()>::new(PUT)
                .bind::<Array<Text>, _>(of(|vector| vector.key.namespace.as_str()))
                .bind::<Array<Text>, _>(of(|vector| vector.key.id.as_str()))
                .bind::<Array<Binary>, _>(vectors.iter().map(|v| v.passage_hash.as_slice()).collect::<Vec<_>>())
                .bind::<Array<Binary>, _>(vectors.iter().map(|v| v.vector.to_bytes()).collect::<Vec<_>>())
                .bind::<Text, _>(model)
                .run(conn)
                .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn agent_vectors_read(
        &self,
        model: &str,
        keys: &[AgentKey],
    ) -> Result<Vec<AgentVector>, StoreError> {
        const READ: &str = concat!(
            "SELECT e.namespace, e.agent, e.passage_hash, e.vector FROM ",
            by_pair!("namespace", "agent"),
            "JOIN agent_embeddings e ON e.namespace = k.namespace AND e.agent = k.agent AND e.model = ?"
        );
        self.read(async |conn| {
            let rows: Vec<AgentVectorRow> = PgStatement::<(Text, Text, Binary, Binary)>::new(READ)
                .bind::<Array<Text>, _>(keys.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>())
                .bind::<Text, _>(model)
                .rows(conn)
                .await?;
            Ok(read_agent_rows(rows))
        })
        .await
    }

    pub(crate) async fn embedding_models_prune(&self, unused_for_ms: i64) -> Result<Pruned, StoreError> {
        const PRUNE: &str = "\
WITH unused AS (
    SELECT model FROM embedding_models WHERE used_at < now() - ?::bigint * interval '1 millisecond'
), old AS (
    SELECT e.model, e.memory FROM unused u JOIN memory_embeddings e ON e.model = u.model
    ORDER BY e.model, e.memory LIMIT ? FOR UPDATE OF e SKIP LOCKED
), gone AS (
    DELETE FROM memory_embeddings e USING old WHERE e.model = old.model AND e.memory = old.memory RETURNING 1
)
SELECT count(*) FROM gone";
        // Agents are few beside memories.
        const PRUNE_AGENTS: &str = "DELETE FROM agent_embeddings e USING embedding_models m \
             WHERE m.model = e.model AND m.used_at < now() - ?::bigint * interval '1 millisecond'";
        const FORGET: &str = "DELETE FROM embedding_models m \
             WHERE m.used_at < now() - ?::bigint * interval '1 millisecond' \
             AND NOT EXISTS (SELECT 1 FROM memory_embeddings e WHERE e.model = m.model) \
             AND NOT EXISTS (SELECT 1 FROM agent_embeddings e WHERE e.model = m.model)";
        self.read(async |conn| {
            let deleted: i64 = PgStatement::<BigInt>::new(PRUNE)
                .bind::<BigInt, _>(unused_for_ms)
                .bind::<BigInt, _>(PRUNE_VECTORS_MAX)
                .row(conn)
                .await?;
            let pruned = Pruned::of(deleted, PRUNE_VECTORS_MAX);
            if pruned == Pruned::All {
                PgStatement::<()>::new(PRUNE_AGENTS).bind::<BigInt, _>(unused_for_ms).run(conn).await?;
                PgStatement::<()>::new(FORGET).bind::<BigInt, _>(unused_for_ms).run(conn).await?;
            }
            Ok(pruned)
        })
        .await
    }
}

/// Deletes what is left of purged agents. Memories take their vectors along.
pub(super) async fn prune(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    PgStatement::<()>::new(
        "DELETE FROM agent_embeddings e WHERE NOT EXISTS \
         (SELECT 1 FROM agents a WHERE a.namespace = e.namespace AND a.id = e.agent)",
    )
    .run(conn)
    .await
    .map(|_| ())
}
