//! Memories and what agents have experienced.
//!
//! A write is five round trips whatever the size of the batch: begin; lock what may not be there yet; lock and read;
//! write; commit.

use std::collections::HashMap;

use a2a_core::ids::{AgentKey, MemoryId, OpId};
use a2a_core::memory::command::{MemoryCommand, MemoryOutcome};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::time::Timestamp;
use diesel::sql_types::{Array, BigInt, Binary, Float, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use uuid::Uuid;

use super::workflow_rows::{by_id, by_pair, send, send_if, send_write};
use super::{PgStatement, Postgres};
use crate::agent_row::Common;
use crate::agent_row::StoredTime;
use crate::bisect::Bisect;
use crate::error::StoreError;
use crate::memory_commit::{Applied, Locked, Round, Wanted, Writes};
use crate::memory_row::{ExperienceJson, ExperienceRow, MemoryJson, MemoryRow, experience_columns, memory_columns};
use crate::store::memories::{CHUNK_MEMORIES, MemoryRevision, PRUNE_MEMORIES_MAX};
use crate::store::{MemoryTouch, MemoryVersion, Pruned};

type MemorySql = (
    Text,
    Text,
    Text,
    Text,
    Nullable<Json>,
    Json,
    Float,
    Float,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Json,
    Json,
    Text,
    Text,
    Json,
    Binary,
    BigInt,
    BigInt,
    Timestamptz,
    Nullable<Text>,
    BigInt,
    Timestamptz,
    Timestamptz,
    Text,
    Nullable<Timestamptz>,
);
type ExperienceSql = (Text, Text, Float, Float, Float, Float, Float, BigInt, BigInt, BigInt, Json, BigInt, Timestamptz);

/// Gone with the transaction. A statement of its own, so that what follows sees what was committed while this waited.
const LOCK_BUCKETS: &str = "SELECT count(pg_advisory_xact_lock(bucket)) FROM \
     (SELECT bucket FROM UNNEST(?) WITH ORDINALITY AS b(bucket, place) ORDER BY place) buckets";

const LOCK: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM memories m WHERE m.id IN (SELECT id FROM UNNEST(?) AS i(id) \
     UNION SELECT h.id FROM UNNEST(?) AS u(hash) JOIN memories h ON h.content_hash = decode(u.hash, 'hex') \
     UNION SELECT k.id FROM UNNEST(?, ?) AS w(namespace, key) \
     JOIN memories k ON k.namespace = w.namespace AND k.key = w.key) ORDER BY m.id FOR UPDATE OF m"
);

const LOCK_EXPERIENCES: &str = concat!(
    "SELECT ",
    experience_columns!(),
    " FROM ",
    by_pair!("namespace", "id"),
    "JOIN agent_personalities p ON p.namespace = k.namespace AND p.id = k.id \
     ORDER BY p.namespace, p.id FOR UPDATE OF p"
);

/// Makes the rows that are to be locked; a revision of zero is never seen by others, because it is raised before the end.
const MAKE_EXPERIENCES: &str = "INSERT INTO agent_personalities (namespace, id, confidence, caution, thoroughness, \
     creativity, cooperation, interactions, positive, negative, capabilities, revision, updated_at) \
     SELECT namespace, id, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, '{}', 0, now() FROM UNNEST(?, ?) AS a(namespace, id) \
     ORDER BY namespace, id ON CONFLICT DO NOTHING";

const PUT: &str = "\
INSERT INTO memories (id, namespace, kind, content, data, tags, importance, decay, expires_at, key, agent, session,
    user_name, run_id, step, supersedes, relations, author, trust, derived_from, content_hash, frequency, accesses,
    last_accessed, superseded_by, revision, created_at, updated_at, updated_by, removed_at)
SELECT id, namespace, kind, content, data::json, tags::json, importance, decay,
    to_timestamp(expires_at / 1000.0), key, agent, session, user_name, run_id, step, supersedes::json,
    relations::json, author, trust, derived_from::json, decode(content_hash, 'hex'), frequency, accesses,
    to_timestamp(last_accessed / 1000.0), superseded_by, revision, to_timestamp(created_at / 1000.0),
    to_timestamp(updated_at / 1000.0), updated_by, to_timestamp(removed_at / 1000.0)
FROM json_to_recordset(?::text::json) AS i(
    id text, namespace text, kind text, content text, data text, tags text, importance real, decay real,
    expires_at bigint, key text, agent text, session text, user_name text, run_id text, step text, supersedes text,
    relations text, author text, trust text, derived_from text, content_hash text, frequency bigint, accesses bigint,
    last_accessed bigint, superseded_by text, revision bigint, created_at bigint, updated_at bigint, updated_by text,
    removed_at bigint)
ON CONFLICT (id) DO UPDATE SET tags = excluded.tags, importance = excluded.importance, decay = excluded.decay,
    expires_at = excluded.expires_at, relations = excluded.relations, frequency = excluded.frequency,
    last_accessed = excluded.last_accessed, superseded_by = excluded.superseded_by, revision = excluded.revision,
    updated_at = excluded.updated_at, updated_by = excluded.updated_by, removed_at = excluded.removed_at";

const PUT_EXPERIENCES: &str = "\
UPDATE agent_personalities p SET confidence = i.confidence, caution = i.caution, thoroughness = i.thoroughness,
    creativity = i.creativity, cooperation = i.cooperation, interactions = i.interactions, positive = i.positive,
    negative = i.negative, capabilities = i.capabilities::json, revision = i.revision,
    updated_at = to_timestamp(i.updated_at / 1000.0)
FROM json_to_recordset(?::text::json) AS i(
    namespace text, id text, confidence real, caution real, thoroughness real, creativity real, cooperation real,
    interactions bigint, positive bigint, negative bigint, capabilities text, revision bigint, updated_at bigint)
WHERE p.namespace = i.namespace AND p.id = i.id";

const LOG: &str = "INSERT INTO change_log (entity, namespace, id, revision, op) \
     SELECT entity, namespace, id, revision, op FROM json_to_recordset(?::text::json) \
     AS i(entity text, namespace text, id text, revision bigint, op text)";

const OPS: &str = "INSERT INTO applied_ops (op_id, entity, namespace, id, revision, op) \
     SELECT op_id, entity, namespace, id, revision, op FROM json_to_recordset(?::text::json) \
     AS i(op_id uuid, entity text, namespace text, id text, revision bigint, op text)";

impl Postgres {
    pub(crate) async fn memory_commit(&self, commands: Vec<MemoryCommand>) -> Result<Vec<MemoryOutcome>, StoreError> {
        self.commit_in_time(&self.memory_limit, async |conn| commit(conn, &commands).await).await
    }

    pub(crate) async fn memories_touch(&self, touches: &[MemoryTouch]) -> Result<(), StoreError> {
        const TOUCH: &str = "UPDATE memories m SET accesses = m.accesses + t.count, \
             last_accessed = greatest(m.last_accessed, to_timestamp(t.at / 1000.0)) \
             FROM UNNEST(?, ?, ?) AS t(id, count, at) WHERE m.id = t.id";
        // In the order of ids, so that two processes don't wait for each other.
        let mut touches: Vec<&MemoryTouch> = touches.iter().collect();
        touches.sort_by(|a, b| a.id.cmp(&b.id));
        self.read(async |conn| {
            PgStatement::<()>::new(TOUCH)
                .bind::<Array<Text>, _>(touches.iter().map(|touch| touch.id.as_str()).collect::<Vec<_>>())
                .bind::<Array<BigInt>, _>(touches.iter().map(|touch| i64::from(touch.count)).collect::<Vec<_>>())
                .bind::<Array<BigInt>, _>(touches.iter().map(|touch| touch.at.0).collect::<Vec<_>>())
                .run(conn)
                .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn memories_read(&self, ids: &[MemoryId]) -> Result<Vec<MemoryVersion>, StoreError> {
        self.read(async |conn| by_ids(conn, ids).await).await
    }

    pub(crate) async fn memories_after(&self, after: &str) -> Result<Vec<MemoryVersion>, StoreError> {
        const AFTER: &str = concat!(
            "SELECT ",
            memory_columns!(),
            " FROM memories m WHERE m.id > ? AND m.removed_at IS NULL ORDER BY m.id LIMIT ?"
        );
        self.read(async |conn| {
            let rows: Vec<MemoryRow> = PgStatement::<MemorySql>::new(AFTER)
                .bind::<Text, _>(after)
                .bind::<BigInt, _>(CHUNK_MEMORIES)
                .rows(conn)
                .await?;
            let mut common = Common::default();
            rows.into_iter().map(|row| row.into_version_with(&mut common)).collect()
        })
        .await
    }

    pub(crate) async fn memory_revisions(&self) -> Result<Vec<MemoryRevision>, StoreError> {
        self.read(async |conn| {
            let rows: Vec<(String, i64, StoredTime)> = PgStatement::<(Text, BigInt, Timestamptz)>::new(
                "SELECT id, revision, updated_at FROM memories WHERE removed_at IS NULL",
            )
            .rows(conn)
            .await?;
            let revision = |(id, revision, at): (String, i64, StoredTime)| MemoryRevision {
                id: MemoryId::from_stored(id),
                revision,
                updated_at: at.0,
            };
            Ok(rows.into_iter().map(revision).collect())
        })
        .await
    }

    pub(crate) async fn experiences_read(
        &self,
        agents: Option<&[AgentKey]>,
    ) -> Result<Vec<AgentExperience>, StoreError> {
        const ALL: &str = concat!("SELECT ", experience_columns!(), " FROM agent_personalities p");
        self.read(async |conn| {
            let rows: Vec<ExperienceRow> = match agents {
                None => PgStatement::<ExperienceSql>::new(ALL).rows(conn).await?,
                Some(agents) => return experiences(conn, agents).await,
            };
            rows.into_iter().map(ExperienceRow::into_experience).collect()
        })
        .await
    }
}

async fn by_ids(conn: &mut AsyncPgConnection, ids: &[MemoryId]) -> Result<Vec<MemoryVersion>, StoreError> {
    const BY_IDS: &str = concat!("SELECT ", memory_columns!(), " FROM ", by_id!(), "JOIN memories m ON m.id = k.id");
    let rows: Vec<MemoryRow> = PgStatement::<MemorySql>::new(BY_IDS)
        .bind::<Array<Text>, _>(ids.iter().map(MemoryId::as_str).collect::<Vec<_>>())
        .rows(conn)
        .await?;
    rows.into_iter().map(MemoryRow::into_version).collect()
}

async fn experiences(conn: &mut AsyncPgConnection, agents: &[AgentKey]) -> Result<Vec<AgentExperience>, StoreError> {
    const BY_KEYS: &str = concat!(
        "SELECT ",
        experience_columns!(),
        " FROM ",
        by_pair!("namespace", "id"),
        "JOIN agent_personalities p ON p.namespace = k.namespace AND p.id = k.id"
    );
    let rows: Vec<ExperienceRow> = PgStatement::<ExperienceSql>::new(BY_KEYS)
        .bind::<Array<Text>, _>(agents.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(agents.iter().map(|key| key.id.as_str()).collect::<Vec<_>>())
        .rows(conn)
        .await?;
    rows.into_iter().map(ExperienceRow::into_experience).collect()
}

/// Reads what the change log has named.
pub(super) async fn fetch(
    conn: &mut AsyncPgConnection,
    ids: &[MemoryId],
    agents: &[AgentKey],
) -> Result<(Vec<MemoryVersion>, Vec<AgentExperience>), StoreError> {
    let memories = if ids.is_empty() { Vec::new() } else { by_ids(conn, ids).await? };
    let experiences = if agents.is_empty() { Vec::new() } else { experiences(conn, agents).await? };
    Ok((memories, experiences))
}

async fn commit(conn: &mut AsyncPgConnection, commands: &[MemoryCommand]) -> Result<Vec<MemoryOutcome>, StoreError> {
    match conn.transaction(async |conn| apply_in_txn(conn, commands).await).await {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, commands = commands.len(), "a batch was rejected; isolating the cause");
            conn.transaction(async |conn| isolate_in_txn(conn, commands).await).await
        }
        result => result,
    }
}

/// Applies the commands part by part, each in a savepoint, until the parts that the database rejects are single ones.
fn isolate_in_txn<'c>(
    conn: &'c mut AsyncPgConnection,
    commands: &'c [MemoryCommand],
) -> BoxFuture<'c, Result<Vec<MemoryOutcome>, StoreError>> {
    async move {
        let mut bisect = Bisect::new(commands);
        while let Some(part) = bisect.next_part() {
            // diesel makes a transaction inside of one a savepoint.
            match conn.transaction(async |conn| apply_in_txn(conn, part).await).await {
                Ok(outcomes) => bisect.applied(outcomes),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => bisect.rejected(&error),
            }
        }
        Ok(bisect.into_outcomes())
    }
    .boxed()
}

fn apply_in_txn<'c>(
    conn: &'c AsyncPgConnection,
    commands: &'c [MemoryCommand],
) -> BoxFuture<'c, Result<Vec<MemoryOutcome>, StoreError>> {
    async move {
        let mut round = Round::new(lock_in_txn(conn, &Wanted::of(commands)).await?);
        let outcomes = commands.iter().map(|command| round.command(command)).collect();
        write_in_txn(conn, &round.writes()).await?;
        Ok(outcomes)
    }
    .boxed()
}

async fn lock_in_txn(conn: &AsyncPgConnection, wanted: &Wanted) -> Result<Locked, StoreError> {
    let buckets: Vec<i64> = wanted.buckets.iter().copied().collect();
    let agents = || {
        (
            wanted.agents.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>(),
            wanted.agents.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(),
        )
    };
    if !buckets.is_empty() {
        let lock = PgStatement::<BigInt>::new(LOCK_BUCKETS).bind::<Array<BigInt>, _>(buckets);
        let _locked: Vec<i64> = send(conn, lock).await?;
    }
    if !wanted.agents.is_empty() {
        let (namespaces, ids) = agents();
        let make =
            PgStatement::<()>::new(MAKE_EXPERIENCES).bind::<Array<Text>, _>(namespaces).bind::<Array<Text>, _>(ids);
        send_write(conn, true, make).await?;
    }
    type Op = (Uuid, String, i64, String);
    let op_ids: Vec<Uuid> = wanted.op_ids.iter().map(|op_id| op_id.0).collect();
    // Ordering: after the locks, because an earlier attempt of the same writes may hold them until it has committed.
    let find_ops = || {
        PgStatement::<(SqlUuid, Text, BigInt, Text)>::new(
            "SELECT op_id, id, revision, op FROM applied_ops WHERE op_id = ANY(?)",
        )
        .bind::<Array<SqlUuid>, _>(op_ids)
    };
    let lock = || {
        PgStatement::<MemorySql>::new(LOCK)
            .bind::<Array<Text>, _>(wanted.ids.iter().map(MemoryId::as_str).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(wanted.hashes_in_hex())
            .bind::<Array<Text>, _>(wanted.keys.iter().map(|(namespace, _)| namespace.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(wanted.keys.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>())
    };
    let lock_agents = || {
        let (namespaces, ids) = agents();
        PgStatement::<ExperienceSql>::new(LOCK_EXPERIENCES)
            .bind::<Array<Text>, _>(namespaces)
            .bind::<Array<Text>, _>(ids)
    };
    let any_memory = !(wanted.ids.is_empty() && wanted.hashes.is_empty() && wanted.keys.is_empty());
    let (rows, agents, clock) = futures_util::join!(
        send_if::<_, MemoryRow>(conn, any_memory, lock),
        send_if::<_, ExperienceRow>(conn, !wanted.agents.is_empty(), lock_agents),
        send::<_, i64>(
            conn,
            PgStatement::<BigInt>::new("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS told_at")
        ),
    );
    let mut memories: Vec<MemoryVersion> = rows?.into_iter().map(MemoryRow::into_version).collect::<Result<_, _>>()?;
    let applied: HashMap<OpId, Applied> = send::<_, Op>(conn, find_ops())
        .await?
        .into_iter()
        .map(|(op_id, id, revision, op)| (OpId(op_id), Applied { id, revision, op }))
        .collect();
    // A repeat of another memory's words: the row that was told again is not always among those that were locked.
    let lacking: Vec<&str> = applied
        .values()
        .map(|applied| applied.id.as_str())
        .filter(|id| memories.iter().all(|version| version.memory.id.as_str() != *id))
        .collect();
    if !lacking.is_empty() {
        const LACKING: &str =
            concat!("SELECT ", memory_columns!(), " FROM memories m WHERE m.id = ANY(?) ORDER BY m.id FOR UPDATE OF m");
        let more = PgStatement::<MemorySql>::new(LACKING).bind::<Array<Text>, _>(lacking);
        let rows: Vec<MemoryRow> = send(conn, more).await?;
        for row in rows {
            memories.push(row.into_version()?);
        }
    }
    let experiences = agents?.into_iter().map(ExperienceRow::into_experience).collect::<Result<Vec<_>, _>>()?;
    Ok(Locked { now: Timestamp(clock?.first().copied().unwrap_or_default()), memories, experiences, applied })
}

async fn write_in_txn(conn: &AsyncPgConnection, writes: &Writes) -> Result<(), StoreError> {
    let put = |sql: &'static str, rows: Result<String, StoreError>| {
        rows.map(|rows| PgStatement::<()>::new(sql).bind::<Text, _>(rows))
    };
    let memories: Vec<MemoryJson<'_>> = writes
        .memories
        .iter()
        .map(|version| MemoryJson::of(&version.memory, version.removed_at))
        .collect::<Result<_, _>>()?;
    let experiences: Vec<ExperienceJson<'_>> =
        writes.experiences.iter().map(|experience| ExperienceJson::of(experience)).collect::<Result<_, _>>()?;
    let deleted: Vec<&str> = writes.deleted.iter().map(MemoryId::as_str).collect();
    let (memories_put, deleted, experiences_put, logged, noted) = futures_util::join!(
        send_write(conn, !memories.is_empty(), put(PUT, json_text(&memories))?),
        send_write(
            conn,
            !deleted.is_empty(),
            PgStatement::<()>::new("DELETE FROM memories WHERE id = ANY(?)").bind::<Array<Text>, _>(deleted.clone())
        ),
        send_write(conn, !experiences.is_empty(), put(PUT_EXPERIENCES, json_text(&experiences))?),
        send_write(conn, !writes.log.is_empty(), put(LOG, json_text(&writes.log))?),
        send_write(conn, !writes.ops.is_empty(), put(OPS, json_text(&writes.ops))?),
    );
    for written in [memories_put, deleted, experiences_put, logged, noted] {
        written?;
    }
    Ok(())
}

fn json_text(rows: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Task(error.to_string()))
}

/// Deletes what expired or was forgotten before the times, unless somebody has it locked.
pub(super) async fn prune(
    conn: &mut AsyncPgConnection,
    expired_for_ms: i64,
    removed_for_ms: i64,
) -> Result<Pruned, StoreError> {
    const PRUNE: &str = "\
WITH old AS (
    SELECT id FROM memories WHERE expires_at < now() - ?::bigint * interval '1 millisecond'
        OR removed_at < now() - ?::bigint * interval '1 millisecond'
    ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM memories m USING old WHERE m.id = old.id RETURNING m.namespace, m.id, m.revision + 1 AS revision
), logged AS (
    INSERT INTO change_log (entity, namespace, id, revision, op)
    SELECT 'memory', namespace, id, revision, 'remove' FROM gone
)
SELECT count(*) FROM gone";
    let deleted: i64 = PgStatement::<BigInt>::new(PRUNE)
        .bind::<BigInt, _>(expired_for_ms)
        .bind::<BigInt, _>(removed_for_ms)
        .bind::<BigInt, _>(PRUNE_MEMORIES_MAX)
        .row(conn)
        .await?;
    Ok(Pruned::of(deleted, PRUNE_MEMORIES_MAX))
}
