//! A database per test, empty or cloned from a migrated template.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::{PostgresServer, STATEMENT_LIMIT, connect, describe, on_own_runtime};

/// How long making a template, or waiting for another process that makes it, may take.
const TEMPLATE_LIMIT: Duration = Duration::from_secs(120);
/// How long a clone may wait for its template to be free.
const CLONE_LIMIT: Duration = Duration::from_secs(30);

/// A database of one test; dropped, open connections included, with the value.
#[derive(Debug)]
pub struct TestDatabase {
    server: PostgresServer,
    name: String,
}

/// A migrated database to clone.
#[derive(Debug, Clone)]
pub struct Template {
    server: PostgresServer,
    name: String,
}

impl TestDatabase {
    /// Creates an empty database.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn create(server: impl AsRef<PostgresServer>) -> Self {
        Self::create_on(server.as_ref(), "template0").await
    }

    /// Creates a copy of a template.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn from_template(template: &Template) -> Self {
        Self::create_on(&template.server, &template.name).await
    }

    async fn create_on(server: &PostgresServer, template: &str) -> Self {
        let name = format!("a2a_test_{}", uuid::Uuid::new_v4().simple());
        let client = server.client("postgres").await;
        let statement = format!(r#"create database "{name}" template "{template}""#);
        let started = Instant::now();
        while let Err(error) = run(&client, &statement).await {
            // Another session may be on the template for a moment (autovacuum).
            let busy = error.contains("being accessed by other users");
            assert!(busy && started.elapsed() < CLONE_LIMIT, "{statement}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { server: server.clone(), name }
    }

    /// Returns the name of the database.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL of the database.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Returns the server it is on.
    #[must_use]
    pub fn server(&self) -> &PostgresServer {
        &self.server
    }

    /// Connects to it.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn client(&self) -> tokio_postgres::Client {
        self.server.client(&self.name).await
    }

    /// Runs one or more statements.
    ///
    /// # Panics
    /// When one fails.
    pub async fn execute(&self, statements: &str) {
        if let Err(error) = run(&self.client().await, statements).await {
            panic!("{statements}: {error}");
        }
    }

    /// Ends the connections to this database for which an SQL condition over `pg_stat_activity` holds, such as
    /// `query ilike 'listen%'`, and returns how many there were.
    ///
    /// # Panics
    /// When the condition is not valid SQL.
    pub async fn terminate_connections(&self, condition: &str) -> u64 {
        let client = self.server.client("postgres").await;
        let statement = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = $1 and pid <> pg_backend_pid() and ({condition})"
        );
        match tokio::time::timeout(STATEMENT_LIMIT, client.execute(&statement, &[&self.name])).await {
            Ok(Ok(count)) => count,
            Ok(Err(error)) => panic!("{statement}: {}", describe(&error)),
            Err(_) => panic!("{statement}: no answer within {STATEMENT_LIMIT:?}"),
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        /// A test that paused or killed its own cluster must not wait long here; the cluster goes as a whole.
        const LIMIT: Duration = Duration::from_secs(5);
        let statement = format!(r#"drop database if exists "{}" with (force)"#, self.name);
        let url = self.server.url("postgres");
        let dropped = on_own_runtime(async {
            let client = connect(&url, LIMIT).await?;
            match tokio::time::timeout(LIMIT, client.batch_execute(&statement)).await {
                Ok(done) => done.map_err(|error| describe(&error)),
                Err(_) => Err(format!("no answer within {LIMIT:?}")),
            }
        });
        if let Err(error) = dropped {
            eprintln!("the test database {} is left to its cluster: {error}", self.name);
        }
    }
}

/// Returns the template of this name, made by `migrate` if it is not there yet.
///
/// `migrate` gets the URL of an empty database. It runs once per server, however many test processes ask at once:
/// the others wait for it. The key must name the schema's version where a server is kept between runs. A template
/// that a killed process left half made is made anew.
///
/// # Panics
/// When `migrate` fails.
pub async fn template_database<M, E>(server: impl AsRef<PostgresServer>, name_key: &str, migrate: M) -> Template
where
    M: AsyncFnOnce(String) -> Result<(), E>,
    E: Display,
{
    let server = server.as_ref();
    let name = format!("a2a_template_{name_key}");
    assert!(
        name.len() < 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "the key of a template is made of a few letters, digits and underscores, not {name_key:?}"
    );
    let making = async {
        let client = server.client("postgres").await;
        // The lock belongs to the session, so it is free again when this process is killed.
        let locked = client.execute("select pg_advisory_lock(hashtextextended($1, 0))", &[&name]).await;
        assert!(locked.is_ok(), "{name}: {}", describe(&locked.unwrap_err()));
        // Only a finished template is marked as one, by the last statement below.
        let rows = client.query("select datistemplate from pg_database where datname = $1", &[&name]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{name}: {}", describe(&error)));
        if rows.first().is_some_and(|row| row.get(0)) {
            return;
        }
        run_or_panic(&client, &format!(r#"drop database if exists "{name}" with (force)"#)).await;
        run_or_panic(&client, &format!(r#"create database "{name}" template template0"#)).await;
        if let Err(error) = migrate(server.url(&name)).await {
            panic!("the template {name} cannot be migrated: {error}");
        }
        // A database with sessions cannot be cloned, so the migration's own are ended and new ones refused.
        run_or_panic(&client, &format!(r#"alter database "{name}" allow_connections false"#)).await;
        let ended =
            client.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", &[&name]).await;
        assert!(ended.is_ok(), "{name}: {}", describe(&ended.unwrap_err()));
        run_or_panic(&client, &format!(r#"alter database "{name}" is_template true"#)).await;
    };
    if tokio::time::timeout(TEMPLATE_LIMIT, making).await.is_err() {
        panic!("the template {name} is not ready after {TEMPLATE_LIMIT:?}");
    }
    Template { server: server.clone(), name }
}

async fn run(client: &tokio_postgres::Client, statements: &str) -> Result<(), String> {
    match tokio::time::timeout(STATEMENT_LIMIT, client.batch_execute(statements)).await {
        Ok(done) => done.map_err(|error| describe(&error)),
        Err(_) => Err(format!("no answer within {STATEMENT_LIMIT:?}")),
    }
}

async fn run_or_panic(client: &tokio_postgres::Client, statement: &str) {
    if let Err(error) = run(client, statement).await {
        panic!("{statement}: {error}");
    }
}
