//! Contacts with agents.

use a2a_core::ids::AgentKey;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;

use super::{PgStatement, Postgres};
use crate::agent_check::{AgentCheckRow, NotedCheck, StoredCheck, check_columns};
use crate::error::StoreError;

type CheckSql = (Text, Text, Bool, Nullable<Text>, Timestamptz, Text, BigInt);

/// One statement, and with it one transaction. Rows are locked in the order of their keys, so that processes that note
/// the same ones don't wait for each other in a circle. A later contact is kept against an earlier one that comes late,
/// unless the clock of the database has gone back since.
const NOTE: &str = concat!(
    "WITH noted AS (\
     INSERT INTO agent_checks AS c (namespace, id, reachable, detail, checked_at, checked_by, revision) \
     SELECT a.namespace, a.id, n.reachable, n.detail, clock_timestamp() - n.age_ms * interval '1 ms', n.checked_by, 1 \
     FROM UNNEST(?, ?, ?, ?, ?, ?, ?) AS n(namespace, id, agent_revision, reachable, detail, age_ms, checked_by) \
     JOIN agents a ON a.namespace = n.namespace AND a.id = n.id AND a.revision = n.agent_revision \
     AND a.removed_at IS NULL ORDER BY a.namespace, a.id \
     ON CONFLICT (namespace, id) DO UPDATE SET reachable = excluded.reachable, detail = excluded.detail, \
     checked_at = excluded.checked_at, checked_by = excluded.checked_by, revision = c.revision + 1 \
     WHERE c.checked_at <= excluded.checked_at OR c.checked_at > clock_timestamp() \
     RETURNING ",
    check_columns!(),
    "), logged AS (\
     INSERT INTO change_log (entity, namespace, id, revision, op) \
     SELECT 'agent_check', namespace, id, revision, 'put' FROM noted) \
     SELECT ",
    check_columns!(),
    " FROM noted"
);

impl Postgres {
    pub(crate) async fn agent_checks_note(&self, noted: &[NotedCheck]) -> Result<Vec<StoredCheck>, StoreError> {
        let namespaces: Vec<&str> = noted.iter().map(|check| check.key.namespace.as_str()).collect();
        let ids: Vec<&str> = noted.iter().map(|check| check.key.id.as_str()).collect();
        let revisions: Vec<i64> = noted.iter().map(|check| check.agent_revision).collect();
        let reachable: Vec<bool> = noted.iter().map(|check| check.reachable).collect();
        let details: Vec<Option<&str>> = noted.iter().map(|check| check.detail.as_deref()).collect();
        let actors: Vec<&str> = noted.iter().map(|check| check.checked_by.as_str()).collect();
        self.read(async |conn| {
            // Last of all, so that waiting for a connection does not make a contact look later than it was.
            let ages: Vec<i64> = noted.iter().map(NotedCheck::age_ms).collect();
            let rows: Vec<AgentCheckRow> = PgStatement::<CheckSql>::new(NOTE)
                .bind::<Array<Text>, _>(namespaces)
                .bind::<Array<Text>, _>(ids)
                .bind::<Array<BigInt>, _>(revisions)
                .bind::<Array<Bool>, _>(reachable)
                .bind::<Array<Nullable<Text>>, _>(details)
                .bind::<Array<BigInt>, _>(ages)
                .bind::<Array<Text>, _>(actors)
                .rows(conn)
                .await?;
            Ok(rows.into_iter().map(StoredCheck::from).collect())
        })
        .await
    }
}

/// Every contact.
pub(super) async fn all(conn: &mut AsyncPgConnection) -> QueryResult<Vec<StoredCheck>> {
    const ALL: &str = concat!("SELECT ", check_columns!(), " FROM agent_checks");
    let rows: Vec<AgentCheckRow> = PgStatement::<CheckSql>::new(ALL).rows(conn).await?;
    Ok(rows.into_iter().map(StoredCheck::from).collect())
}

/// The contacts with these agents.
pub(super) async fn by_keys(conn: &mut AsyncPgConnection, keys: &[AgentKey]) -> QueryResult<Vec<StoredCheck>> {
    const BY_KEY: &str = concat!(
        "SELECT ",
        check_columns!(),
        " FROM agent_checks WHERE (namespace, id) IN (SELECT * FROM UNNEST(?, ?))"
    );
    let rows: Vec<AgentCheckRow> = PgStatement::<CheckSql>::new(BY_KEY)
        .bind::<Array<Text>, _>(keys.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>())
        .rows(conn)
        .await?;
    Ok(rows.into_iter().map(StoredCheck::from).collect())
}

/// Deletes what is left of purged agents.
pub(super) async fn prune(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    PgStatement::<()>::new(
        "DELETE FROM agent_checks c WHERE NOT EXISTS \
         (SELECT 1 FROM agents a WHERE a.namespace = c.namespace AND a.id = c.id)",
    )
    .run(conn)
    .await
    .map(|_| ())
}
