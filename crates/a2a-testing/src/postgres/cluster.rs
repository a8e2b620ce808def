//! A cluster of its own: started, killed, paused and restarted at will, and removed without a trace.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::guardian::Guardian;
use super::{PostgresBinaries, PostgresServer, connect, on_own_runtime, processes};

/// How long `initdb` and a start, recovery included, may take on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an immediate shutdown may take; Postgres itself kills its children after 5 s.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often another port is tried when somebody took the chosen one in between.
const PORT_TRIES: u32 = 5;

/// A throwaway Postgres cluster in a temporary folder, listening on 127.0.0.1.
///
/// Its settings are Postgres's own defaults, `fsync` on included, but for 200 connections, 64 MB of shared buffers
/// and what [`Cluster::start_with`] is given. Dropping it, or the death of the process, ends every Postgres process
/// and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: PostgresServer,
    port: u16,
    folder: PathBuf,
    /// Canonical, because the working directories of the processes are compared with it.
    data: PathBuf,
    binaries: PostgresBinaries,
    user: Option<OsUser>,
    settings: Vec<(String, String)>,
    /// Blocking work under this lock runs on blocking threads only, so an ordinary mutex is right.
    postmaster: Mutex<Option<Child>>,
    /// `None` only while `Drop` runs.
    guardian: Option<Guardian>,
}

/// The operating system user that the server runs as when we are root, which Postgres refuses.
#[derive(Debug, Clone, Copy)]
struct OsUser {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// Starts a cluster.
    ///
    /// # Panics
    /// When there are no Postgres programs or the server does not start; the message holds its log.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a cluster with server settings, such as `("max_connections", "20")`.
    ///
    /// # Panics
    /// Like [`Cluster::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        match blocking(move || Self::try_start_owned(settings, None)).await {
            Ok(cluster) => cluster,
            Err(text) => panic!("{text}"),
        }
    }

    /// Starts a streaming standby of this cluster: its own copy, which follows and takes reads.
    ///
    /// # Panics
    /// When the copy can't be made or the standby does not start.
    pub async fn standby(&self) -> Self {
        let (settings, primary) = (self.inner.settings.clone(), self.inner.port);
        match blocking(move || Self::try_start_owned(settings, Some(primary))).await {
            Ok(cluster) => cluster,
            Err(text) => panic!("{text}"),
        }
    }

    /// Makes a standby a primary, and returns when it takes writes.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn promote(&self) {
        let client = self.inner.server.client("postgres").await;
        let promoted = client.query_one("SELECT pg_promote(true, 60)", &[]).await;
        assert!(promoted.as_ref().is_ok_and(|row| row.get(0)), "{promoted:?}");
    }

    /// Runs a program that lives as long as the cluster: as its user, in its data folder, its output in the log.
    ///
    /// # Panics
    /// When it can't be started.
    pub(super) fn run_beside(&self, program: &Path, args: &[&str]) -> Child {
        let log =
            File::options().create(true).append(true).open(self.inner.log_path()).expect("the log can be written");
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.inner.data).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        if let Some(OsUser { uid, gid }) = self.inner.user {
            command.uid(uid).gid(gid);
        }
        command.process_group(0);
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    }

    /// Starts a cluster without a runtime, blocking the thread.
    ///
    /// # Errors
    /// A text for people that holds the server's log.
    pub fn try_start_blocking(settings: &[(&str, &str)]) -> Result<Self, String> {
        Self::try_start_owned(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(), None)
    }

    /// `primary` is the port of the cluster that this one is to be a standby of.
    fn try_start_owned(settings: Vec<(String, String)>, primary: Option<u16>) -> Result<Self, String> {
        let binaries = PostgresBinaries::find()?;
        let user = os_user()?;
        let folder = tempfile::Builder::new()
            .prefix("a2a-postgres-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?
            .keep();
        let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        let data = folder.join("data");
        let guardian = Guardian::spawn(&folder, &data)?;
        if let Some(OsUser { uid, gid }) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid))
                .map_err(|error| format!("cannot give {} to the Postgres user: {error}", folder.display()))?;
        }
        let mut inner = Inner {
            server: server_at(0),
            port: 0,
            folder,
            data,
            binaries,
            user,
            settings,
            postmaster: Mutex::new(None),
            guardian: Some(guardian),
        };
        match primary {
            None => inner.initdb()?,
            Some(port) => inner.base_backup(port)?,
        }
        let mut tries = 0;
        loop {
            inner.port = free_port()?;
            inner.server = server_at(inner.port);
            tries += 1;
            match inner.start_again() {
                Ok(()) => break,
                Err(text) if tries < PORT_TRIES && text.contains("could not bind") => {}
                Err(text) => return Err(text),
            }
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the server, to create databases on.
    #[must_use]
    pub fn server(&self) -> &PostgresServer {
        &self.inner.server
    }

    /// Returns the URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.inner.server.url(database)
    }

    /// Returns the TCP port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// Returns the process id of the postmaster, if it runs.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.inner.postmaster().as_ref().map(Child::id)
    }

    /// Returns the folder of the cluster: its data, socket and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Returns the end of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.inner.log_tail()
    }

    /// Kills the postmaster and all its children with SIGKILL and returns when they are gone. The data stays.
    pub async fn kill(&self) {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.kill()).await;
    }

    /// Shuts down at once, without a checkpoint and without waiting for clients (SIGQUIT). The data stays.
    pub async fn stop_immediate(&self) {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.stop_immediate()).await;
    }

    /// Starts the server again on the same port and data, and returns when it accepts connections.
    ///
    /// # Panics
    /// When it runs, or does not start; the message holds its log.
    pub async fn start_again(&self) {
        let inner = Arc::clone(&self.inner);
        let started = blocking(move || inner.start_again()).await;
        assert!(started.is_ok(), "{}", started.unwrap_err());
    }

    /// Stops the server at once and starts it again on the same port and data.
    pub async fn restart(&self) {
        self.stop_immediate().await;
        self.start_again().await;
    }

    /// Stops every process of the server with SIGSTOP: connections stay open and nothing answers.
    pub async fn pause(&self) {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.while_running(|pid| processes::pause_all(&inner.data, pid))).await;
    }

    /// Lets a paused server go on.
    pub async fn resume(&self) {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.while_running(|pid| processes::resume_all(&inner.data, pid))).await;
    }
}

impl AsRef<PostgresServer> for Cluster {
    fn as_ref(&self) -> &PostgresServer {
        &self.inner.server
    }
}

impl Inner {
    fn postmaster(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        // A panic under the lock leaves the child where it is, so the value is still right.
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            // PGDATA, PGPORT and their like would lead the programs to somebody's real cluster.
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        if let Some(OsUser { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        // In a group of its own it is not reached by Ctrl-C; the guardian ends it in order.
        command.process_group(0);
        command
    }

    fn initdb(&self) -> Result<(), String> {
        self.fill("initdb", &["--auth=trust", "--username=postgres", "--no-sync", "--locale=C", "--encoding=UTF8"])
    }

    /// Copies a running cluster, and leaves what makes the copy follow it.
    fn base_backup(&self, port: u16) -> Result<(), String> {
        let port = port.to_string();
        let from = ["--host=127.0.0.1", "--port", port.as_str(), "--username=postgres"];
        let how = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"];
        self.fill("pg_basebackup", &[&from[..], &how].concat())
    }

    /// Runs the program that makes the data folder.
    fn fill(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let output = self
            .command(program)
            .args(args)
            .arg("--pgdata")
            .arg(&self.data)
            .output()
            .map_err(|error| format!("cannot run {program} of {}: {error}", self.binaries.folder().display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "{program} failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    fn start_again(&self) -> Result<(), String> {
        let mut postmaster = self.postmaster();
        if postmaster.is_some() {
            return Err("the cluster runs already".into());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(|error| format!("cannot write the log of Postgres: {error}"))?;
        let log_copy = log.try_clone().map_err(|error| format!("cannot write the log of Postgres: {error}"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data).stdout(log).stderr(log_copy);
        let port = self.port.to_string();
        let socket_folder = self.folder.to_string_lossy();
        let fixed = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", &socket_folder),
            ("max_connections", "200"),
            ("shared_buffers", "64MB"),
        ];
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // Of two equal names Postgres takes the last, so a test may change the fixed ones too.
        for (name, value) in fixed.into_iter().chain(own) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command.spawn().map_err(|error| format!("cannot start postgres: {error}"))?;
        let child = postmaster.insert(child);
        let ready = self.wait_until_ready(child);
        if ready.is_err() {
            self.kill_locked(&mut postmaster);
        }
        ready
    }

    fn wait_until_ready(&self, child: &mut Child) -> Result<(), String> {
        let started = Instant::now();
        let url = self.server.url("postgres");
        loop {
            let exited = child.try_wait().map_err(|error| format!("cannot watch postgres: {error}"))?;
            if let Some(status) = exited {
                return Err(format!("postgres did not start ({status}):\n{}", self.log_tail()));
            }
            let answer = on_own_runtime(async {
                let client = connect(&url, Duration::from_secs(5)).await?;
                client.simple_query("select 1").await.map_err(|error| super::describe(&error))
            });
            match answer {
                Ok(_) => return Ok(()),
                Err(_) if started.elapsed() < START_LIMIT => std::thread::sleep(Duration::from_millis(10)),
                Err(text) => {
                    return Err(format!("postgres is not ready after {START_LIMIT:?} ({text}):\n{}", self.log_tail()));
                }
            }
        }
    }

    fn kill(&self) {
        self.kill_locked(&mut self.postmaster());
    }

    fn kill_locked(&self, postmaster: &mut Option<Child>) {
        let Some(mut child) = postmaster.take() else { return };
        // A paused process dies of SIGKILL too.
        processes::kill_all(&self.data, child.id());
        let reaped = child.wait();
        assert!(reaped.is_ok(), "the postmaster cannot be reaped: {reaped:?}");
        self.remove_leftovers();
    }

    fn stop_immediate(&self) {
        let mut postmaster = self.postmaster();
        let Some(child) = postmaster.as_mut() else { return };
        processes::signal(child.id(), Signal::QUIT);
        processes::resume_all(&self.data, child.id());
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            if let Ok(Some(_)) = child.try_wait() {
                *postmaster = None;
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill_locked(&mut postmaster);
    }

    /// Removes what a killed postmaster leaves: its pid file, whose number may belong to somebody else by the next
    /// start, and its System V segment, of which a machine has few.
    fn remove_leftovers(&self) {
        let pid_file = self.data.join("postmaster.pid");
        let Ok(text) = std::fs::read_to_string(&pid_file) else { return };
        if let Some(segment) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            // Postgres copes with a segment that stays, and `ipcrm` may be missing.
            let _removed = Command::new("ipcrm").args(["-m", segment]).stderr(Stdio::null()).status();
        }
        let removed = std::fs::remove_file(&pid_file);
        assert!(removed.is_ok(), "{}: {removed:?}", pid_file.display());
    }

    fn while_running(&self, action: impl FnOnce(u32)) {
        let postmaster = self.postmaster();
        let pid = postmaster.as_ref().map(Child::id).expect("the cluster runs");
        action(pid);
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        let from = bytes.len().saturating_sub(4096);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The guardian stops the server and removes the folder; then the postmaster is a zombie of ours.
        drop(self.guardian.take());
        if let Some(mut child) = self.postmaster().take()
            && let Err(error) = child.wait()
        {
            eprintln!("the postmaster cannot be reaped: {error}");
        }
    }
}

/// Runs blocking work away from the runtime's own threads, so that the drivers of a test go on reading.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}

fn server_at(port: u16) -> PostgresServer {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    PostgresServer::from_url(&url).expect("the text above is a URL")
}

/// A free port below the range from which the system takes the ports of outgoing connections. Inside that range a
/// client that keeps trying a stopped server may be given the server's port and be connected to itself.
pub(super) fn free_port() -> Result<u16, String> {
    for _ in 0..200 {
        let port = rand::random_range(15_000_u16..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("there is no free port between 15000 and 32000".into())
}

fn os_user() -> Result<Option<OsUser>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    // `nobody` is there on machines where the programs came without their user.
    for name in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (id("-u", name), id("-g", name)) {
            return Ok(Some(OsUser { uid, gid }));
        }
    }
    Err("Postgres does not run as root, and there is neither a user `postgres` nor a user `nobody`".into())
}

fn id(flag: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
