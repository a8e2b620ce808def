//! The transaction of the writer. `BEGIN IMMEDIATE` makes it the only one, so that what is read in it stays true.

use std::collections::HashMap;

use a2a_core::change::{Current, Decision, Outcome};
use a2a_core::ids::{AgentId, AgentKey, Namespace, OpId, Revision};
use a2a_core::time::Timestamp;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
use diesel::sqlite::Sqlite as SqliteBackend;
use serde::Serialize;

use super::rows::{self, json_text};
use crate::agent_row::{AgentJson, stored_key};
use crate::bisect::Bisect;
use crate::error::StoreError;
use crate::round::{AppliedOp, Op, PutRow, RemoveRow, Round, Unit, Written, current_row, rounds};
use crate::statement::Statement;
use crate::store::ByKey;

type SqliteStatement<'a, Returned> = Statement<'a, SqliteBackend, Returned>;

pub(super) fn commit(
    conn: &mut SqliteConnection,
    units: &[Unit],
    recheck: bool,
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    match conn.immediate_transaction(|conn| apply_in_txn(conn, units, recheck)) {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, units = units.len(), "a batch was rejected; isolating the cause");
            conn.immediate_transaction(|conn| isolate_in_txn(conn, units, recheck))
        }
        result => result,
    }
}

/// Applies the units part by part, each in a savepoint, until the parts that the database rejects are single units.
fn isolate_in_txn(conn: &mut SqliteConnection, units: &[Unit], recheck: bool) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let mut bisect = Bisect::new(units);
    while let Some(part) = bisect.next_part() {
        // diesel makes a transaction inside of one a savepoint.
        match conn.transaction(|conn| apply_in_txn(conn, part, recheck)) {
            Ok(outcomes) => bisect.applied(outcomes),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => bisect.rejected(&error),
        }
    }
    Ok(bisect.into_outcomes())
}

fn apply_in_txn(conn: &mut SqliteConnection, units: &[Unit], recheck: bool) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); units.len()];
    for members in rounds(units) {
        let round = Round::new(members.iter().filter_map(|i| units.get(*i)).collect());
        let done = round_in_txn(conn, round, recheck)?;
        for (index, outcome) in members.into_iter().zip(done) {
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = outcome;
            }
        }
    }
    Ok(outcomes)
}

fn round_in_txn(
    conn: &mut SqliteConnection,
    mut round: Round<'_>,
    recheck: bool,
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let now = super::now();
    let current = current_in_txn(conn, &round)?;
    let applied = if recheck { applied_in_txn(conn, &round.op_ids())? } else { HashMap::new() };
    round.decide(&current, &applied);
    let mut written = ByKey::new();
    put_in_txn(conn, &round.puts(&current), now, &mut written)?;
    remove_in_txn(conn, &round.removals(Decision::Remove), now, &mut written)?;
    purge_in_txn(conn, &round.removals(Decision::Purge), now, &mut written)?;
    round.outcomes(&written).ok_or(StoreError::Raced)
}

fn current_in_txn(conn: &mut SqliteConnection, round: &Round<'_>) -> Result<ByKey<Current>, StoreError> {
    let keys = rows::keys_json(round.keys().iter())?;
    let found: Vec<(String, String, i64, Vec<u8>, bool)> = SqliteStatement::<(Text, Text, BigInt, Binary, Bool)>::new(
        "SELECT a.namespace, a.id, a.revision, a.content_hash, a.removed_at IS NOT NULL \
             FROM jsonb_each(?) AS k JOIN agents a ON a.namespace = k.value ->> 0 AND a.id = k.value ->> 1",
    )
    .bind::<Text, _>(keys)
    .rows(conn)?;
    found.into_iter().map(current_row).collect()
}

fn applied_in_txn(conn: &mut SqliteConnection, ops: &[OpId]) -> Result<HashMap<OpId, AppliedOp>, StoreError> {
    use super::schema::applied_ops;
    let ids: Vec<String> = ops.iter().map(ToString::to_string).collect();
    let found: Vec<(String, String, String, i64, Option<i64>, String)> = applied_ops::table
        .filter(applied_ops::op_id.eq_any(ids))
        .select((
            applied_ops::op_id,
            applied_ops::namespace,
            applied_ops::id,
            applied_ops::revision,
            applied_ops::replaced_revision,
            applied_ops::op,
        ))
        .load(conn)?;
    let mut applied = HashMap::new();
    for (op_id, namespace, id, revision, replaced_revision, op) in found {
        let Some(op) = Op::from_name(&op) else { continue };
        let Some(op_id) = ops.iter().find(|o| o.to_string() == op_id) else { continue };
        let key = stored_key(namespace, id);
        let agent = rows::history(conn, &key, revision.saturating_add(1), 1)?
            .pop()
            .filter(|version| version.agent.revision == revision)
            .map(|version| version.agent);
        applied.insert(*op_id, AppliedOp { revision, replaced_revision, op, agent });
    }
    Ok(applied)
}

#[derive(Serialize)]
struct PutJson<'a> {
    op_id: OpId,
    namespace: &'a str,
    id: &'a str,
    content_hash: String,
    name: &'a str,
    version: &'a str,
    description: &'a str,
    instructions: &'a str,
    category: &'a str,
    tags: String,
    enabled: bool,
    capabilities: String,
    executor_kind: &'a str,
    executor_settings: &'a str,
    config: &'a str,
    deprecated: Option<String>,
    /// 0 keeps the time that is stored: only a deploy changes it.
    deployed_at: i64,
    updated_by: &'a str,
    base: Option<i64>,
    replaced: Option<i64>,
}

fn put_in_txn(
    conn: &mut SqliteConnection,
    puts: &[PutRow<'_>],
    now: Timestamp,
    written: &mut ByKey<Written>,
) -> Result<(), StoreError> {
    if puts.is_empty() {
        return Ok(());
    }
    let input: Vec<PutJson<'_>> = puts.iter().map(|row| put_json(row, now)).collect::<Result<_, _>>()?;
    let input = json_text(&input)?;
    let input = input.as_str();
    if puts.iter().any(|row| row.base.is_some()) {
        SqliteStatement::<()>::new(
            "INSERT INTO agent_history SELECT a.* FROM jsonb_each(?) AS i \
             JOIN agents a ON a.namespace = i.value ->> 'namespace' AND a.id = i.value ->> 'id' \
             WHERE i.value ->> 'base' IS NOT NULL",
        )
        .bind::<Text, _>(input)
        .run(conn)?;
    }
    let rows: Vec<(String, String, i64, i64, i64, i64)> =
        SqliteStatement::<(Text, Text, BigInt, BigInt, BigInt, BigInt)>::new(
            "INSERT INTO agents (namespace, id, revision, content_hash, name, version, description, instructions, \
             category, tags, enabled, capabilities, executor_kind, executor_settings, config, deprecated, \
             created_at, updated_at, deployed_at, updated_by, removed_at) \
             SELECT i.value ->> 'namespace', i.value ->> 'id', coalesce(t.revision, 0) + 1, \
             unhex(i.value ->> 'content_hash'), i.value ->> 'name', i.value ->> 'version', \
             i.value ->> 'description', i.value ->> 'instructions', i.value ->> 'category', i.value ->> 'tags', \
             i.value ->> 'enabled', i.value ->> 'capabilities', i.value ->> 'executor_kind', \
             i.value ->> 'executor_settings', i.value ->> 'config', i.value ->> 'deprecated', n.now, n.now, \
             i.value ->> 'deployed_at', i.value ->> 'updated_by', NULL \
             FROM (SELECT ? AS now) n JOIN jsonb_each(?) AS i \
             LEFT JOIN tombstones t ON t.entity = 'agent' AND t.namespace = i.value ->> 'namespace' \
             AND t.id = i.value ->> 'id' WHERE true \
             ON CONFLICT (namespace, id) DO UPDATE SET revision = agents.revision + 1, \
             content_hash = excluded.content_hash, name = excluded.name, version = excluded.version, \
             description = excluded.description, instructions = excluded.instructions, \
             category = excluded.category, tags = excluded.tags, enabled = excluded.enabled, \
             capabilities = excluded.capabilities, executor_kind = excluded.executor_kind, \
             executor_settings = excluded.executor_settings, config = excluded.config, \
             deprecated = excluded.deprecated, updated_at = excluded.updated_at, \
             deployed_at = CASE excluded.deployed_at WHEN 0 THEN agents.deployed_at ELSE excluded.deployed_at END, \
             updated_by = excluded.updated_by, removed_at = NULL \
             RETURNING namespace, id, revision, created_at, updated_at, deployed_at",
        )
        .bind::<BigInt, _>(now.0)
        .bind::<Text, _>(input)
        .rows(conn)?;
    for (namespace, id, revision, created_at, updated_at, deployed_at) in rows {
        let row = Written {
            revision,
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
            deployed_at: Timestamp(deployed_at),
        };
        written.insert(stored_key(namespace, id), row);
    }
    // What was created at a later revision than the first goes on from a tombstone, which has done its work.
    let revived = puts.iter().filter(|row| row.base.is_none()).map(|row| row.put.spec.key());
    let revived: Vec<AgentKey> = revived.filter(|key| written.get(key).is_some_and(|row| row.revision > 1)).collect();
    if !revived.is_empty() {
        SqliteStatement::<()>::new(
            "DELETE FROM tombstones WHERE entity = 'agent' AND (namespace, id) IN \
             (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?))",
        )
        .bind::<Text, _>(rows::keys_json(revived.iter())?)
        .run(conn)?;
    }
    let logged = puts.iter().filter_map(|row| {
        let key = row.put.spec.key();
        let revision = written.get(&key)?.revision;
        Some(LogRow(row.change.op_id, key.namespace, key.id, revision, row.replaced))
    });
    log_in_txn(conn, logged, Op::Put, now)
}

fn put_json<'a>(row: &PutRow<'a>, now: Timestamp) -> Result<PutJson<'a>, StoreError> {
    let spec = &row.put.spec;
    let AgentJson { tags, capabilities, deprecated } = AgentJson::of(spec)?;
    Ok(PutJson {
        op_id: row.change.op_id,
        namespace: spec.namespace.as_str(),
        id: spec.id.as_str(),
        content_hash: hex(&row.put.content_hash),
        name: &spec.name,
        version: &spec.version,
        description: &spec.description,
        instructions: &spec.instructions,
        category: &spec.category,
        tags,
        enabled: spec.enabled,
        capabilities,
        executor_kind: spec.executor.kind.as_str(),
        executor_settings: spec.executor.settings.as_str(),
        config: spec.config.as_str(),
        deprecated,
        deployed_at: if row.put.deploy || row.base.is_none() { now.0 } else { 0 },
        updated_by: row.change.actor.as_str(),
        base: row.base,
        replaced: row.replaced,
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn remove_in_txn(
    conn: &mut SqliteConnection,
    removals: &[RemoveRow<'_>],
    now: Timestamp,
    written: &mut ByKey<Written>,
) -> Result<(), StoreError> {
    for row in removals {
        let (namespace, id) = (row.key.namespace.as_str(), row.key.id.as_str());
        SqliteStatement::<()>::new("INSERT INTO agent_history SELECT * FROM agents WHERE namespace = ? AND id = ?")
            .bind::<Text, _>(namespace)
            .bind::<Text, _>(id)
            .run(conn)?;
        let (revision, created_at, deployed_at): (i64, i64, i64) = SqliteStatement::<(BigInt, BigInt, BigInt)>::new(
            "UPDATE agents SET revision = revision + 1, removed_at = ?, updated_at = ?, updated_by = ? \
             WHERE namespace = ? AND id = ? RETURNING revision, created_at, deployed_at",
        )
        .bind::<BigInt, _>(now.0)
        .bind::<BigInt, _>(now.0)
        .bind::<Text, _>(row.change.actor.as_str())
        .bind::<Text, _>(namespace)
        .bind::<Text, _>(id)
        .row(conn)?;
        let row = (
            row,
            Written {
                revision,
                created_at: Timestamp(created_at),
                updated_at: now,
                deployed_at: Timestamp(deployed_at),
            },
        );
        written.insert(row.0.key.clone(), row.1);
    }
    let logged = removals.iter().filter_map(|row| {
        let revision = written.get(&row.key)?.revision;
        Some(LogRow(row.change.op_id, row.key.namespace.clone(), row.key.id.clone(), revision, None))
    });
    log_in_txn(conn, logged, Op::Remove, now)
}

fn purge_in_txn(
    conn: &mut SqliteConnection,
    removals: &[RemoveRow<'_>],
    now: Timestamp,
    written: &mut ByKey<Written>,
) -> Result<(), StoreError> {
    for row in removals {
        let (namespace, id) = (row.key.namespace.as_str(), row.key.id.as_str());
        let revision: i64 = SqliteStatement::<BigInt>::new(
            "INSERT INTO tombstones (entity, namespace, id, revision, purged_at) \
             SELECT 'agent', namespace, id, revision + 1, ? FROM agents WHERE namespace = ? AND id = ? \
             RETURNING revision",
        )
        .bind::<BigInt, _>(now.0)
        .bind::<Text, _>(namespace)
        .bind::<Text, _>(id)
        .row(conn)?;
        for sql in [
            "DELETE FROM agent_history WHERE namespace = ? AND id = ?",
            "DELETE FROM agents WHERE namespace = ? AND id = ?",
        ] {
            SqliteStatement::<()>::new(sql).bind::<Text, _>(namespace).bind::<Text, _>(id).run(conn)?;
        }
        let purged = Written { revision, created_at: now, updated_at: now, deployed_at: now };
        written.insert(row.key.clone(), purged);
    }
    let logged = removals.iter().filter_map(|row| {
        let revision = written.get(&row.key)?.revision;
        Some(LogRow(row.change.op_id, row.key.namespace.clone(), row.key.id.clone(), revision, None))
    });
    log_in_txn(conn, logged, Op::Purge, now)
}

/// Operation, namespace, id, revision, and the revision that was replaced: an array as JSON.
#[derive(Serialize)]
struct LogRow(OpId, Namespace, AgentId, Revision, Option<Revision>);

/// Writes the change log, which other processes follow, and the applied operations.
fn log_in_txn(
    conn: &mut SqliteConnection,
    rows: impl Iterator<Item = LogRow>,
    op: Op,
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows: Vec<LogRow> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let input = json_text(&rows)?;
    for sql in [
        "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
         SELECT 'agent', value ->> 1, value ->> 2, value ->> 3, n.op, n.now \
         FROM (SELECT ? AS op, ? AS now) n JOIN jsonb_each(?)",
        "INSERT INTO applied_ops (op_id, entity, namespace, id, revision, replaced_revision, op, at) \
         SELECT value ->> 0, 'agent', value ->> 1, value ->> 2, value ->> 3, value ->> 4, n.op, n.now \
         FROM (SELECT ? AS op, ? AS now) n JOIN jsonb_each(?)",
    ] {
        SqliteStatement::<()>::new(sql)
            .bind::<Text, _>(op.as_str())
            .bind::<BigInt, _>(now.0)
            .bind::<Text, _>(input.as_str())
            .run(conn)?;
    }
    Ok(())
}
