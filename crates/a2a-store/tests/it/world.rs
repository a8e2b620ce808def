//! One database for one test, on either backend.

use std::path::PathBuf;
use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::change::{Change, Outcome};
use a2a_core::ids::AgentKey;
use a2a_store::Unit;
use a2a_store::database_url::DatabaseUrl;
use a2a_store::store::{Location, Store};
use a2a_testing::postgres::{PostgresServer, TestDatabase, postgres_or_skip, template_database};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};

/// Writes one test for each backend and each case, all of them `async fn(World)`.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(world) = crate::world::World::postgres().await {
                        super::$case(world).await;
                    }
                }
            )*
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::world::World::sqlite().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// A migrated, empty database.
pub(crate) enum World {
    Postgres(TestDatabase),
    Sqlite { _folder: tempfile::TempDir, path: PathBuf },
}

pub(crate) fn postgres_location(url: &str) -> Location {
    DatabaseUrl::parse(url).unwrap().into()
}

impl World {
    /// A database on the shared server.
    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::on_server(&postgres_or_skip().await?).await)
    }

    /// A database on a server of the test's own.
    pub(crate) async fn on_server(server: &PostgresServer) -> Self {
        let template =
            template_database(server, "store_tests", async |url| Store::open(&postgres_location(&url)).await.map(drop))
                .await;
        Self::Postgres(TestDatabase::from_template(&template).await)
    }

    pub(crate) async fn sqlite() -> Self {
        let world = Self::sqlite_empty();
        drop(Store::open(&world.location()).await.unwrap());
        world
    }

    /// Without tables, without even a file.
    pub(crate) fn sqlite_empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a2a.db");
        Self::Sqlite { _folder: folder, path }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Postgres(database) => postgres_location(&database.url()),
            Self::Sqlite { path, .. } => Location::SqliteFile(path.clone()),
        }
    }

    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.location()).await.unwrap()
    }

    /// The database of a test that is for Postgres only.
    pub(crate) fn database(&self) -> &TestDatabase {
        match self {
            Self::Postgres(database) => database,
            Self::Sqlite { .. } => panic!("this is SQLite"),
        }
    }

    fn sqlite_connection(path: &std::path::Path) -> SqliteConnection {
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        conn.batch_execute("PRAGMA busy_timeout = 20000").unwrap();
        conn
    }

    /// Runs statements behind the back of the store, as one transaction.
    pub(crate) async fn execute(&self, statements: &str) {
        match self {
            Self::Postgres(database) => database.execute(statements).await,
            Self::Sqlite { path, .. } => {
                let mut conn = Self::sqlite_connection(path);
                conn.batch_execute(&format!("BEGIN IMMEDIATE; {statements}; COMMIT")).unwrap();
            }
        }
    }

    /// The first column of each row that a query returns, as text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        match self {
            Self::Postgres(database) => {
                let query = format!("SELECT q.value::text FROM ({query}) q(value)");
                let rows = database.client().await.query(&query, &[]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Self::Sqlite { path, .. } => {
                #[derive(QueryableByName)]
                struct Row {
                    #[diesel(sql_type = diesel::sql_types::Text)]
                    value: String,
                }
                let query = format!("WITH q(value) AS ({query}) SELECT CAST(value AS TEXT) AS value FROM q");
                let rows: Vec<Row> = diesel::sql_query(query).load(&mut Self::sqlite_connection(path)).unwrap();
                rows.into_iter().map(|row| row.value).collect()
            }
        }
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        self.texts(query).await[0].parse().unwrap()
    }

    /// Ends the sessions that listen for wake-ups and returns how many there were.
    pub(crate) async fn kill_listeners(&self) -> u64 {
        self.database().terminate_connections(LISTENING).await
    }
}

/// Which sessions of `pg_stat_activity` belong to a feed: what such a session ran last is one of these.
const LISTENING: &str = "query ilike '%pg_current_snapshot()%' or query ilike '%LISTEN a2a%' or query ilike 'NOTIFY%' \
     or query ilike 'SELECT pg_backend_pid()%'";

/// Commits units without any idea of what the database holds.
pub(crate) async fn commit_units(store: &Store, units: Vec<Unit>) -> Vec<Vec<Outcome>> {
    store.commit(units.into(), false, &|_| None).await.unwrap()
}

/// Commits changes in one transaction, each for itself.
pub(crate) async fn commit_all(store: &Store, changes: Vec<Change>) -> Vec<Outcome> {
    let units = changes.into_iter().map(Unit::one).collect();
    commit_units(store, units).await.into_iter().map(|mut unit| unit.remove(0)).collect()
}

pub(crate) async fn commit_one(store: &Store, change: Change) -> Outcome {
    commit_all(store, vec![change]).await.remove(0)
}

/// The newest revision of an agent, a removal too.
pub(crate) async fn newest(store: &Store, key: &AgentKey) -> Option<(Arc<Agent>, bool)> {
    let version = store.agent_history(key, None, 1).await.unwrap().pop()?;
    Some((version.agent, version.removed_at.is_some()))
}
