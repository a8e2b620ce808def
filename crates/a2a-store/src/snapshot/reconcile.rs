//! Bringing two databases together that were equal once, and may both have changed since.
//!
//! A [`Base`] knows the hash of each row at the last sync. What each side has changed since is compared entity by entity:
//! an agent or a workflow with its history and tombstone, a run with its steps, any other row by itself.
//!
//! | ours (memory) | theirs (database) | both have afterwards |
//! |---|---|---|
//! | unchanged | put, updated or deleted | theirs |
//! | put, updated or deleted | unchanged | ours |
//! | anything | the same | that |
//! | deleted | updated | theirs: what is alive stays |
//! | updated | deleted | ours, for the same reason |
//! | agent or workflow put or updated | put or updated to something else | the live one, else the higher revision, else the later one, else ours; its revision rises above both, and the states of the other one are in the history before it |
//! | memory put or updated | other words or data | the same choice; the other one is kept under an id of its own, superseded by it |
//! | run | the same run, advanced in another way | one of them as a whole, by the same choice, counted in [`Merged::replaced`] |
//! | contact, experience | another one | by the same choice |
//! | tool calls | other calls | all of them; deleting old ones is left to each side |
//! | run with an idempotency key | another run with the same key | both; the key finds theirs |

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{SnapshotError, TABLES, canonical, hex};

type Hash = [u8; 32];
/// The position of a table in [`TABLES`], and the columns of the key as a JSON array.
pub(crate) type Key = (usize, String);
/// Rows by key; `None` is one that is to go.
pub(crate) type Rows = BTreeMap<Key, Option<String>>;

/// The rows that both sides had at the last sync, by their hashes.
#[derive(Debug, Default)]
pub(crate) struct Base(HashMap<Key, Hash>);

impl Base {
    /// Notes what a side has become.
    pub(crate) fn absorb(&mut self, rows: &Rows) {
        for (key, row) in rows {
            match row {
                Some(row) => self.0.insert(key.clone(), hash(row)),
                None => self.0.remove(key),
            };
        }
    }
}

/// Reads a side, all of its rows in the order of [`TABLES`], and keeps what differs from the base.
pub(crate) struct Side<'b> {
    base: &'b Base,
    seen: HashSet<Key>,
    /// How often the same tool call was seen: it has no identity of its own.
    calls: HashMap<Hash, u64>,
    /// Runs that go on or have changed: their steps are kept all, so that a conflict can be decided for the whole.
    whole: HashSet<String>,
    changes: Changes,
}

/// What a side has.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    rows: Rows,
    /// Those of `rows` that differ from the base.
    changed: HashSet<Key>,
}

impl Changes {
    /// Only what differs from the base.
    pub(crate) fn into_changed(self) -> Rows {
        let Self { rows, changed } = self;
        rows.into_iter().filter(|(key, _)| changed.contains(key)).collect()
    }
}

impl<'b> Side<'b> {
    pub(crate) fn new(base: &'b Base) -> Self {
        Self { base, seen: HashSet::new(), calls: HashMap::new(), whole: HashSet::new(), changes: Changes::default() }
    }

    /// Takes a row as the database writes it.
    pub(crate) fn add(&mut self, table: usize, row: &str) -> Result<(), SnapshotError> {
        let row = canonical(table, row)?;
        let hash = hash(&row);
        let fields = Fields::read(table, &row)?;
        let key = if name(table) == "tool_usage" {
            let nth = self.calls.entry(hash).and_modify(|count| *count += 1).or_insert(1);
            (table, format!("{}#{nth}", hex(&hash)))
        } else {
            (table, fields.key())
        };
        let differs = self.base.0.get(&key) != Some(&hash);
        let is_kept = match name(table) {
            "runs" if differs || matches!(fields.text("status"), Some("PENDING" | "RUNNING" | "WAITING")) => {
                self.whole.insert(fields.text("id").unwrap_or_default().to_owned());
                true
            }
            "steps" => differs || self.whole.contains(fields.text("run_id").unwrap_or_default()),
            _ => differs,
        };
        if differs {
            self.changes.changed.insert(key.clone());
        }
        if is_kept {
            self.changes.rows.insert(key.clone(), Some(row));
        }
        self.seen.insert(key);
        Ok(())
    }

    pub(crate) fn finish(self) -> Changes {
        let Self { base, seen, mut changes, .. } = self;
        for key in base.0.keys().filter(|key| name(key.0) != "tool_usage" && !seen.contains(*key)) {
            changes.changed.insert(key.clone());
            changes.rows.insert(key.clone(), None);
        }
        changes
    }
}

/// What each side has to write so that both are equal.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) to_ours: Rows,
    pub(crate) to_theirs: Rows,
    /// Runs of which one state has given way to another one, by their ids.
    pub(crate) replaced: Vec<String>,
}

#[derive(Default)]
struct Entity {
    ours: Rows,
    theirs: Rows,
}

/// Decides as the table above says.
pub(crate) fn reconcile(ours: &Changes, theirs: &Changes) -> Result<Merged, SnapshotError> {
    let mut entities: BTreeMap<Key, Entity> = BTreeMap::new();
    let mut changed: (HashSet<Key>, HashSet<Key>) = (HashSet::new(), HashSet::new());
    for (key, row) in &ours.rows {
        let entity = entity(key)?;
        if ours.changed.contains(key) && theirs.rows.get(key) != Some(row) {
            changed.0.insert(entity.clone());
        }
        entities.entry(entity).or_default().ours.insert(key.clone(), row.clone());
    }
    for (key, row) in &theirs.rows {
        let entity = entity(key)?;
        if theirs.changed.contains(key) && ours.rows.get(key) != Some(row) {
            changed.1.insert(entity.clone());
        }
        entities.entry(entity).or_default().theirs.insert(key.clone(), row.clone());
    }
    let mut merged = Merged::default();
    for (key, Entity { ours: mut our_rows, theirs: mut their_rows }) in entities {
        match (changed.0.contains(&key), changed.1.contains(&key)) {
            (false, false) => {}
            (is_ours, is_theirs) if is_ours != is_theirs || name(key.0) == "tool_usage" => {
                our_rows.retain(|key, row| ours.changed.contains(key) && theirs.rows.get(key) != Some(row));
                their_rows.retain(|key, row| theirs.changed.contains(key) && ours.rows.get(key) != Some(row));
                merged.to_theirs.append(&mut our_rows);
                merged.to_ours.append(&mut their_rows);
            }
            _ => {
                let agreed = match name(key.0) {
                    "agents" | "workflows" => versioned(key.0, &our_rows, &their_rows)?,
                    "runs" => {
                        merged.replaced.push(key.1.clone());
                        whole(key.0, &our_rows, &their_rows)?
                    }
                    "memories" => memory(key.0, &our_rows, &their_rows)?,
                    _ => whole(key.0, &our_rows, &their_rows)?,
                };
                merged.to_ours.append(&mut missing(&agreed, &our_rows));
                merged.to_theirs.append(&mut missing(&agreed, &their_rows));
            }
        }
    }
    idempotency_keys(ours, &mut merged)?;
    Ok(merged)
}

/// What `has` lacks to become what was agreed on.
fn missing(agreed: &Rows, has: &Rows) -> Rows {
    let gone = has.keys().filter(|key| !agreed.contains_key(*key)).map(|key| (key.clone(), None));
    agreed.iter().map(|(key, row)| (key.clone(), row.clone())).chain(gone).collect()
}

/// The row that stands for the thing a row belongs to.
fn entity(key: &Key) -> Result<Key, SnapshotError> {
    let parts = || serde_json::from_str::<Vec<Value>>(&key.1).map_err(|error| wrong(key.0, &error));
    let of = |table: &str, from: usize, count: usize| {
        let parts: Vec<Value> = parts()?.into_iter().skip(from).take(count).collect();
        Ok((index(table), Value::from(parts).to_string()))
    };
    match name(key.0) {
        "agent_history" => of("agents", 0, 2),
        "workflow_history" => of("workflows", 0, 2),
        "tombstones" if key.1.starts_with("[\"agent\"") => of("agents", 1, 2),
        "steps" => of("runs", 0, 1),
        _ => Ok(key.clone()),
    }
}

/// How one of two states is chosen: alive, then revision, then time.
fn rank(row: &Fields) -> (bool, i64, i64) {
    let at = row.integer("updated_at").or_else(|| row.integer("checked_at"));
    (row.is_null("removed_at"), row.integer("revision").unwrap_or(0), at.unwrap_or(0))
}

fn current(table: usize, rows: &Rows) -> Result<Option<Fields>, SnapshotError> {
    let found = rows.iter().find(|(key, _)| key.0 == table).and_then(|(_, row)| row.as_ref());
    found.map(|row| Fields::read(table, row)).transpose()
}

/// An agent or a workflow: the state that gives way goes into the history.
fn versioned(table: usize, ours: &Rows, theirs: &Rows) -> Result<Rows, SnapshotError> {
    let (our, their) = (current(table, ours)?, current(table, theirs)?);
    let is_ours = match (&our, &their) {
        (Some(our), Some(their)) => rank(our) >= rank(their),
        (Some(_), None) => true,
        (None, Some(_)) => false,
        // Purged on both sides: the tombstone says up to which revision.
        (None, None) => highest(ours)? >= highest(theirs)?,
    };
    let (winner, loser) = if is_ours { (ours, theirs) } else { (theirs, ours) };
    let has = |rows: &Rows| rows.iter().any(|(key, row)| key.0 == table && row.is_some());
    // Only the history has changed on one side, or nothing is left to be chosen from.
    if !has(winner) || !loser.keys().any(|key| key.0 == table) {
        let mut agreed = loser.clone();
        agreed.extend(winner.clone());
        return Ok(agreed);
    }
    let mut revision = highest(ours)?.max(highest(theirs)?);
    let history = index(if name(table) == "agents" { "agent_history" } else { "workflow_history" });
    let mut agreed: Rows = BTreeMap::new();
    for (key, row) in winner.iter().chain(loser) {
        // What one side has deleted of the history stays deleted, and a tombstone of what is alive goes.
        let is_tombstone = name(key.0) == "tombstones";
        if (row.is_none() || is_tombstone) && key.0 != table {
            agreed.insert(key.clone(), None);
        }
    }
    for (key, row) in winner.iter().filter(|(key, row)| key.0 == history && row.is_some()) {
        agreed.insert(key.clone(), row.clone());
    }
    let mut states: Vec<Fields> = Vec::new();
    for (key, row) in loser {
        if let Some(row) = row.as_ref().filter(|_| key.0 == table || key.0 == history) {
            // What both have in their history is not told twice.
            if agreed.get(key) != Some(&Some(row.clone())) {
                states.push(Fields::read(history, row)?);
            }
        }
    }
    states.sort_by_key(|state| state.integer("revision"));
    for mut state in states {
        revision += 1;
        state.set("revision", Value::from(revision));
        agreed.insert((history, state.key()), Some(state.row()));
    }
    if let Some(mut row) = current(table, winner)? {
        row.set("revision", Value::from(revision + 1));
        agreed.insert((table, row.key()), Some(row.row()));
    }
    Ok(agreed)
}

fn highest(rows: &Rows) -> Result<i64, SnapshotError> {
    let mut highest = 0;
    for (key, row) in rows {
        if let Some(row) = row {
            highest = highest.max(Fields::read(key.0, row)?.integer("revision").unwrap_or(0));
        }
    }
    Ok(highest)
}

/// One side as a whole, at a revision above both.
fn whole(table: usize, ours: &Rows, theirs: &Rows) -> Result<Rows, SnapshotError> {
    let (our, their) = (current(table, ours)?, current(table, theirs)?);
    let is_ours = match (&our, &their) {
        (Some(our), Some(their)) => rank(our) >= rank(their),
        (our, _) => our.is_some(),
    };
    let winner = if is_ours { (ours, our) } else { (theirs, their) };
    let mut agreed: Rows =
        winner.0.iter().filter(|(_, row)| row.is_some()).map(|(k, r)| (k.clone(), r.clone())).collect();
    let revision = [ours, theirs].into_iter().map(|rows| Ok(current(table, rows)?.and_then(|r| r.integer("revision"))));
    let revision = revision.collect::<Result<Vec<_>, SnapshotError>>()?.into_iter().flatten().max();
    if let (Some(mut row), Some(revision)) = (winner.1, revision) {
        row.set("revision", Value::from(revision + 1));
        agreed.insert((table, row.key()), Some(row.row()));
    }
    Ok(agreed)
}

/// A memory: what gives way is kept beside it when it says something else.
fn memory(table: usize, ours: &Rows, theirs: &Rows) -> Result<Rows, SnapshotError> {
    let mut agreed = whole(table, ours, theirs)?;
    let (Some(our), Some(their), Some(stays)) =
        (current(table, ours)?, current(table, theirs)?, current(table, &agreed)?)
    else {
        return Ok(agreed);
    };
    for mut other in [our, their] {
        let is_same = ["content", "data"].iter().all(|column| other.get(column) == stays.get(column));
        if is_same || !other.is_null("removed_at") {
            continue;
        }
        let id = stays.text("id").unwrap_or_default();
        let mark: String = hex(&hash(&other.row())).chars().take(12).collect();
        let kept: String = id.chars().take(100).collect();
        other.set("superseded_by", Value::from(id));
        other.set("id", Value::from(format!("{kept}.{mark}")));
        other.set("key", Value::Null);
        other.set("revision", Value::from(1));
        agreed.insert((table, other.key()), Some(other.row()));
    }
    Ok(agreed)
}

/// Takes the idempotency key from our new runs where a run of theirs has it.
fn idempotency_keys(ours: &Changes, merged: &mut Merged) -> Result<(), SnapshotError> {
    let table = index("runs");
    let named = |row: &Fields| Some((row.text("namespace")?.to_owned(), row.text("idempotency_key")?.to_owned()));
    let mut taken = HashMap::new();
    for (key, row) in merged.to_ours.iter().filter(|(key, _)| key.0 == table) {
        if let Some(name) = row.as_ref().map(|row| Fields::read(table, row)).transpose()?.as_ref().and_then(named) {
            taken.insert(name, key.clone());
        }
    }
    for (key, row) in ours.rows.iter().filter(|(key, _)| key.0 == table && !taken.is_empty()) {
        let Some(row) = merged.to_theirs.get(key).unwrap_or(row) else { continue };
        let mut row = Fields::read(table, row)?;
        if named(&row).and_then(|name| taken.get(&name)).is_some_and(|other| other != key) {
            row.set("idempotency_key", Value::Null);
            row.set("revision", Value::from(row.integer("revision").unwrap_or(0) + 1));
            merged.to_ours.insert(key.clone(), Some(row.row()));
            merged.to_theirs.insert(key.clone(), Some(row.row()));
        }
    }
    Ok(())
}

/// A row with the names of its columns.
struct Fields {
    table: usize,
    values: Vec<Value>,
}

impl Fields {
    fn read(table: usize, row: &str) -> Result<Self, SnapshotError> {
        Ok(Self { table, values: serde_json::from_str(row).map_err(|error| wrong(table, &error))? })
    }

    fn place(&self, column: &str) -> Option<usize> {
        TABLES.get(self.table)?.columns.iter().position(|known| known.name == column)
    }

    fn get(&self, column: &str) -> Option<&Value> {
        self.values.get(self.place(column)?)
    }

    fn text(&self, column: &str) -> Option<&str> {
        self.get(column)?.as_str()
    }

    fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_i64()
    }

    /// Also true of a column that the table does not have.
    fn is_null(&self, column: &str) -> bool {
        self.get(column).is_none_or(Value::is_null)
    }

    fn set(&mut self, column: &str, value: Value) {
        if let Some(field) = self.place(column).and_then(|place| self.values.get_mut(place)) {
            *field = value;
        }
    }

    fn key(&self) -> String {
        let names = TABLES.get(self.table).map_or("", |table| table.key).split(", ");
        Value::from(names.map(|name| self.get(name).cloned().unwrap_or_default()).collect::<Vec<_>>()).to_string()
    }

    fn row(&self) -> String {
        Value::from(self.values.clone()).to_string()
    }
}

fn hash(row: &str) -> Hash {
    Sha256::digest(row.as_bytes()).into()
}

fn name(table: usize) -> &'static str {
    TABLES.get(table).map_or("", |table| table.name)
}

fn index(table: &str) -> usize {
    TABLES.iter().position(|known| known.name == table).unwrap_or(usize::MAX)
}

fn wrong(table: usize, error: &serde_json::Error) -> SnapshotError {
    SnapshotError::Row { table: name(table), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
