//! PgBouncer in transaction mode before a cluster.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use super::cluster::free_port;
use super::{Cluster, PostgresServer, connect};
use crate::wait::wait_until;

/// How long the pooler may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A pooler that gives each transaction another server session: it lives no longer than its cluster.
#[derive(Debug)]
pub struct Pooler {
    server: PostgresServer,
    process: Child,
}

impl Pooler {
    /// Starts a pooler with few server sessions, so that its clients have to share them. `None`, with a line on stderr,
    /// where PgBouncer is not installed, unless `CI` is set.
    ///
    /// # Panics
    /// When it does not start, or is not installed and `CI` is set.
    pub async fn start(cluster: &Cluster, sessions: usize) -> Option<Self> {
        let Some(program) = program() else {
            assert!(std::env::var_os("CI").is_none(), "PgBouncer is missing (Debian: apt-get install pgbouncer)");
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("this test");
            eprintln!("skipped: {name} needs PgBouncer (Debian: apt-get install pgbouncer)");
            return None;
        };
        let port = free_port().unwrap_or_else(|text| panic!("{text}"));
        let (folder, server_port) = (cluster.folder().display(), cluster.port());
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/pgbouncer.users\npool_mode = transaction\n\
             default_pool_size = {sessions}\nmax_client_conn = 200\nserver_round_robin = 1\n\
             ignore_startup_parameters = extra_float_digits\nlogfile = {folder}/pgbouncer.log\n"
        );
        let path = cluster.folder().join("pgbouncer.ini");
        for (path, text) in [(&path, settings.as_str()), (&path.with_extension("users"), "\"postgres\" \"\"\n")] {
            std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let process = cluster.run_beside(&program, &[&path.to_string_lossy()]);
        let server = PostgresServer::from_url(&format!("postgres://postgres@127.0.0.1:{port}/?sslmode=disable"))
            .expect("the text above is a URL");
        let url = server.url("postgres");
        let answers = async || connect(&url, START_LIMIT).await.is_ok();
        wait_until(START_LIMIT, "the pooler answers", answers).await;
        Some(Self { server, process })
    }

    /// The URL of a database through the pooler, as users write it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("{}&pgbouncer=true", self.server.url(database))
    }

    /// The first row that a query gives, as texts, through a client of its own. A pooler of this age takes no prepared
    /// statement, so that it is sent as text.
    ///
    /// # Panics
    /// When it gives none.
    pub async fn first_row(&self, database: &str, sql: &str) -> Vec<String> {
        let found = self.server.client(database).await.simple_query(sql).await;
        let found = found.unwrap_or_else(|error| panic!("{sql}: {}", super::describe(&error)));
        let row = found.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.unwrap_or_else(|| panic!("{sql}: no row"));
        (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// Debian puts it where only root looks.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|path| Path::is_file(path))
}
