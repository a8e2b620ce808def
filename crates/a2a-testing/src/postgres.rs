//! A throwaway Postgres: a cluster in a temporary folder, a database per test, migrated templates.
//!
//! `cargo xtask test` starts one cluster for the whole run and names it in `A2A_TEST_POSTGRES_URL`; a test that is run
//! on its own starts a cluster for its process. Tests that kill or pause Postgres start their own [`Cluster`], so that
//! they disturb nobody.
//!
//! ```no_run
//! # async fn example() {
//! use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
//!
//! let Some(server) = postgres_or_skip().await else { return };
//! let database = TestDatabase::create(&server).await;
//! database.execute("create table notes (text text not null)").await;
//! # }
//! ```

mod binaries;
mod cluster;
mod database;
mod guardian;
mod pooler;
mod processes;

use std::time::Duration;

use tokio::sync::OnceCell;

pub use self::binaries::PostgresBinaries;
pub use self::cluster::Cluster;
pub use self::database::{Template, TestDatabase, template_database};
pub use self::pooler::Pooler;

/// How long one administrative statement or connection attempt may take before the test fails.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// A Postgres server that tests may create databases on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresServer {
    /// Everything before the database name, such as `postgres://postgres@127.0.0.1:20123`.
    base: String,
    /// Everything after the database name, such as `?sslmode=disable`.
    query: String,
}

impl PostgresServer {
    /// Takes a server from the URL of any of its databases.
    ///
    /// # Errors
    /// When the text is not a URL that begins with `postgres://` or `postgresql://`.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("a Postgres URL begins with postgres:// or postgresql://")?;
        let (before_query, query) = match rest.split_once('?') {
            Some((before, query)) => (before, format!("?{query}")),
            None => (rest, String::new()),
        };
        let authority = before_query.split_once('/').map_or(before_query, |(authority, _)| authority);
        Ok(Self { base: format!("postgres://{authority}"), query })
    }

    /// Returns the URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.base, self.query)
    }

    /// Connects to one of its databases; the connection lives as long as the client.
    ///
    /// # Panics
    /// When the connection fails or takes longer than the limit.
    pub async fn client(&self, database: &str) -> tokio_postgres::Client {
        let url = self.url(database);
        match connect(&url, STATEMENT_LIMIT).await {
            Ok(client) => client,
            Err(error) => panic!("cannot connect to {url}: {error}"),
        }
    }
}

impl AsRef<Self> for PostgresServer {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Returns the server for tests that only need databases: the one named in `A2A_TEST_POSTGRES_URL`, or one cluster
/// per test process. `None`, with a line on stderr, when `A2A_TEST_NO_POSTGRES=1`.
///
/// # Panics
/// When there are no Postgres programs; the message says what to install.
pub async fn postgres_or_skip() -> Option<PostgresServer> {
    if skipped() {
        return None;
    }
    Some(shared_cluster().await)
}

/// Says on stderr that a test is skipped and returns true when `A2A_TEST_NO_POSTGRES=1`; for tests with their own
/// cluster.
#[must_use]
pub fn skipped() -> bool {
    let skip = std::env::var_os("A2A_TEST_NO_POSTGRES").is_some_and(|value| value == "1");
    if skip {
        let thread = std::thread::current();
        eprintln!("skipped: {} needs Postgres and A2A_TEST_NO_POSTGRES=1 is set", thread.name().unwrap_or("this test"));
    }
    skip
}

/// Returns the Postgres programs of this machine.
///
/// # Panics
/// When there are none; the message says what to install.
#[must_use]
pub fn require() -> PostgresBinaries {
    match PostgresBinaries::find() {
        Ok(binaries) => binaries,
        Err(text) => panic!("{text}"),
    }
}

/// Returns the shared server: the one named in `A2A_TEST_POSTGRES_URL`, or one cluster per test process.
///
/// # Panics
/// When the variable holds no URL, or when there are no Postgres programs.
pub async fn shared_cluster() -> PostgresServer {
    /// A static is never dropped: the guardian of the cluster removes it when the process ends.
    static OWN: OnceCell<Cluster> = OnceCell::const_new();
    match std::env::var("A2A_TEST_POSTGRES_URL") {
        Ok(url) if !url.is_empty() => match PostgresServer::from_url(&url) {
            Ok(server) => server,
            Err(text) => panic!("A2A_TEST_POSTGRES_URL: {text}"),
        },
        _ => OWN.get_or_init(Cluster::start).await.server().clone(),
    }
}

/// Connects within a limit and drives the connection on a task of the current runtime.
async fn connect(url: &str, limit: Duration) -> Result<tokio_postgres::Client, String> {
    let connecting = tokio_postgres::connect(url, tokio_postgres::NoTls);
    let (client, connection) = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| format!("no answer within {limit:?}"))?
        .map_err(|error| describe(&error))?;
    tokio::spawn(async move {
        // The connection's error reaches the test through the client, whose calls fail.
        let _ended = connection.await;
    });
    Ok(client)
}

/// An error with its causes: tokio-postgres's own text is only "db error" or "error connecting to server".
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Runs a future to its end on a thread and runtime of its own: for `Drop`, and for callers without a runtime.
fn on_own_runtime<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made")
                    .block_on(future)
            })
            .join()
            .expect("the future does not panic")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced_and_the_rest_kept() {
        let server = PostgresServer::from_url("postgresql://u:p@h:5433/old?sslmode=disable").unwrap();
        assert_eq!(server.url("new"), "postgres://u:p@h:5433/new?sslmode=disable");
        let bare = PostgresServer::from_url("postgres://h").unwrap();
        assert_eq!(bare.url("new"), "postgres://h/new");
        assert!(PostgresServer::from_url("mysql://h/x").is_err());
    }
}
