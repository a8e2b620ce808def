//! What an embedding model has made of memories and agents.

use a2a_core::embedding::ModelVector;
use a2a_core::ids::{AgentKey, MemoryId};
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{QueryResult, SqliteConnection};

use super::rows::{json_text, keys_json};
use super::{Sqlite, SqliteStatement, now, with};
use crate::agent_cache::AgentVector;
use crate::error::StoreError;
use crate::store::Pruned;
use crate::store::embeddings::{AgentVectorRow, PRUNE_VECTORS_MAX, VectorRow, read_agent_rows, read_rows};

impl Sqlite {
    pub(crate) async fn embedding_model_used(&self, model: &str) -> Result<(), StoreError> {
        const USED: &str = "INSERT INTO embedding_models (model, used_at) VALUES (?, ?) \
             ON CONFLICT (model) DO UPDATE SET used_at = excluded.used_at";
        let model = model.to_owned();
        with(&self.writer, move |conn| {
            SqliteStatement::<()>::new(USED).bind::<Text, _>(model).bind::<BigInt, _>(now().0).run(conn)?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn embedding_claim(&self, model: &str, holder: &str, millis: i64) -> Result<bool, StoreError> {
        const CLAIM: &str = "INSERT INTO embedding_models AS m (model, used_at, holder, held_until) VALUES (?, ?, ?, ?) \
             ON CONFLICT (model) DO UPDATE \
             SET used_at = excluded.used_at, holder = excluded.holder, held_until = excluded.held_until \
             WHERE m.holder IS NULL OR m.holder = excluded.holder OR m.held_until < excluded.used_at";
        let (model, holder) = (model.to_owned(), holder.to_owned());
        with(&self.writer, move |conn| {
            let now = now().0;
            let taken = SqliteStatement::<()>::new(CLAIM)
                .bind::<Text, _>(model)
                .bind::<BigInt, _>(now)
                .bind::<Text, _>(holder)
                .bind::<BigInt, _>(now.saturating_add(millis))
                .run(conn)?;
            Ok(taken > 0)
        })
        .await
    }

    pub(crate) async fn embedding_release(&self, model: &str, holder: &str) -> Result<(), StoreError> {
        const RELEASE: &str =
            "UPDATE embedding_models SET holder = NULL, held_until = NULL WHERE model = ? AND holder = ?";
        let (model, holder) = (model.to_owned(), holder.to_owned());
        with(&self.writer, move |conn| {
            SqliteStatement::<()>::new(RELEASE).bind::<Text, _>(model).bind::<Text, _>(holder).run(conn)?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn memory_vectors_put(
        &self,
        model: &str,
        vectors: &[(MemoryId, ModelVector)],
    ) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO memory_embeddings (model, memory, vector, created_at) \
             SELECT ?, m.id, ?, ? FROM memories m WHERE m.id = ? ON CONFLICT DO NOTHING";
        const LOG: &str = "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
             SELECT 'memory_embedding', m.namespace, m.id, 1, 'put', n.now \
             FROM (SELECT ? AS now) n CROSS JOIN memories m WHERE m.id IN (SELECT value FROM json_each(?))";
        let (model, vectors) = (model.to_owned(), vectors.to_vec());
        with(&self.writer, move |conn| {
            conn.immediate_transaction(|conn| {
                let now = now().0;
                let mut put: Vec<&str> = Vec::with_capacity(vectors.len());
                for (id, vector) in &vectors {
                    let written = SqliteStatement::<()>::new(PUT)
                        .bind::<Text, _>(model.as_str())
                        .bind::<Binary, _>(vector.to_bytes())
                        .bind::<BigInt, _>(now)
                        .bind::<Text, _>(id.as_str())
                        .run(conn)?;
                    if written > 0 {
                        put.push(id.as_str());
                    }
                }
                SqliteStatement::<()>::new(LOG).bind::<BigInt, _>(now).bind::<Text, _>(json_text(&put)?).run(conn)?;
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn memory_vectors_read(
        &self,
        model: &str,
        ids: &[MemoryId],
    ) -> Result<Vec<(MemoryId, ModelVector)>, StoreError> {
        const READ: &str = "SELECT e.memory, e.vector FROM json_each(?) j \
             CROSS JOIN memory_embeddings e ON e.memory = j.value AND e.model = ?";
        let (model, ids) = (model.to_owned(), json_text(&ids)?);
        with(&self.reader, move |conn| {
            let rows: Vec<VectorRow> =
                SqliteStatement::<(Text, Binary)>::new(READ).bind::<Text, _>(ids).bind::<Text, _>(model).rows(conn)?;
            Ok(read_rows(rows))
        })
        .await
    }

    pub(crate) async fn agent_vectors_put(&self, model: &str, vectors: &[AgentVector]) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO agent_embeddings AS e (model, namespace, agent, passage_hash, vector, created_at) \
             SELECT ?, a.namespace, a.id, ?, ?, ? FROM agents a WHERE a.namespace = ? AND a.id = ? \
             ON CONFLICT (model, namespace, agent) DO UPDATE SET passage_hash = excluded.passage_hash, \
             vector = excluded.vector, created_at = excluded.created_at WHERE e.passage_hash <> excluded.passage_hash";
        const LOG: &str = "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
             SELECT 'agent_embedding', value ->> 0, value ->> 1, 1, 'put', n.now \
             FROM (SELECT ? AS now) n JOIN json_each(?)";
        let (model, vectors) = (model.to_owned(), vectors.to_vec());
        with(&self.writer, move |conn| {
            conn.immediate_transaction(|conn| {
                let now = now().0;
                let mut put: Vec<&AgentKey> = Vec::with_capacity(vectors.len());
                for AgentVector { key, passage_hash, vector } in &vectors {
                    let written = SqliteStatement::<()>::new(PUT)
                        .bind::<Text, _>(model.as_str())
                        .bind::<Binary, _>(passage_hash.as_slice())
                        .bind::<Binary, _>(vector.to_bytes())
                        .bind::<BigInt, _>(now)
                        .bind::<Text, _>(key.namespace.as_str())
                        .bind::<Text, _>(key.id.as_str())
                        .run(conn)?;
                    if written > 0 {
                        put.push(key);
                    }
                }
                let put = keys_json(put.into_iter())?;
                SqliteStatement::<()>::new(LOG).bind::<BigInt, _>(now).bind::<Text, _>(put).run(conn)?;
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn agent_vectors_read(
        &self,
        model: &str,
        keys: &[AgentKey],
    ) -> Result<Vec<AgentVector>, StoreError> {
        const READ: &str = "SELECT e.namespace, e.agent, e.passage_hash, e.vector FROM json_each(?) j \
             CROSS JOIN agent_embeddings e ON e.namespace = j.value ->> 0 AND e.agent = j.value ->> 1 AND e.model = ?";
        let (model, keys) = (model.to_owned(), keys_json(keys.iter())?);
        with(&self.reader, move |conn| {
            let rows: Vec<AgentVectorRow> = SqliteStatement::<(Text, Text, Binary, Binary)>::new(READ)
                .bind::<Text, _>(keys)
                .bind::<Text, _>(model)
                .rows(conn)?;
            Ok(read_agent_rows(rows))
        })
        .await
    }

    pub(crate) async fn embedding_models_prune(&self, unused_for_ms: i64) -> Result<Pruned, StoreError> {
        const PRUNE: &str = "DELETE FROM memory_embeddings WHERE (model, memory) IN (SELECT e.model, e.memory \
             FROM embedding_models u CROSS JOIN memory_embeddings e ON e.model = u.model WHERE u.used_at < ? LIMIT ?)";
        // Agents are few beside memories.
        const PRUNE_AGENTS: &str = "DELETE FROM agent_embeddings WHERE model IN \
             (SELECT model FROM embedding_models WHERE used_at < ?)";
        const FORGET: &str = "DELETE FROM embedding_models WHERE used_at < ? \
             AND NOT EXISTS (SELECT 1 FROM memory_embeddings e WHERE e.model = embedding_models.model) \
             AND NOT EXISTS (SELECT 1 FROM agent_embeddings e WHERE e.model = embedding_models.model)";
        with(&self.writer, move |conn| {
            let before = now().0.saturating_sub(unused_for_ms);
            let deleted = SqliteStatement::<()>::new(PRUNE)
                .bind::<BigInt, _>(before)
                .bind::<BigInt, _>(PRUNE_VECTORS_MAX)
                .run(conn)?;
            let pruned = Pruned::of(i64::try_from(deleted).unwrap_or(i64::MAX), PRUNE_VECTORS_MAX);
            if pruned == Pruned::All {
                SqliteStatement::<()>::new(PRUNE_AGENTS).bind::<BigInt, _>(before).run(conn)?;
                SqliteStatement::<()>::new(FORGET).bind::<BigInt, _>(before).run(conn)?;
            }
            Ok(pruned)
        })
        .await
    }
}

/// Deletes what is left of purged agents. Memories take their vectors along.
pub(super) fn prune_in_txn(conn: &mut SqliteConnection) -> QueryResult<()> {
    SqliteStatement::<()>::new(
        "DELETE FROM agent_embeddings WHERE NOT EXISTS (SELECT 1 FROM agents a \
         WHERE a.namespace = agent_embeddings.namespace AND a.id = agent_embeddings.agent)",
    )
    .run(conn)
    .map(|_| ())
}
