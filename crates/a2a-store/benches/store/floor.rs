//! The least that a database has to do to hold the same rows: one upsert into `agents`, and nothing else. On Postgres
//! also the least that the promises of the store cost: a row of the change log, by which other processes see a write, and
//! one of the applied operations, by which a retry is not applied twice, in the same transaction.

use a2a_core::agent::{AgentSpec, content_hash};
use a2a_core::ids::{AgentId, OpId};
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::Text;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use serde_json::json;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// A row of `agents`, ready to be sent.
pub(crate) struct RawRow {
    spec: AgentSpec,
    content_hash: Vec<u8>,
    tags: String,
    capabilities: String,
}

impl RawRow {
    pub(crate) fn of(spec: AgentSpec) -> Self {
        Self {
            content_hash: content_hash(&spec.to_json().unwrap()).to_vec(),
            tags: serde_json::to_string(&spec.tags).unwrap(),
            capabilities: serde_json::to_string(&spec.capabilities).unwrap(),
            spec,
        }
    }

    /// The row of an agent like this one, with another id.
    pub(crate) fn of_other(spec: AgentSpec) -> Self {
        let id = AgentId::from_stored(format!("{}-other", spec.id));
        Self::of(AgentSpec { id, ..spec })
    }
}

const COLUMNS: &str = "namespace, id, revision, content_hash, name, version, description, instructions, category, \
    enabled, executor_kind, executor_settings, config, tags, capabilities, created_at, updated_at, deployed_at, updated_by";
const UPSERT: &str = "ON CONFLICT (namespace, id) DO UPDATE SET revision = agents.revision + 1, \
    content_hash = excluded.content_hash, name = excluded.name, version = excluded.version, \
    description = excluded.description, instructions = excluded.instructions, category = excluded.category, \
    enabled = excluded.enabled, executor_kind = excluded.executor_kind, \
    executor_settings = excluded.executor_settings, config = excluded.config, tags = excluded.tags, \
    capabilities = excluded.capabilities, updated_at = excluded.updated_at, deployed_at = excluded.deployed_at, \
    updated_by = excluded.updated_by";

/// Upserts over one connection, each statement a transaction of its own.
pub(crate) struct PostgresFloor {
    client: Client,
    one: Statement,
    many: Statement,
    logged: Statement,
}

impl PostgresFloor {
    pub(crate) async fn new(client: Client) -> Self {
        let one = client
            .prepare(&format!(
                "INSERT INTO agents ({COLUMNS}) VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::json, \
                 $12::text::json, $13::text::json, $14::text::json, now(), now(), now(), 'bench') {UPSERT}"
            ))
            .await
            .unwrap();
        let many = format!(
            "INSERT INTO agents ({COLUMNS}) SELECT namespace, id, 1, content_hash, name, version, description, \
                 instructions, category, enabled, executor_kind, executor_settings::json, config::json, tags::json, \
                 capabilities::json, now(), now(), now(), 'bench' \
                 FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], \
                 $8::text[], $9::bool[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[]) \
                 AS i(namespace, id, content_hash, name, version, description, instructions, category, enabled, \
                 executor_kind, executor_settings, config, tags, capabilities) {UPSERT}"
        );
        let logged = client
            .prepare(&format!(
                "WITH written AS ({many}), logged AS (INSERT INTO change_log (entity, namespace, id, revision, op) \
                 SELECT 'agent', namespace, id, 1, 'put' FROM UNNEST($1, $2) AS i(namespace, id)), \
                 noted AS (INSERT INTO applied_ops (op_id, entity, namespace, id, revision, op) \
                 SELECT op_id, 'agent', namespace, id, 1, 'put' \
                 FROM UNNEST($1, $2, $15::text[]::uuid[]) AS i(namespace, id, op_id)) SELECT 1"
            ))
            .await
            .unwrap();
        let many = client.prepare(&many).await.unwrap();
        Self { client, one, many, logged }
    }

    pub(crate) async fn upsert_one(&self, row: &RawRow) {
        let spec = &row.spec;
        let kind = spec.executor.kind.as_str();
        let binds: [&(dyn ToSql + Sync); 14] = [
            &spec.namespace.as_str(),
            &spec.id.as_str(),
            &row.content_hash,
            &&*spec.name,
            &&*spec.version,
            &&*spec.description,
            &&*spec.instructions,
            &&*spec.category,
            &spec.enabled,
            &kind,
            &spec.executor.settings.as_str(),
            &spec.config.as_str(),
            &row.tags,
            &row.capabilities,
        ];
        assert_eq!(self.client.execute(&self.one, &binds).await.unwrap(), 1);
    }

    /// With their change log and applied operations when they are `logged`.
    pub(crate) async fn upsert_many(&self, rows: &[RawRow], logged: bool) {
        fn column<'r, T: 'r>(rows: &'r [RawRow], pick: impl Fn(&'r RawRow) -> T) -> Vec<T> {
            rows.iter().map(pick).collect()
        }
        let op_ids: Vec<String> = rows.iter().map(|_| OpId::new().to_string()).collect();
        let binds: [&(dyn ToSql + Sync); 15] = [
            &column(rows, |row| row.spec.namespace.as_str()),
            &column(rows, |row| row.spec.id.as_str()),
            &column(rows, |row| row.content_hash.as_slice()),
            &column(rows, |row| &*row.spec.name),
            &column(rows, |row| &*row.spec.version),
            &column(rows, |row| &*row.spec.description),
            &column(rows, |row| &*row.spec.instructions),
            &column(rows, |row| &*row.spec.category),
            &column(rows, |row| row.spec.enabled),
            &column(rows, |row| row.spec.executor.kind.as_str()),
            &column(rows, |row| row.spec.executor.settings.as_str()),
            &column(rows, |row| row.spec.config.as_str()),
            &column(rows, |row| row.tags.as_str()),
            &column(rows, |row| row.capabilities.as_str()),
            &op_ids,
        ];
        if logged {
            assert_eq!(self.client.execute(&self.logged, &binds).await.unwrap(), 1);
        } else {
            assert_eq!(self.client.execute(&self.many, &binds[..14]).await.unwrap(), rows.len() as u64);
        }
    }
}

/// Opens a SQLite file with the pragmas of the store.
pub(crate) fn sqlite_connection(url: &str) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(url.strip_prefix("sqlite:").unwrap()).unwrap();
    conn.batch_execute(
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA journal_size_limit = 67108864;",
    )
    .unwrap();
    conn
}

/// Upserts rows as one statement and transaction. Making the JSON is part of this way of writing.
pub(crate) fn sqlite_upsert(conn: &mut SqliteConnection, rows: &[RawRow]) {
    let rows = rows.iter().map(|RawRow { spec, content_hash, tags, capabilities }| {
        let hash: String = content_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "namespace": spec.namespace, "id": spec.id, "content_hash": hash, "name": spec.name,
            "version": spec.version, "description": spec.description, "instructions": spec.instructions,
            "category": spec.category, "enabled": spec.enabled, "executor_kind": spec.executor.kind.as_str(),
            "executor_settings": spec.executor.settings.as_str(), "config": spec.config.as_str(), "tags": tags,
            "capabilities": capabilities,
        })
    });
    let input = serde_json::Value::from_iter(rows).to_string();
    let sql = format!(
        "INSERT INTO agents ({COLUMNS}) SELECT value ->> 'namespace', value ->> 'id', 1, \
         unhex(value ->> 'content_hash'), value ->> 'name', value ->> 'version', value ->> 'description', \
         value ->> 'instructions', value ->> 'category', value ->> 'enabled', value ->> 'executor_kind', \
         value ->> 'executor_settings', value ->> 'config', value ->> 'tags', value ->> 'capabilities', 1, 1, 1, 'bench' \
         FROM json_each(?) WHERE true {UPSERT}"
    );
    diesel::sql_query(sql).bind::<Text, _>(input).execute(conn).unwrap();
}
