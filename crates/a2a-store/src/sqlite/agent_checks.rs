//! Contacts with agents.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{QueryResult, SqliteConnection};
use serde_json::{Value, json};

use super::rows::json_text;
use super::{Sqlite, SqliteStatement, now, with};
use crate::agent_check::{AgentCheckRow, NotedCheck, StoredCheck, check_columns};
use crate::error::StoreError;

type CheckSql = (Text, Text, Bool, Nullable<Text>, BigInt, Text, BigInt);

/// A later contact is kept against an earlier one that comes late, unless the clock has gone back since.
const NOTE: &str = concat!(
    "INSERT INTO agent_checks AS c (namespace, id, reachable, detail, checked_at, checked_by, revision) \
     SELECT a.namespace, a.id, n.value ->> 'reachable', n.value ->> 'detail', n.value ->> 'checked_at', \
     n.value ->> 'checked_by', 1 \
     FROM json_each(?) n JOIN agents a ON a.namespace = n.value ->> 'namespace' AND a.id = n.value ->> 'id' \
     AND a.revision = n.value ->> 'agent_revision' WHERE a.removed_at IS NULL \
     ON CONFLICT (namespace, id) DO UPDATE SET reachable = excluded.reachable, detail = excluded.detail, \
     checked_at = excluded.checked_at, checked_by = excluded.checked_by, revision = c.revision + 1 \
     WHERE c.checked_at <= excluded.checked_at OR c.checked_at > ? \
     RETURNING ",
    check_columns!()
);

const LOG: &str = "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
     SELECT 'agent_check', value ->> 0, value ->> 1, value ->> 2, 'put', n.now \
     FROM (SELECT ? AS now) n JOIN json_each(?)";

impl Sqlite {
    pub(crate) async fn agent_checks_note(&self, noted: &[NotedCheck]) -> Result<Vec<StoredCheck>, StoreError> {
        let noted = noted.to_vec();
        with(&self.writer, move |conn| {
            conn.immediate_transaction(|conn| {
                // Under the lock: waiting for it does not make a contact look later than it was.
                let now = now();
                let rows = json_text(&noted.iter().map(|check| row(check, now.0)).collect::<Vec<_>>())?;
                let rows: Vec<AgentCheckRow> =
                    SqliteStatement::<CheckSql>::new(NOTE).bind::<Text, _>(rows).bind::<BigInt, _>(now.0).rows(conn)?;
                let stored: Vec<StoredCheck> = rows.into_iter().map(StoredCheck::from).collect();
                if !stored.is_empty() {
                    let log: Vec<_> =
                        stored.iter().map(|(key, check)| (&key.namespace, &key.id, check.revision)).collect();
                    let log = json_text(&log)?;
                    SqliteStatement::<()>::new(LOG).bind::<BigInt, _>(now.0).bind::<Text, _>(log).run(conn)?;
                }
                Ok(stored)
            })
        })
        .await
    }
}

fn row(check: &NotedCheck, now: i64) -> Value {
    json!({
        "namespace": check.key.namespace,
        "id": check.key.id,
        "agent_revision": check.agent_revision,
        "reachable": check.reachable,
        "detail": check.detail,
        "checked_at": now.saturating_sub(check.age_ms()),
        "checked_by": check.checked_by,
    })
}

/// Every contact.
pub(super) fn all(conn: &mut SqliteConnection) -> QueryResult<Vec<StoredCheck>> {
    const ALL: &str = concat!("SELECT ", check_columns!(), " FROM agent_checks");
    let rows: Vec<AgentCheckRow> = SqliteStatement::<CheckSql>::new(ALL).rows(conn)?;
    Ok(rows.into_iter().map(StoredCheck::from).collect())
}

/// The contacts with the agents of these keys, see [`super::rows::keys_json`].
pub(super) fn by_keys(conn: &mut SqliteConnection, keys: &str) -> QueryResult<Vec<StoredCheck>> {
    const BY_KEY: &str = concat!(
        "SELECT ",
        check_columns!(),
        " FROM agent_checks WHERE (namespace, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
    );
    let rows: Vec<AgentCheckRow> = SqliteStatement::<CheckSql>::new(BY_KEY).bind::<Text, _>(keys).rows(conn)?;
    Ok(rows.into_iter().map(StoredCheck::from).collect())
}

/// Deletes what is left of purged agents.
pub(super) fn prune_in_txn(conn: &mut SqliteConnection) -> QueryResult<()> {
    SqliteStatement::<()>::new(
        "DELETE FROM agent_checks WHERE NOT EXISTS (SELECT 1 FROM agents a \
         WHERE a.namespace = agent_checks.namespace AND a.id = agent_checks.id)",
    )
    .run(conn)
    .map(|_| ())
}
