//! The transaction of the writer, and the short cut through it.
//!
//! The full way locks the rows, decides, writes, commits: four round trips. When the cache tells which revision each
//! row has, one statement writes those rows that really have it, in a transaction of its own: one round trip. What it
//! leaves untouched goes the full way.

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::change::{AgentPut, Change, Current, Decision, Mutation, Outcome};
use a2a_core::ids::{AgentKey, OpId};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{PgStatement, rows};
use crate::agent_row::{AgentJson, StoredTime, stored_key};
use crate::bisect::Bisect;
use crate::error::StoreError;
use crate::round::{AppliedOp, Op, PutRow, RemoveRow, Round, Unit, Written, current_row, rounds, written_agent};
use crate::store::{Base, ByKey};

pub(super) async fn commit(
    conn: &mut AsyncPgConnection,
    units: &[Unit],
    recheck: bool,
    base: Option<Base<'_>>,
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let mut outcomes = vec![Vec::new(); units.len()];
    if let Some(base) = base.filter(|_| !recheck) {
        short_cut(conn, units, base, &mut outcomes).await?;
    }
    let left: Vec<usize> =
        outcomes.iter().enumerate().filter(|(_, done)| done.is_empty()).map(|(index, _)| index).collect();
    if left.is_empty() {
        return Ok(outcomes);
    }
    let rest: Vec<Unit> = left.iter().filter_map(|index| units.get(*index).cloned()).collect();
    let full = match full_way(conn, &rest, recheck).await {
        // What the short cut has written is committed.
        Err(error) if rest.len() < units.len() => return Err(StoreError::Partial(Box::new(error))),
        result => result?,
    };
    for (index, done) in left.into_iter().zip(full) {
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = done;
        }
    }
    Ok(outcomes)
}

async fn full_way(
    conn: &mut AsyncPgConnection,
    units: &[Unit],
    recheck: bool,
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let whole = async |conn: &mut AsyncPgConnection| {
        hold_creates_in_txn(conn, units).await?;
        apply_in_txn(conn, units, recheck).await
    };
    match conn.transaction(whole).await {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, units = units.len(), "a batch was rejected; isolating the cause");
            let isolated = async |conn: &mut AsyncPgConnection| {
                hold_creates_in_txn(conn, units).await?;
                isolate_in_txn(conn, units, recheck).await
            };
            conn.transaction(isolated).await
        }
        result => result,
    }
}

/// Before a purge: waits for every statement that creates agents, and lets none begin until the transaction ends.
///
/// Such a statement reads the tombstones as they were when it began. An agent that is created and purged after that
/// would leave no trace that the statement sees, and its revisions would begin anew. The statement locks `tombstones`
/// for its deletes before it looks at anything, so that it sees what was purged before, and a purge comes after it.
fn hold_creates_in_txn<'c>(
    conn: &'c mut AsyncPgConnection,
    units: &'c [Unit],
) -> BoxFuture<'c, Result<(), StoreError>> {
    async move {
        let purges = |change: &Change| matches!(change.mutation, Mutation::AgentPurge(_));
        if units.iter().flat_map(|unit| &unit.changes).any(purges) {
            // Ordering: before any row is locked, because creates wait for rows and hold this lock.
            PgStatement::<()>::new("LOCK TABLE tombstones IN SHARE ROW EXCLUSIVE MODE").run(conn).await?;
        }
        Ok(())
    }
    .boxed()
}

/// Applies the units part by part, each in a savepoint, until the parts that the database rejects are single units.
fn isolate_in_txn<'c>(
    conn: &'c mut AsyncPgConnection,
    units: &'c [Unit],
    recheck: bool,
) -> BoxFuture<'c, Result<Vec<Vec<Outcome>>, StoreError>> {
    async move {
        let mut bisect = Bisect::new(units);
        while let Some(part) = bisect.next_part() {
            // diesel makes a transaction inside of one a savepoint.
            match conn.transaction(async |conn| apply_in_txn(conn, part, recheck).await).await {
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
    conn: &'c mut AsyncPgConnection,
    units: &'c [Unit],
    recheck: bool,
) -> BoxFuture<'c, Result<Vec<Vec<Outcome>>, StoreError>> {
    async move {
        let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); units.len()];
        let rounds = rounds(units);
        if rounds.len() > 1 {
            // All locks are taken in one order, also those of later rounds.
            lock_in_txn(conn, &Round::new(units.iter().collect()).keys()).await?;
        }
        for members in rounds {
            let round = Round::new(members.iter().filter_map(|i| units.get(*i)).collect());
            let done = round_in_txn(conn, round, recheck).await?;
            for (index, outcome) in members.into_iter().zip(done) {
                if let Some(slot) = outcomes.get_mut(index) {
                    *slot = outcome;
                }
            }
        }
        Ok(outcomes)
    }
    .boxed()
}

async fn round_in_txn(
    conn: &mut AsyncPgConnection,
    mut round: Round<'_>,
    recheck: bool,
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let current = lock_in_txn(conn, &round.keys()).await?;
    // Ordering: after the locks. An earlier attempt that is still committing holds them; once we have them, what it
    // did is visible here, and not yet in the statement that waited.
    let applied = if recheck { applied_in_txn(conn, &round.op_ids()).await? } else { HashMap::new() };
    round.decide(&current, &applied);
    let mut written = put_in_txn(conn, &round.puts(&current)).await?;
    remove_in_txn(conn, &round.removals(Decision::Remove), &mut written).await?;
    purge_in_txn(conn, &round.removals(Decision::Purge), &mut written).await?;
    round.outcomes(&written).ok_or(StoreError::Raced)
}

/// Writes what the cache knows the row of, each kind of write in one statement that is a transaction of its own. Fills
/// the outcomes of those units.
async fn short_cut(
    conn: &mut AsyncPgConnection,
    units: &[Unit],
    base: Base<'_>,
    outcomes: &mut [Vec<Outcome>],
) -> Result<(), StoreError> {
    let (mut creates, mut replaces) = (Vec::new(), Vec::new());
    for (index, change, put) in lone_puts(units) {
        let cached = base(&put.spec.key());
        let revision = cached.as_ref().map_or(0, |agent| agent.revision);
        let same = cached.as_ref().is_some_and(|agent| agent.spec == *put.spec);
        // What would not be written is answered by the database, not by the cache.
        if same || change.expected_revision.is_some_and(|expected| expected != revision) {
            continue;
        }
        let base = cached.map(|agent| agent.revision);
        let row = PutRow { change, put, base, replaced: base };
        if base.is_none() { creates.push((index, row)) } else { replaces.push((index, row)) }
    }
    let mut committed = false;
    for (kind, rows) in [(PutKind::Replace, replaces), (PutKind::Create, creates)] {
        let puts: Vec<PutRow<'_>> = rows.iter().map(|(_, row)| *row).collect();
        let written = match put(conn, kind, &puts).await {
            Ok(written) => written,
            Err(error) if error.is_transient() && committed => return Err(StoreError::Partial(Box::new(error))),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the short cut was rejected; going the full way");
                continue;
            }
        };
        for ((index, row), done) in rows.into_iter().zip(written) {
            if let Some(done) = done
                && let Some(slot) = outcomes.get_mut(index)
            {
                committed = true;
                let agent = Arc::new(written_agent(row.put, row.change, &done));
                *slot = vec![Outcome::Put { agent, replaced_revision: row.replaced }];
            }
        }
    }
    Ok(())
}

/// The documents that are the only change of their unit and of their agent, sorted by key. The order of changes of one
/// agent is kept by the rounds of the full way.
fn lone_puts(units: &[Unit]) -> impl Iterator<Item = (usize, &Change, &AgentPut)> {
    let changes = units.iter().enumerate().flat_map(|(index, unit)| {
        let lone = unit.changes.len() == 1;
        unit.changes.iter().map(move |change| (change.mutation.key_parts(), index, change, lone))
    });
    let mut by_key: Vec<_> = changes.collect();
    by_key.sort_unstable_by_key(|(key, index, ..)| (*key, *index));
    let mut lone_puts = Vec::with_capacity(by_key.len());
    for same in by_key.chunk_by(|(a, ..), (b, ..)| a == b) {
        if let [(_, index, change, true)] = same
            && let Mutation::AgentPut(put) = &change.mutation
        {
            lone_puts.push((*index, *change, &**put));
        }
    }
    lone_puts.into_iter()
}

async fn lock_in_txn(conn: &mut AsyncPgConnection, keys: &[AgentKey]) -> Result<ByKey<Current>, StoreError> {
    let namespaces: Vec<&str> = keys.iter().map(|key| key.namespace.as_str()).collect();
    let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    let found: Vec<(String, String, i64, Vec<u8>, bool)> = PgStatement::<(Text, Text, BigInt, Binary, Bool)>::new(
        "SELECT a.namespace, a.id, a.revision, a.content_hash, a.removed_at IS NOT NULL \
             FROM agents a JOIN UNNEST(?, ?) AS k(namespace, id) \
             ON a.namespace = k.namespace AND a.id = k.id \
             ORDER BY a.namespace, a.id FOR UPDATE OF a",
    )
    .bind::<Array<Text>, _>(namespaces)
    .bind::<Array<Text>, _>(ids)
    .rows(conn)
    .await?;
    found.into_iter().map(current_row).collect()
}

async fn applied_in_txn(conn: &mut AsyncPgConnection, ops: &[OpId]) -> Result<HashMap<OpId, AppliedOp>, StoreError> {
    let ids: Vec<Uuid> = ops.iter().map(|op| op.0).collect();
    let found: Vec<(Uuid, String, String, i64, Option<i64>, String)> =
        PgStatement::<(SqlUuid, Text, Text, BigInt, Nullable<BigInt>, Text)>::new(
            "SELECT op_id, namespace, id, revision, replaced_revision, op FROM applied_ops WHERE op_id = ANY(?)",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .rows(conn)
        .await?;
    let mut applied = HashMap::new();
    for (op_id, namespace, id, revision, replaced_revision, op) in found {
        let Some(op) = Op::from_name(&op) else { continue };
        let key = stored_key(namespace, id);
        let agent = rows::history(conn, &key, revision.saturating_add(1), 1)
            .await?
            .pop()
            .filter(|version| version.agent.revision == revision)
            .map(|version| version.agent);
        applied.insert(OpId(op_id), AppliedOp { revision, replaced_revision, op, agent });
    }
    Ok(applied)
}

/// Writes the documents of a round, whose rows are locked.
async fn put_in_txn(conn: &mut AsyncPgConnection, puts: &[PutRow<'_>]) -> Result<ByKey<Written>, StoreError> {
    let (creates, replaces): (Vec<PutRow<'_>>, Vec<PutRow<'_>>) = puts.iter().partition(|row| row.base.is_none());
    let mut written = ByKey::with_capacity(puts.len());
    for (kind, rows) in [(PutKind::Replace, replaces), (PutKind::Create, creates)] {
        let done = put(conn, kind, &rows)
            .await
            .map_err(|error| if is_create_race(&error) { StoreError::Raced } else { error })?;
        written.extend(rows.iter().zip(done).filter_map(|(row, done)| Some((row.put.spec.key(), done?))));
    }
    Ok(written)
}

/// Whether another process has made the same agent after this statement began.
fn is_create_race(error: &StoreError) -> bool {
    let StoreError::Database(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)) = error else {
        return false;
    };
    info.constraint_name() == Some("agents_pkey")
}

/// What a statement does with the documents that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PutKind {
    Create,
    Replace,
}

/// Writes documents, sorted by key, with their history, change log and applied operations in one statement. Returns
/// what became of each, and `None` for one that was left as it is because its row is not the one of its `base`.
async fn put(
    conn: &mut AsyncPgConnection,
    kind: PutKind,
    puts: &[PutRow<'_>],
) -> Result<Vec<Option<Written>>, StoreError> {
    if puts.is_empty() {
        return Ok(Vec::new());
    }
    let json: Vec<AgentJson> = puts.iter().map(|row| AgentJson::of(&row.put.spec)).collect::<Result<_, _>>()?;
    macro_rules! column {
        ($row:ident => $value:expr) => {
            puts.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    type Row = (i64, i64, StoredTime, StoredTime, StoredTime);
    let mut statement = PgStatement::<(BigInt, BigInt, Timestamptz, Timestamptz, Timestamptz)>::new(match kind {
        PutKind::Create => CREATE,
        PutKind::Replace => REPLACE,
    })
    .bind::<Array<Text>, _>(column!(row => row.put.spec.namespace.as_str()))
    .bind::<Array<Text>, _>(column!(row => row.put.spec.id.as_str()))
    .bind::<Array<SqlUuid>, _>(column!(row => row.change.op_id.0))
    .bind::<Array<Text>, _>(column!(row => row.change.actor.as_str()))
    .bind::<Array<Binary>, _>(column!(row => row.put.content_hash.as_slice()))
    .bind::<Array<Text>, _>(column!(row => &*row.put.spec.name))
    .bind::<Array<Text>, _>(column!(row => &*row.put.spec.version))
    .bind::<Array<Text>, _>(column!(row => &*row.put.spec.description))
    .bind::<Array<Text>, _>(column!(row => &*row.put.spec.instructions))
    .bind::<Array<Text>, _>(column!(row => &*row.put.spec.category))
    .bind::<Array<Bool>, _>(column!(row => row.put.spec.enabled))
    .bind::<Array<Text>, _>(column!(row => row.put.spec.executor.kind.as_str()))
    .bind::<Array<Text>, _>(column!(row => row.put.spec.executor.settings.as_str()))
    .bind::<Array<Text>, _>(column!(row => row.put.spec.config.as_str()))
    .bind::<Array<Text>, _>(json.iter().map(|j| j.tags.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(json.iter().map(|j| j.capabilities.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(json.iter().map(|j| j.deprecated.as_deref()).collect::<Vec<_>>());
    if kind == PutKind::Replace {
        statement = statement
            .bind::<Array<BigInt>, _>(column!(row => row.base.unwrap_or(0)))
            .bind::<Array<Nullable<BigInt>>, _>(column!(row => row.replaced))
            .bind::<Array<Bool>, _>(column!(row => row.put.deploy));
    }
    let found: Vec<Row> = statement.rows(conn).await?;
    let mut written = vec![None; puts.len()];
    for (place, revision, created_at, updated_at, deployed_at) in found {
        if let Some(slot) = usize::try_from(place - 1).ok().and_then(|place| written.get_mut(place)) {
            *slot = Some(Written {
                revision,
                created_at: created_at.0,
                updated_at: updated_at.0,
                deployed_at: deployed_at.0,
            });
        }
    }
    Ok(written)
}

/// Makes agents that have no row. One that has a row by now, which the statement can see, is left out; one that gets a
/// row meanwhile makes the statement fail.
///
/// Rows are looked up one by one, so that the plan stays good whatever size a table had when the connection prepared
/// it; a join would be planned for that size. The range of places, which holds for every row, and `OFFSET 0` make the
/// planner expect a single row: else it takes planning anew for each execution to be worth while, which takes longer
/// than writing a row. Nothing is sorted; rows are written in the order in which they are given, which is that of their
/// keys, so that two batches never wait for each other.
const CREATE: &str = "\
WITH chosen AS MATERIALIZED (
    SELECT i.*, coalesce((SELECT t.revision FROM tombstones t
        WHERE t.entity = 'agent' AND t.namespace = i.namespace AND t.id = i.id), 0) + 1 AS revision
    FROM (
        SELECT * FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WITH ORDINALITY AS i(
            namespace, id, op_id, updated_by, content_hash, name, version, description, instructions, category,
            enabled, executor_kind, executor_settings, config, tags, capabilities, deprecated, place)
        WHERE place BETWEEN 1 AND 1000000000 OFFSET 0
    ) i
    WHERE (SELECT a.revision FROM agents a WHERE a.namespace = i.namespace AND a.id = i.id) IS NULL
), created AS (
    INSERT INTO agents (namespace, id, revision, content_hash, name, version, description, instructions, category,
        tags, enabled, capabilities, executor_kind, executor_settings, config, deprecated,
        created_at, updated_at, deployed_at, updated_by)
    SELECT namespace, id, revision, content_hash, name, version, description, instructions, category, tags::json,
        enabled, capabilities::json, executor_kind, executor_settings::json, config::json, deprecated::json,
        now(), now(), now(), updated_by FROM chosen
), revived AS (
    DELETE FROM tombstones t USING chosen c
    WHERE c.revision > 1 AND t.entity = 'agent' AND t.namespace = c.namespace AND t.id = c.id
), logged AS (
    INSERT INTO change_log (entity, namespace, id, revision, op)
    SELECT 'agent', namespace, id, revision, 'put' FROM chosen
), noted AS (
    INSERT INTO applied_ops (op_id, entity, namespace, id, revision, op)
    SELECT op_id, 'agent', namespace, id, revision, 'put' FROM chosen
)
SELECT place, revision, now(), now(), now() FROM chosen";

/// Replaces rows that have the revision of their base. Rows are locked in the order in which they are given, that of
/// their keys, before anything is written, as the full way does, so that two batches never wait for each other:
/// what is written comes from the locked rows alone, and the statement reads all of them first.
const REPLACE: &str = "\
WITH locked AS MATERIALIZED (
    SELECT i.*, a.* FROM (
        SELECT * FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WITH ORDINALITY AS i(
            namespace, id, op_id, updated_by, content_hash, name, version, description, instructions, category,
            enabled, executor_kind, executor_settings, config, tags, capabilities, deprecated, base, replaced,
            deploy, place)
        WHERE place BETWEEN 1 AND 1000000000 OFFSET 0
    ) i
    CROSS JOIN LATERAL (
        SELECT a.content_hash, a.name, a.version, a.description, a.instructions, a.category, a.tags, a.enabled,
            a.capabilities, a.executor_kind, a.executor_settings, a.config, a.deprecated, a.created_at, a.updated_at,
            a.deployed_at, a.updated_by, a.removed_at
        FROM agents a WHERE a.namespace = i.namespace AND a.id = i.id AND a.revision = i.base FOR UPDATE
    ) AS a(old_content_hash, old_name, old_version, old_description, old_instructions, old_category, old_tags,
        old_enabled, old_capabilities, old_executor_kind, old_executor_settings, old_config, old_deprecated,
        created_at, old_updated_at, old_deployed_at, old_updated_by, old_removed_at)
), kept AS (
    INSERT INTO agent_history (namespace, id, revision, content_hash, name, version, description, instructions,
        category, tags, enabled, capabilities, executor_kind, executor_settings, config, deprecated,
        created_at, updated_at, deployed_at, updated_by, removed_at)
    SELECT namespace, id, base, old_content_hash, old_name, old_version, old_description, old_instructions,
        old_category, old_tags, old_enabled, old_capabilities, old_executor_kind, old_executor_settings, old_config,
        old_deprecated, created_at, old_updated_at, old_deployed_at, old_updated_by, old_removed_at FROM locked
), replaced AS (
    UPDATE agents a SET revision = l.base + 1, content_hash = l.content_hash, name = l.name,
        version = l.version, description = l.description, instructions = l.instructions, category = l.category,
        tags = l.tags::json, enabled = l.enabled, capabilities = l.capabilities::json,
        executor_kind = l.executor_kind, executor_settings = l.executor_settings::json, config = l.config::json,
        deprecated = l.deprecated::json, updated_at = now(),
        deployed_at = CASE WHEN l.deploy THEN now() ELSE a.deployed_at END,
        updated_by = l.updated_by, removed_at = NULL
    FROM locked l WHERE a.namespace = l.namespace AND a.id = l.id
), logged AS (
    INSERT INTO change_log (entity, namespace, id, revision, op)
    SELECT 'agent', namespace, id, base + 1, 'put' FROM locked
), noted AS (
    INSERT INTO applied_ops (op_id, entity, namespace, id, revision, replaced_revision, op)
    SELECT op_id, 'agent', namespace, id, base + 1, replaced, 'put' FROM locked
)
SELECT place, base + 1, created_at, now(), CASE WHEN deploy THEN now() ELSE old_deployed_at END FROM locked";

async fn remove_in_txn(
    conn: &mut AsyncPgConnection,
    removals: &[RemoveRow<'_>],
    written: &mut ByKey<Written>,
) -> Result<(), StoreError> {
    const REMOVE: &str = "\
WITH input AS (
    SELECT * FROM UNNEST(?, ?, ?, ?) AS i(namespace, id, op_id, updated_by)
), kept AS (
    INSERT INTO agent_history
    SELECT a.* FROM agents a JOIN input i ON a.namespace = i.namespace AND a.id = i.id
), removed AS (
    UPDATE agents a SET revision = a.revision + 1, removed_at = now(), updated_at = now(), updated_by = i.updated_by
    FROM input i WHERE a.namespace = i.namespace AND a.id = i.id
    RETURNING a.namespace, a.id, a.revision, i.op_id
), logged AS (
    INSERT INTO change_log (entity, namespace, id, revision, op)
    SELECT 'agent', namespace, id, revision, 'remove' FROM removed
), noted AS (
    INSERT INTO applied_ops (op_id, entity, namespace, id, revision, op)
    SELECT op_id, 'agent', namespace, id, revision, 'remove' FROM removed
)
SELECT namespace, id, revision, now() FROM removed";
    remove_with(conn, REMOVE, removals, written).await
}

async fn purge_in_txn(
    conn: &mut AsyncPgConnection,
    removals: &[RemoveRow<'_>],
    written: &mut ByKey<Written>,
) -> Result<(), StoreError> {
    const PURGE: &str = "\
WITH input AS (
    SELECT * FROM UNNEST(?, ?, ?, ?) AS i(namespace, id, op_id, updated_by)
), forgotten AS (
    DELETE FROM agent_history h USING input i WHERE h.namespace = i.namespace AND h.id = i.id
), purged AS (
    DELETE FROM agents a USING input i WHERE a.namespace = i.namespace AND a.id = i.id
    RETURNING a.namespace, a.id, a.revision + 1 AS revision, i.op_id
), buried AS (
    INSERT INTO tombstones (entity, namespace, id, revision, purged_at)
    SELECT 'agent', namespace, id, revision, now() FROM purged
), logged AS (
    INSERT INTO change_log (entity, namespace, id, revision, op)
    SELECT 'agent', namespace, id, revision, 'remove' FROM purged
), noted AS (
    INSERT INTO applied_ops (op_id, entity, namespace, id, revision, op)
    SELECT op_id, 'agent', namespace, id, revision, 'purge' FROM purged
)
SELECT namespace, id, revision, now() FROM purged";
    remove_with(conn, PURGE, removals, written).await
}

async fn remove_with(
    conn: &mut AsyncPgConnection,
    sql: &'static str,
    removals: &[RemoveRow<'_>],
    written: &mut ByKey<Written>,
) -> Result<(), StoreError> {
    if removals.is_empty() {
        return Ok(());
    }
    let found: Vec<(String, String, i64, StoredTime)> = PgStatement::<(Text, Text, BigInt, Timestamptz)>::new(sql)
        .bind::<Array<Text>, _>(removals.iter().map(|r| r.key.namespace.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(removals.iter().map(|r| r.key.id.as_str()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(removals.iter().map(|r| r.change.op_id.0).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(removals.iter().map(|r| r.change.actor.as_str()).collect::<Vec<_>>())
        .rows(conn)
        .await?;
    for (namespace, id, revision, at) in found {
        let row = Written { revision, created_at: at.0, updated_at: at.0, deployed_at: at.0 };
        written.insert(stored_key(namespace, id), row);
    }
    Ok(())
}
