//! The transaction of the writer, and the short cut through it.
//!
//! The full way locks the rows, decides, writes, commits: four round trips. When the cache tells which revision each
//! row has, one statement writes those rows that really have it, in a transaction of its own: one round trip. What it
//! leaves untouched goes the full way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::change::{Change, Current, Decision, Mutation, Outcome};
use a2a_core::ids::{AgentKey, OpId};
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
    base: Base<'_>,
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let mut outcomes = vec![Vec::new(); units.len()];
    if !recheck {
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
    match conn.transaction(async |conn| apply_in_txn(conn, units, recheck).await).await {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, units = units.len(), "a batch was rejected; isolating the cause");
            conn.transaction(async |conn| isolate_in_txn(conn, units, recheck).await).await
        }
        result => result,
    }
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
    let mut written = put(conn, &round.puts(&current)).await?;
    remove_in_txn(conn, &round.removals(Decision::Remove), &mut written).await?;
    purge_in_txn(conn, &round.removals(Decision::Purge), &mut written).await?;
    round.outcomes(&written).ok_or(StoreError::Raced)
}

/// Writes in one statement what the cache knows the row of. Fills the outcomes of those units.
async fn short_cut(
    conn: &mut AsyncPgConnection,
    units: &[Unit],
    base: Base<'_>,
    outcomes: &mut [Vec<Outcome>],
) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for key in units.iter().flat_map(|unit| &unit.changes).map(|change| change.mutation.key()) {
        if !seen.insert(key.clone()) {
            repeated.insert(key);
        }
    }
    let guess = |unit: &Unit| -> Option<Option<Arc<Agent>>> {
        let [Change { mutation: Mutation::AgentPut(put), expected_revision, .. }] = unit.changes.as_slice() else {
            return None;
        };
        let key = put.spec.key();
        if repeated.contains(&key) {
            // The order of changes of one key is kept by the rounds of the full way.
            return None;
        }
        let cached = base(&key);
        let revision = cached.as_ref().map_or(0, |agent| agent.revision);
        let same = cached.as_ref().is_some_and(|agent| agent.spec == *put.spec);
        // What would not be written is answered by the database, not by the cache.
        (!same && expected_revision.is_none_or(|expected| expected == revision)).then_some(cached)
    };
    let mut guessed: Vec<(usize, PutRow<'_>)> = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        if let Some(cached) = guess(unit)
            && let [change] = unit.changes.as_slice()
            && let Mutation::AgentPut(put) = &change.mutation
        {
            let revision = cached.map(|agent| agent.revision);
            guessed.push((index, PutRow { change, put, base: revision, replaced: revision }));
        }
    }
    guessed.sort_unstable_by(|(_, a), (_, b)| {
        (&a.put.spec.namespace, &a.put.spec.id).cmp(&(&b.put.spec.namespace, &b.put.spec.id))
    });
    let puts: Vec<PutRow<'_>> = guessed.iter().map(|(_, row)| *row).collect();
    let written = match put(conn, &puts).await {
        Ok(written) => written,
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "the short cut was rejected; going the full way");
            return Ok(());
        }
    };
    for (index, row) in guessed {
        if let Some(done) = written.get(&row.put.spec.key())
            && let Some(slot) = outcomes.get_mut(index)
        {
            let agent = Arc::new(written_agent(row.put, row.change, done));
            *slot = vec![Outcome::Put { agent, replaced_revision: row.replaced }];
        }
    }
    Ok(())
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

/// Writes documents with their history, change log and applied operations, in one statement. A row whose revision is
/// not its `base` is left as it is and not returned.
async fn put(conn: &mut AsyncPgConnection, puts: &[PutRow<'_>]) -> Result<ByKey<Written>, StoreError> {
    if puts.is_empty() {
        return Ok(ByKey::new());
    }
    let json: Vec<AgentJson> = puts.iter().map(|row| AgentJson::of(&row.put.spec)).collect::<Result<_, _>>()?;
    macro_rules! column {
        ($row:ident => $value:expr) => {
            puts.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let found: Vec<(String, String, i64, StoredTime, StoredTime, StoredTime)> =
        PgStatement::<(Text, Text, BigInt, Timestamptz, Timestamptz, Timestamptz)>::new(PUT)
            .bind::<Array<Text>, _>(column!(row => row.put.spec.namespace.as_str()))
            .bind::<Array<Text>, _>(column!(row => row.put.spec.id.as_str()))
            .bind::<Array<Nullable<BigInt>>, _>(column!(row => row.base))
            .bind::<Array<Nullable<BigInt>>, _>(column!(row => row.replaced))
            .bind::<Array<SqlUuid>, _>(column!(row => row.change.op_id.0))
            .bind::<Array<Bool>, _>(column!(row => row.put.deploy))
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
            .bind::<Array<Nullable<Text>>, _>(json.iter().map(|j| j.deprecated.as_deref()).collect::<Vec<_>>())
            .rows(conn)
            .await?;
    Ok(found
        .into_iter()
        .map(|(namespace, id, revision, created_at, updated_at, deployed_at)| {
            let row =
                Written { revision, created_at: created_at.0, updated_at: updated_at.0, deployed_at: deployed_at.0 };
            (stored_key(namespace, id), row)
        })
        .collect())
}

/// Rows are locked in the order of their keys before anything is written, as the full way does, so that two batches
/// never wait for each other. What counts the locked rows does nothing but come after them.
///
/// A row that the statement can see is not created, because a purge may commit while the insert waits for it, and the
/// statement does not see the tombstone of that purge.
const PUT: &str = "\
WITH input AS (
    SELECT * FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS i(
        namespace, id, base, replaced, op_id, deploy, updated_by, content_hash, name, version, description,
        instructions, category, enabled, executor_kind, executor_settings, config, tags, capabilities, deprecated)
), locked AS (
    SELECT a.* FROM input i JOIN agents a ON a.namespace = i.namespace AND a.id = i.id AND a.revision = i.base
    WHERE i.base IS NOT NULL
    ORDER BY a.namespace, a.id FOR UPDATE OF a
), kept AS (
    INSERT INTO agent_history SELECT * FROM locked ON CONFLICT DO NOTHING
), created AS (
    INSERT INTO agents (namespace, id, revision, content_hash, name, version, description, instructions, category,
        tags, enabled, capabilities, executor_kind, executor_settings, config, deprecated,
        created_at, updated_at, deployed_at, updated_by)
    SELECT i.namespace, i.id, coalesce(t.revision, 0) + 1, i.content_hash, i.name, i.version, i.description,
        i.instructions, i.category, i.tags::json, i.enabled, i.capabilities::json, i.executor_kind,
        i.executor_settings::json, i.config::json, i.deprecated::json, now(), now(), now(), i.updated_by
    FROM input i LEFT JOIN tombstones t ON t.entity = 'agent' AND t.namespace = i.namespace AND t.id = i.id
    WHERE i.base IS NULL AND (SELECT count(*) FROM locked) >= 0
        AND NOT EXISTS (SELECT FROM agents a WHERE a.namespace = i.namespace AND a.id = i.id)
    ORDER BY i.namespace, i.id
    ON CONFLICT DO NOTHING
    RETURNING namespace, id, revision, created_at, updated_at, deployed_at
), replaced AS (
    UPDATE agents a SET revision = a.revision + 1, content_hash = i.content_hash, name = i.name,
        version = i.version, description = i.description, instructions = i.instructions, category = i.category,
        tags = i.tags::json, enabled = i.enabled, capabilities = i.capabilities::json,
        executor_kind = i.executor_kind, executor_settings = i.executor_settings::json, config = i.config::json,
        deprecated = i.deprecated::json, updated_at = now(),
        deployed_at = CASE WHEN i.deploy THEN now() ELSE a.deployed_at END,
        updated_by = i.updated_by, removed_at = NULL
    FROM input i WHERE i.base IS NOT NULL AND a.namespace = i.namespace AND a.id = i.id AND a.revision = i.base
        AND (SELECT count(*) FROM locked) >= 0
    RETURNING a.namespace, a.id, a.revision, a.created_at, a.updated_at, a.deployed_at
), written AS (
    SELECT * FROM created UNION ALL SELECT * FROM replaced
), revived AS (
    DELETE FROM tombstones t USING created c
    WHERE c.revision > 1 AND t.entity = 'agent' AND t.namespace = c.namespace AND t.id = c.id
), logged AS (
    INSERT INTO change_log (entity, namespace, id, revision, op)
    SELECT 'agent', namespace, id, revision, 'put' FROM written
), noted AS (
    INSERT INTO applied_ops (op_id, entity, namespace, id, revision, replaced_revision, op)
    SELECT i.op_id, 'agent', w.namespace, w.id, w.revision, i.replaced, 'put'
    FROM written w JOIN input i ON i.namespace = w.namespace AND i.id = w.id
)
SELECT namespace, id, revision, created_at, updated_at, deployed_at FROM written";

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
