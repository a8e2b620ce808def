//! Memories and what agents have experienced. `BEGIN IMMEDIATE` makes a write the only one, so that what is read in it
//! stays true.

use std::collections::HashMap;

use a2a_core::ids::{AgentKey, MemoryId};
use a2a_core::memory::command::{MemoryCommand, MemoryOutcome};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::time::Timestamp;
use diesel::sql_types::{BigInt, Binary, Float, Nullable, Text};
use diesel::{Connection as _, SqliteConnection};
use serde::Serialize;

use super::rows::{json_text, keys_json};
use super::{Sqlite, SqliteStatement, now, with};
use crate::agent_row::Common;
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
    Nullable<Text>,
    Text,
    Float,
    Float,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Text,
    Text,
    Text,
    Text,
    Text,
    Binary,
    BigInt,
    BigInt,
    BigInt,
    Nullable<Text>,
    BigInt,
    BigInt,
    BigInt,
    Text,
    Nullable<BigInt>,
);
type ExperienceSql = (Text, Text, Float, Float, Float, Float, Float, BigInt, BigInt, BigInt, Text, BigInt, BigInt);

/// What a batch has to do with: by id, by what it says, by key.
const WANTED: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM memories m WHERE m.id IN (SELECT value FROM json_each(?) \
     UNION SELECT h.id FROM json_each(?) j CROSS JOIN memories h ON h.content_hash = unhex(j.value) \
     UNION SELECT k.id FROM json_each(?) j CROSS JOIN memories k ON k.namespace = j.value ->> 0 AND k.key = j.value ->> 1)"
);

const PUT: &str = "INSERT INTO memories (id, namespace, kind, content, data, tags, importance, decay, expires_at, key, \
     agent, session, user_name, run_id, step, supersedes, relations, author, trust, derived_from, content_hash, \
     frequency, accesses, last_accessed, superseded_by, revision, created_at, updated_at, updated_by, removed_at) \
     SELECT value ->> 'id', value ->> 'namespace', value ->> 'kind', value ->> 'content', value ->> 'data', \
     value ->> 'tags', value ->> 'importance', value ->> 'decay', value ->> 'expires_at', value ->> 'key', \
     value ->> 'agent', value ->> 'session', value ->> 'user_name', value ->> 'run_id', value ->> 'step', \
     value ->> 'supersedes', value ->> 'relations', value ->> 'author', value ->> 'trust', value ->> 'derived_from', \
     unhex(value ->> 'content_hash'), value ->> 'frequency', value ->> 'accesses', value ->> 'last_accessed', \
     value ->> 'superseded_by', value ->> 'revision', value ->> 'created_at', value ->> 'updated_at', \
     value ->> 'updated_by', value ->> 'removed_at' FROM json_each(?) WHERE true \
     ON CONFLICT (id) DO UPDATE SET tags = excluded.tags, importance = excluded.importance, decay = excluded.decay, \
     expires_at = excluded.expires_at, relations = excluded.relations, frequency = excluded.frequency, \
     last_accessed = excluded.last_accessed, superseded_by = excluded.superseded_by, revision = excluded.revision, \
     updated_at = excluded.updated_at, updated_by = excluded.updated_by, removed_at = excluded.removed_at";

const PUT_EXPERIENCES: &str = "INSERT OR REPLACE INTO agent_personalities (namespace, id, confidence, caution, \
     thoroughness, creativity, cooperation, interactions, positive, negative, capabilities, revision, updated_at) \
     SELECT value ->> 'namespace', value ->> 'id', value ->> 'confidence', value ->> 'caution', \
     value ->> 'thoroughness', value ->> 'creativity', value ->> 'cooperation', value ->> 'interactions', \
     value ->> 'positive', value ->> 'negative', value ->> 'capabilities', value ->> 'revision', \
     value ->> 'updated_at' FROM json_each(?)";

const LOG: &str = "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
     SELECT value ->> 'entity', value ->> 'namespace', value ->> 'id', value ->> 'revision', value ->> 'op', n.now \
     FROM (SELECT ? AS now) n JOIN json_each(?)";

const OPS: &str = "INSERT INTO applied_ops (op_id, entity, namespace, id, revision, op, at) \
     SELECT value ->> 'op_id', value ->> 'entity', value ->> 'namespace', value ->> 'id', value ->> 'revision', \
     value ->> 'op', n.now FROM (SELECT ? AS now) n JOIN json_each(?)";

impl Sqlite {
    pub(crate) async fn memory_commit(&self, commands: Vec<MemoryCommand>) -> Result<Vec<MemoryOutcome>, StoreError> {
        with(&self.writer, move |conn| match conn.immediate_transaction(|conn| apply_in_txn(conn, &commands)) {
            Err(error) if !error.is_transient() => {
                tracing::warn!(%error, commands = commands.len(), "a batch was rejected; isolating the cause");
                conn.immediate_transaction(|conn| isolate_in_txn(conn, &commands))
            }
            result => result,
        })
        .await
    }

    pub(crate) async fn memories_touch(&self, touches: &[MemoryTouch]) -> Result<(), StoreError> {
        let rows: Vec<(&MemoryId, u32, i64)> = touches.iter().map(|t| (&t.id, t.count, t.at.0)).collect();
        let rows = json_text(&rows)?;
        with(&self.writer, move |conn| {
            SqliteStatement::<()>::new(
                "UPDATE memories SET accesses = accesses + (t.value ->> 1), \
                 last_accessed = max(last_accessed, t.value ->> 2) FROM json_each(?) t WHERE memories.id = t.value ->> 0",
            )
            .bind::<Text, _>(rows)
            .run(conn)?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn memories_read(&self, ids: &[MemoryId]) -> Result<Vec<MemoryVersion>, StoreError> {
        let ids = json_text(&ids)?;
        with(&self.reader, move |conn| by_ids(conn, &ids)).await
    }

    pub(crate) async fn memories_after(&self, after: &str) -> Result<Vec<MemoryVersion>, StoreError> {
        const AFTER: &str = concat!(
            "SELECT ",
            memory_columns!(),
            " FROM memories m WHERE m.id > ? AND m.removed_at IS NULL ORDER BY m.id LIMIT ?"
        );
        let after = after.to_owned();
        with(&self.reader, move |conn| {
            let rows: Vec<MemoryRow> = SqliteStatement::<MemorySql>::new(AFTER)
                .bind::<Text, _>(after)
                .bind::<BigInt, _>(CHUNK_MEMORIES)
                .rows(conn)?;
            let mut common = Common::default();
            rows.into_iter().map(|row| row.into_version_with(&mut common)).collect()
        })
        .await
    }

    pub(crate) async fn memory_revisions(&self) -> Result<Vec<MemoryRevision>, StoreError> {
        with(&self.reader, |conn| {
            let rows: Vec<(String, i64, i64)> = SqliteStatement::<(Text, BigInt, BigInt)>::new(
                "SELECT id, revision, updated_at FROM memories WHERE removed_at IS NULL",
            )
            .rows(conn)?;
            let revision = |(id, revision, at): (String, i64, i64)| MemoryRevision {
                id: MemoryId::from_stored(id),
                revision,
                updated_at: Timestamp(at),
            };
            Ok(rows.into_iter().map(revision).collect())
        })
        .await
    }

    pub(crate) async fn experiences_read(
        &self,
        agents: Option<&[AgentKey]>,
    ) -> Result<Vec<AgentExperience>, StoreError> {
        let keys = agents.map(|agents| keys_json(agents.iter())).transpose()?;
        with(&self.reader, move |conn| experiences(conn, keys.as_deref())).await
    }
}

fn by_ids(conn: &mut SqliteConnection, ids: &str) -> Result<Vec<MemoryVersion>, StoreError> {
    const BY_IDS: &str =
        concat!("SELECT ", memory_columns!(), " FROM memories m WHERE m.id IN (SELECT value FROM json_each(?))");
    let rows: Vec<MemoryRow> = SqliteStatement::<MemorySql>::new(BY_IDS).bind::<Text, _>(ids).rows(conn)?;
    rows.into_iter().map(MemoryRow::into_version).collect()
}

fn experiences(conn: &mut SqliteConnection, keys: Option<&str>) -> Result<Vec<AgentExperience>, StoreError> {
    const ALL: &str = concat!("SELECT ", experience_columns!(), " FROM agent_personalities p");
    const BY_KEYS: &str = concat!(
        "SELECT ",
        experience_columns!(),
        " FROM agent_personalities p \
         WHERE (p.namespace, p.id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
    );
    let rows: Vec<ExperienceRow> = match keys {
        None => SqliteStatement::<ExperienceSql>::new(ALL).rows(conn)?,
        Some(keys) => SqliteStatement::<ExperienceSql>::new(BY_KEYS).bind::<Text, _>(keys).rows(conn)?,
    };
    rows.into_iter().map(ExperienceRow::into_experience).collect()
}

/// Applies the commands part by part, each in a savepoint, until the parts that the database rejects are single ones.
fn isolate_in_txn(conn: &mut SqliteConnection, commands: &[MemoryCommand]) -> Result<Vec<MemoryOutcome>, StoreError> {
    let mut bisect = Bisect::new(commands);
    while let Some(part) = bisect.next_part() {
        // diesel makes a transaction inside of one a savepoint.
        match conn.transaction(|conn| apply_in_txn(conn, part)) {
            Ok(outcomes) => bisect.applied(outcomes),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => bisect.rejected(&error),
        }
    }
    Ok(bisect.into_outcomes())
}

fn apply_in_txn(conn: &mut SqliteConnection, commands: &[MemoryCommand]) -> Result<Vec<MemoryOutcome>, StoreError> {
    let now = now();
    let mut round = Round::new(read_in_txn(conn, &Wanted::of(commands), now)?);
    let outcomes = commands.iter().map(|command| round.command(command)).collect();
    write_in_txn(conn, &round.writes(), now)?;
    Ok(outcomes)
}

fn read_in_txn(conn: &mut SqliteConnection, wanted: &Wanted, now: Timestamp) -> Result<Locked, StoreError> {
    let op_ids = json_text(&wanted.op_ids)?;
    let applied: Vec<(String, String, i64, String)> = SqliteStatement::<(Text, Text, BigInt, Text)>::new(
        "SELECT op_id, id, revision, op FROM applied_ops WHERE op_id IN (SELECT value FROM json_each(?))",
    )
    .bind::<Text, _>(op_ids)
    .rows(conn)?;
    let applied: HashMap<_, _> = applied
        .into_iter()
        .filter_map(|(op_id, id, revision, op)| {
            Some((op_id.parse().ok().map(a2a_core::ids::OpId)?, Applied { id, revision, op }))
        })
        .collect();
    let ids: Vec<&str> =
        wanted.ids.iter().map(MemoryId::as_str).chain(applied.values().map(|a| a.id.as_str())).collect();
    let rows: Vec<MemoryRow> = SqliteStatement::<MemorySql>::new(WANTED)
        .bind::<Text, _>(json_text(&ids)?)
        .bind::<Text, _>(json_text(&wanted.hashes_in_hex())?)
        .bind::<Text, _>(json_text(&wanted.keys)?)
        .rows(conn)?;
    let memories = rows.into_iter().map(MemoryRow::into_version).collect::<Result<_, _>>()?;
    let experiences =
        if wanted.agents.is_empty() { Vec::new() } else { experiences(conn, Some(&keys_json(wanted.agents.iter())?))? };
    Ok(Locked { now, memories, experiences, applied })
}

fn write_in_txn(conn: &mut SqliteConnection, writes: &Writes, now: Timestamp) -> Result<(), StoreError> {
    let write = |conn: &mut SqliteConnection, sql, rows: &str| {
        SqliteStatement::<()>::new(sql).bind::<Text, _>(rows.to_owned()).run(conn)
    };
    if !writes.memories.is_empty() {
        let rows: Vec<MemoryJson<'_>> = writes
            .memories
            .iter()
            .map(|version| MemoryJson::of(&version.memory, version.removed_at))
            .collect::<Result<_, _>>()?;
        write(conn, PUT, &json_text(&rows)?)?;
    }
    if !writes.deleted.is_empty() {
        let ids = json_text(&writes.deleted)?;
        write(conn, "DELETE FROM memories WHERE id IN (SELECT value FROM json_each(?))", &ids)?;
    }
    if !writes.experiences.is_empty() {
        let rows: Vec<ExperienceJson<'_>> =
            writes.experiences.iter().map(|experience| ExperienceJson::of(experience)).collect::<Result<_, _>>()?;
        write(conn, PUT_EXPERIENCES, &json_text(&rows)?)?;
    }
    note(conn, LOG, &writes.log, now)?;
    note(conn, OPS, &writes.ops, now)
}

fn note(
    conn: &mut SqliteConnection,
    sql: &'static str,
    rows: &[impl Serialize],
    now: Timestamp,
) -> Result<(), StoreError> {
    if !rows.is_empty() {
        let rows = json_text(&rows)?;
        SqliteStatement::<()>::new(sql).bind::<BigInt, _>(now.0).bind::<Text, _>(rows).run(conn)?;
    }
    Ok(())
}

/// Reads what the change log has named.
pub(super) fn fetch(
    conn: &mut SqliteConnection,
    ids: &[MemoryId],
    agents: &[AgentKey],
) -> Result<(Vec<MemoryVersion>, Vec<AgentExperience>), StoreError> {
    let memories = if ids.is_empty() { Vec::new() } else { by_ids(conn, &json_text(&ids)?)? };
    let experiences = if agents.is_empty() { Vec::new() } else { experiences(conn, Some(&keys_json(agents.iter())?))? };
    Ok((memories, experiences))
}

/// Deletes what expired or was forgotten before the times.
pub(super) fn prune_in_txn(
    conn: &mut SqliteConnection,
    expired_before: i64,
    removed_before: i64,
) -> Result<Pruned, StoreError> {
    const OLD: &str = "SELECT id, namespace, revision + 1 FROM memories WHERE expires_at < ? \
         UNION SELECT id, namespace, revision + 1 FROM memories WHERE removed_at < ? LIMIT ?";
    #[derive(Serialize)]
    struct Gone {
        entity: &'static str,
        id: String,
        namespace: String,
        revision: i64,
        op: &'static str,
    }
    let old: Vec<(String, String, i64)> = SqliteStatement::<(Text, Text, BigInt)>::new(OLD)
        .bind::<BigInt, _>(expired_before)
        .bind::<BigInt, _>(removed_before)
        .bind::<BigInt, _>(PRUNE_MEMORIES_MAX)
        .rows(conn)?;
    if old.is_empty() {
        return Ok(Pruned::All);
    }
    let pruned = Pruned::of(i64::try_from(old.len()).unwrap_or(i64::MAX), PRUNE_MEMORIES_MAX);
    let gone: Vec<Gone> = old
        .into_iter()
        .map(|(id, namespace, revision)| Gone { entity: "memory", id, namespace, revision, op: "remove" })
        .collect();
    let ids: Vec<&str> = gone.iter().map(|gone| gone.id.as_str()).collect();
    SqliteStatement::<()>::new("DELETE FROM memories WHERE id IN (SELECT value FROM json_each(?))")
        .bind::<Text, _>(json_text(&ids)?)
        .run(conn)?;
    note(conn, LOG, &gone, now())?;
    Ok(pruned)
}
