//! How incoming rows, each table of them in a temporary one, come together with those that are there.
//!
//! Of two states of the same thing the one with the higher revision stays, and the other one goes into the history where
//! there is one. A purge counts as a state. A run is taken whole, with its steps. Tool usage has no identity by which it
//! could be told whether it is there, so that it is left out.

use super::TABLES;

/// A statement, with the table whose rows it takes over, if it does.
pub(crate) struct Merge {
    pub(crate) sql: String,
    pub(crate) takes: Option<&'static str>,
}

/// What comes before agents are taken: those that were purged here or there.
const PURGED: [&str; 7] = [
    "DELETE FROM agent_history WHERE EXISTS (SELECT 1 FROM in_tombstones t JOIN agents a \
     ON a.namespace = t.namespace AND a.id = t.id WHERE t.entity = 'agent' AND t.revision > a.revision \
     AND agent_history.namespace = a.namespace AND agent_history.id = a.id)",
    "DELETE FROM agents WHERE EXISTS (SELECT 1 FROM in_tombstones t WHERE t.entity = 'agent' \
     AND t.namespace = agents.namespace AND t.id = agents.id AND t.revision > agents.revision)",
    "DELETE FROM in_tombstones WHERE entity = 'agent' AND EXISTS (SELECT 1 FROM agents a \
     WHERE a.namespace = in_tombstones.namespace AND a.id = in_tombstones.id)",
    "INSERT INTO tombstones (entity, namespace, id, revision, purged_at) \
     SELECT entity, namespace, id, revision, purged_at FROM in_tombstones WHERE true \
     ON CONFLICT (entity, namespace, id) DO UPDATE SET revision = excluded.revision, purged_at = excluded.purged_at \
     WHERE excluded.revision > tombstones.revision",
    "DELETE FROM in_agents WHERE EXISTS (SELECT 1 FROM tombstones t WHERE t.entity = 'agent' \
     AND t.namespace = in_agents.namespace AND t.id = in_agents.id AND t.revision >= in_agents.revision)",
    "DELETE FROM in_agent_history WHERE EXISTS (SELECT 1 FROM tombstones t WHERE t.entity = 'agent' \
     AND t.namespace = in_agent_history.namespace AND t.id = in_agent_history.id \
     AND t.revision >= in_agent_history.revision)",
    "DELETE FROM tombstones WHERE entity = 'agent' AND EXISTS (SELECT 1 FROM in_agents i \
     WHERE i.namespace = tombstones.namespace AND i.id = tombstones.id)",
];

const RUNS: [&str; 5] = [
    "DELETE FROM in_runs WHERE EXISTS (SELECT 1 FROM runs r WHERE r.id = in_runs.id AND r.revision >= in_runs.revision)",
    "DELETE FROM in_steps WHERE NOT EXISTS (SELECT 1 FROM in_runs r WHERE r.id = in_steps.run_id)",
    "DELETE FROM steps WHERE EXISTS (SELECT 1 FROM in_runs r WHERE r.id = steps.run_id)",
    "DELETE FROM runs WHERE EXISTS (SELECT 1 FROM in_runs i WHERE i.id = runs.id)",
    // Another run was started here with the same key; the key finds that one.
    "UPDATE in_runs SET idempotency_key = NULL WHERE EXISTS (SELECT 1 FROM runs r \
     WHERE r.namespace = in_runs.namespace AND r.idempotency_key = in_runs.idempotency_key)",
];

/// All statements, in their order; both backends understand them.
pub(crate) static MERGE: std::sync::LazyLock<Vec<Merge>> = std::sync::LazyLock::new(|| {
    let fixed = |sql: &&str| Merge { sql: (*sql).to_owned(), takes: None };
    let mut merge: Vec<Merge> = PURGED.iter().map(fixed).collect();
    merge.extend(versioned("agents", "agent_history"));
    merge.push(newer("agent_checks"));
    merge.push(newer("agent_personalities"));
    merge.extend(versioned("workflows", "workflow_history"));
    merge.extend(RUNS.iter().map(fixed));
    merge.push(Merge { sql: insert("runs", "true", ""), takes: Some("runs") });
    merge.push(Merge { sql: insert("steps", "true", ""), takes: Some("steps") });
    merge.push(newer("memories"));
    merge
});

fn columns(table: &str) -> Vec<&'static str> {
    let found = TABLES.iter().find(|known| known.name == table);
    found.map(|table| table.columns.iter().map(|column| column.name).collect()).unwrap_or_default()
}

fn insert(table: &str, condition: &str, conflict: &str) -> String {
    let names = columns(table).join(", ");
    format!("INSERT INTO {table} ({names}) SELECT {names} FROM in_{table} WHERE {condition} {conflict}")
}

/// Takes what is not there, and what is newer.
fn newer(table: &'static str) -> Merge {
    let key = TABLES.iter().find(|known| known.name == table).map_or("", |table| table.key);
    let set: Vec<String> = columns(table).iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let set = set.join(", ");
    let conflict = format!("ON CONFLICT ({key}) DO UPDATE SET {set} WHERE excluded.revision > {table}.revision");
    Merge { sql: insert(table, "true", &conflict), takes: Some(table) }
}

/// The same for what has a history, which gets the state that does not stay.
fn versioned(table: &'static str, history: &'static str) -> Vec<Merge> {
    let names = columns(table).join(", ");
    let of = |alias: &str| columns(table).iter().map(|name| format!("{alias}.{name}")).collect::<Vec<_>>().join(", ");
    let both = format!("FROM in_{table} i JOIN {table} a ON a.namespace = i.namespace AND a.id = i.id");
    let keep = |alias: &str, condition: &str| Merge {
        sql: format!(
            "INSERT INTO {history} ({names}) SELECT {} {both} WHERE {condition} ON CONFLICT DO NOTHING",
            of(alias)
        ),
        takes: None,
    };
    let current = format!(
        "NOT EXISTS (SELECT 1 FROM {table} a WHERE a.namespace = in_{history}.namespace AND a.id = in_{history}.id \
         AND a.revision = in_{history}.revision)"
    );
    vec![
        keep("a", "i.revision > a.revision"),
        keep("i", "i.revision < a.revision"),
        newer(table),
        Merge { sql: insert(history, &current, "ON CONFLICT DO NOTHING"), takes: Some(history) },
    ]
}
