//! One server process and the client's side of its wire.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::incoming::{Incoming, PendingReply};
use super::{Era, LEGACY_VERSION, REQUEST_LIMIT, RpcError, ServerOptions, Stderr, ToolReply, Wire};

/// How much of the end of stderr is kept.
const STDERR_KEPT: usize = 16 << 20;
/// How much of it is shown when something is wrong.
const STDERR_SHOWN: usize = 256 << 10;
/// How long after the end of the server its stderr is read on. It ends with the server, unless a child has it too.
const STDERR_LIMIT: Duration = Duration::from_secs(1);
/// How long `finish` waits for the server to end after the end of its input; the server promises 1.5 s under load.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// A running server and its only client.
#[derive(Debug)]
pub struct ServerProcess {
    pid: u32,
    wire: Arc<Outgoing>,
    incoming: Arc<Incoming>,
    era: Mutex<Era>,
    next_id: AtomicI64,
    request_limit: Duration,
    reading: watch::Sender<bool>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Becomes true when the reader has seen the end of stdout.
    read_to_end: watch::Receiver<bool>,
    /// After SIGKILL a last line may be cut in two without anybody's fault.
    killed: AtomicBool,
    /// After any signal to end, the exit status is the caller's to judge.
    told_to_end: AtomicBool,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Becomes true at the end of stderr.
    stderr_ended: watch::Receiver<bool>,
    /// Removed with the value.
    home: PathBuf,
    _own_home: Option<tempfile::TempDir>,
}

/// The way to the server's stdin.
struct Outgoing {
    stdin: AsyncMutex<Stdin>,
}

struct Stdin {
    stream: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What is still to be written. A caller that gives up halfway leaves the rest of its line here, and the next
    /// one goes on with it, so a line is never cut in two.
    rest: Vec<u8>,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

impl Outgoing {
    async fn write(&self, bytes: &[u8]) -> Result<(), RpcError> {
        let mut stdin = self.stdin.lock().await;
        let Stdin { stream, rest } = &mut *stdin;
        let Some(stream) = stream else { return Err(RpcError::Closed) };
        rest.extend_from_slice(bytes);
        let mut written = 0;
        while written < rest.len() {
            let pending = Unwritten { rest, written };
            let count = match stream.write(&pending.rest[pending.written..]).await {
                Ok(count) if count > 0 => count,
                // The reader sees the end of stdout, and the exit status tells the rest.
                Ok(_) | Err(_) => return Err(RpcError::Closed),
            };
            written = pending.advance(count);
        }
        rest.clear();
        stream.flush().await.map_err(|_| RpcError::Closed)
    }
}

/// Takes the written part out of the rest when its caller is cancelled in the middle of a write.
struct Unwritten<'a> {
    rest: &'a mut Vec<u8>,
    written: usize,
}

impl Unwritten<'_> {
    fn advance(mut self, count: usize) -> usize {
        let written = self.written + count;
        self.written = 0;
        written
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        self.rest.drain(..self.written);
    }
}

impl ServerProcess {
    /// Starts a server over pipes.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub async fn spawn(binary: &Path, args: &[&str], envs: &[(&str, &str)]) -> Self {
        Self::spawn_with(binary, ServerOptions::new(args, envs)).await
    }

    /// Starts a server as the options say.
    ///
    /// # Panics
    /// When the binary cannot be started.
    #[expect(clippy::unused_async, reason = "a runtime is needed, and an async function makes the caller have one")]
    pub async fn spawn_with(binary: &Path, options: ServerOptions) -> Self {
        let own_home = match options.home {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("a2a-home-").tempdir().expect("a temporary folder")),
        };
        let home = options.home.or_else(|| own_home.as_ref().map(|folder| folder.path().to_owned()));
        let home = home.expect("one of the two is there");
        let mut command = Command::new(binary);
        command.args(&options.args).current_dir(options.folder.as_deref().unwrap_or(&home)).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            // What a developer has set for himself must not decide whether a test passes.
            if text.starts_with("A2A_") || text.starts_with("DATABASE_") || text == "USE_PERSISTED_REGISTRY" {
                command.env_remove(name);
            }
        }
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        command.env("HOME", &home).envs(options.envs.iter().map(|(name, value)| (name, value)));
        command.stderr(Stdio::piped());
        let (mut child, stdin, stdout) = match options.wire {
            Wire::Pipes => over_pipes(command, binary),
            Wire::SocketPairs => over_socket_pairs(command, binary),
        };
        let pid = child.id().expect("a child that nobody waited for has an id");

        let incoming = Arc::new(Incoming::default());
        let wire = Arc::new(Outgoing { stdin: AsyncMutex::new(Stdin { stream: Some(stdin), rest: Vec::new() }) });
        let (reading, reading_seen) = watch::channel(true);
        let (read_to_end_set, read_to_end) = watch::channel(false);
        let (reader, answers_to) = (Arc::clone(&incoming), Arc::clone(&wire));
        tokio::spawn(async move {
            reader.read(stdout, reading_seen, |request| answer_server_request(&answers_to, request)).await;
            read_to_end_set.send_replace(true);
        });

        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let (stderr_ended_set, stderr_ended) = watch::channel(false);
        let unread_stderr = match (options.stderr, child.stderr.take()) {
            (Stderr::Captured, Some(pipe)) => {
                let kept = Arc::clone(&stderr);
                tokio::spawn(async move {
                    capture(pipe, kept).await;
                    stderr_ended_set.send_replace(true);
                });
                None
            }
            (_, pipe) => pipe,
        };
        let (exit_set, exit) = watch::channel(None);
        tokio::spawn(async move {
            let status = child.wait().await;
            // Held until here: closing it earlier would be an error for a server that writes, not an unread pipe.
            drop(unread_stderr);
            match status {
                Ok(status) => drop(exit_set.send_replace(Some(status))),
                Err(error) => eprintln!("the server cannot be waited for: {error}"),
            }
        });
        Self {
            pid,
            wire,
            incoming,
            era: Mutex::new(Era::Opening),
            next_id: AtomicI64::new(1),
            request_limit: options.request_limit.unwrap_or(REQUEST_LIMIT),
            reading,
            exit,
            read_to_end,
            killed: AtomicBool::new(false),
            told_to_end: AtomicBool::new(false),
            stderr,
            stderr_ended,
            home,
            _own_home: own_home,
        }
    }

    /// Opens the connection the way of 2025-11-25: `initialize`, then `notifications/initialized`. Returns the result
    /// of `initialize`.
    ///
    /// # Errors
    /// When the server does not answer with a result.
    pub async fn initialize(&self, client_name: &str) -> Result<Value, RpcError> {
        let params = json!({
            "protocolVersion": LEGACY_VERSION,
            "capabilities": {},
            "clientInfo": {"name": client_name, "version": "1.0.0"},
        });
        let result = self.request("initialize", params).await?;
        self.notify("notifications/initialized", Value::Null).await?;
        self.set_era(Era::Legacy);
        Ok(result)
    }

    /// Opens the connection the way of 2026-07-28: `server/discover`, and from then on version, client and
    /// capabilities in the `_meta` of each request. Returns the result of `server/discover`.
    ///
    /// # Errors
    /// When the server does not answer with a result.
    pub async fn discover(&self, client_name: &str) -> Result<Value, RpcError> {
        self.set_era(Era::Modern { client: client_name.to_owned() });
        self.request("server/discover", json!({})).await
    }

    /// Sets the era without saying anything to the server.
    pub fn set_era(&self, era: Era) {
        *self.era.lock().unwrap_or_else(PoisonError::into_inner) = era;
    }

    /// Sends a request and waits for its answer. Any number may be open at once.
    ///
    /// # Errors
    /// When the server answers with an error, not within the limit, or not at all.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let started = Instant::now();
        let reply = self.request_start(method, params).await?;
        // The limit holds for sending and waiting together.
        reply.wait(self.request_limit.saturating_sub(started.elapsed())).await
    }

    /// Sends a request and returns as soon as it is sent; the answer is waited for by the caller.
    ///
    /// # Errors
    /// When the connection is closed, or the server reads no input for as long as a request may take.
    pub async fn request_start(&self, method: &str, params: Value) -> Result<PendingReply, RpcError> {
        let id = json!(self.next_id.fetch_add(1, Ordering::Relaxed));
        let reply = self.incoming.expect(&id);
        let params = self.era.lock().unwrap_or_else(PoisonError::into_inner).complete(params);
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if !params.is_null() {
            message["params"] = params;
        }
        self.write_message(&message).await?;
        Ok(reply)
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// When there is no result at all; an error that the tool reports is in the reply.
    pub async fn call_tool(&self, name: &str, args: Value) -> Result<ToolReply, RpcError> {
        let result = self.request("tools/call", json!({"name": name, "arguments": args})).await?;
        Ok(ToolReply::from_result(result))
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// When the connection is closed, or the server reads no input for as long as a request may take.
    pub async fn notify(&self, method: &str, params: Value) -> Result<(), RpcError> {
        let mut message = json!({"jsonrpc": "2.0", "method": method});
        if !params.is_null() {
            message["params"] = params;
        }
        self.write_message(&message).await
    }

    async fn write_message(&self, message: &Value) -> Result<(), RpcError> {
        let mut line = message.to_string();
        line.push('\n');
        self.send_raw(line.as_bytes()).await
    }

    /// Sends bytes as they are, line breaks included or not.
    ///
    /// # Errors
    /// When the connection is closed, or the server reads no input for as long as a request may take.
    pub async fn send_raw(&self, bytes: &[u8]) -> Result<(), RpcError> {
        // A server that reads no input blocks the write.
        let writing = self.wire.write(bytes);
        tokio::time::timeout(self.request_limit, writing).await.unwrap_or(Err(RpcError::Timeout))
    }

    /// Expects an answer to an id that [`Self::send_raw`] is about to send.
    #[must_use]
    pub fn expect_reply(&self, id: &Value) -> PendingReply {
        self.incoming.expect(id)
    }

    /// Takes the next error that the server sent without an id, as the answer to a line it could not read.
    pub async fn next_error_without_id(&self, limit: Duration) -> Option<RpcError> {
        let message = self.incoming.take_unasked(limit, |message| message.get("error").is_some()).await?;
        Some(RpcError::from_member(&message["error"]))
    }

    /// Takes the next notification of this method and returns its parameters.
    pub async fn next_notification(&self, method: &str, limit: Duration) -> Option<Value> {
        let wanted = |message: &Value| message["method"] == method && message.get("id").is_none();
        let mut message = self.incoming.take_unasked(limit, wanted).await?;
        Some(message["params"].take())
    }

    /// Returns everything that the server sent unasked and nobody has taken: notifications, requests, errors without
    /// an id.
    #[must_use]
    pub fn unasked(&self) -> Vec<Value> {
        self.incoming.unasked()
    }

    /// Returns how many answers have come.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.incoming.answers()
    }

    /// Returns how many requests wait for their answer.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.incoming.open_requests()
    }

    /// Stops reading stdout: once the pipe is full the server's writes block.
    pub fn stop_reading_stdout(&self) {
        self.reading.send_replace(false);
    }

    /// Reads stdout again.
    pub fn resume_reading_stdout(&self) {
        self.reading.send_replace(true);
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the home folder that the server sees.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the resident memory in bytes; `None` when it has ended, or without /proc.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Returns the end of what the server wrote to stderr.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        let mut bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes.make_contiguous();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(STDERR_SHOWN)..]).into_owned()
    }

    /// Returns all that the server wrote to stderr.
    ///
    /// # Panics
    /// When that was too much to be kept.
    #[must_use]
    pub fn stderr(&self) -> String {
        let mut bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(bytes.len() < STDERR_KEPT, "the server wrote more to stderr than is kept");
        String::from_utf8_lossy(bytes.make_contiguous()).into_owned()
    }

    /// Returns what has been wrong on stdout so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.incoming.violations();
        if self.killed.load(Ordering::Relaxed) {
            violations.retain(|text| !text.starts_with("stdout ends without a line break"));
        }
        violations
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.told_to_end.store(true, Ordering::Relaxed);
        self.signal(Signal::KILL);
    }

    /// Asks the server to end with SIGTERM.
    pub fn terminate(&self) {
        self.told_to_end.store(true, Ordering::Relaxed);
        self.signal(Signal::TERM);
    }

    /// Stops the server with SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a stopped server go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Lets the server die when it makes any file larger than this: what is before it is written, and then the system
    /// ends the process with SIGXFSZ. Pipes and sockets are not files.
    #[cfg(target_os = "linux")]
    pub fn kill_at_file_size(&self, bytes: u64) {
        self.killed.store(true, Ordering::Relaxed);
        self.told_to_end.store(true, Ordering::Relaxed);
        let pid = self.process();
        // A core file would be of no use.
        for (resource, limit) in [(Resource::Core, 0), (Resource::Fsize, bytes)] {
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            assert!(prlimit(Some(pid), resource, limit).is_ok(), "the server cannot be limited");
        }
    }

    fn process(&self) -> Pid {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process id is a positive number")
    }

    fn signal(&self, signal: Signal) {
        // After the exit has been seen the number may belong to another process.
        if self.exit.borrow().is_some() {
            return;
        }
        match kill_process(self.process(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("the server cannot be signalled: {error}"),
        }
    }

    /// Closes the server's stdin.
    pub async fn close_stdin(&self) {
        self.wire.stdin.lock().await.stream = None;
    }

    /// Waits for the server to end; `None` when it still runs after the limit. What it wrote to stderr is read then.
    pub async fn wait_exit(&self, limit: Duration) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = *tokio::time::timeout(limit, exit.wait_for(Option::is_some)).await.ok()?.ok()?;
        let mut stderr_ended = self.stderr_ended.clone();
        if tokio::time::timeout(STDERR_LIMIT, stderr_ended.wait_for(|ended| *ended)).await.is_err() {
            eprintln!("somebody else still holds the server's stderr");
        }
        status
    }

    /// Closes stdin, waits for the end of the server and of its stdout, and asserts that it ended with success and
    /// that every byte of stdout was right. Returns the status.
    ///
    /// After [`Self::kill`] or [`Self::terminate`] only the bytes are checked.
    ///
    /// # Panics
    /// When one of these does not hold; the message holds the end of stderr.
    pub async fn finish(&self) -> ExitStatus {
        self.close_stdin().await;
        self.resume_reading_stdout();
        let status = self.wait_exit(FINISH_LIMIT).await;
        let status = status.unwrap_or_else(|| {
            panic!("the server still runs {FINISH_LIMIT:?} after the end of its stdin\n{}", self.stderr_tail())
        });
        let mut read_to_end = self.read_to_end.clone();
        let ended = tokio::time::timeout(FINISH_LIMIT, read_to_end.wait_for(|end| *end)).await;
        assert!(ended.is_ok(), "somebody else still holds the server's stdout");
        let violations = self.violations();
        assert!(violations.is_empty(), "stdout is not clean: {violations:#?}\n{}", self.stderr_tail());
        let judged_by_caller = self.told_to_end.load(Ordering::Relaxed);
        assert!(judged_by_caller || status.success(), "the server ended with {status}\n{}", self.stderr_tail());
        status
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

type Wired = (Child, Box<dyn AsyncWrite + Send + Unpin>, Box<dyn AsyncRead + Send + Unpin>);

fn over_pipes(mut command: Command, binary: &Path) -> Wired {
    let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::piped()), binary);
    let stdin = child.stdin.take().expect("stdin is a pipe");
    let stdout = child.stdout.take().expect("stdout is a pipe");
    (child, Box::new(stdin), Box::new(stdout))
}

fn over_socket_pairs(mut command: Command, binary: &Path) -> Wired {
    let (stdin, child_stdin) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    let (stdout, child_stdout) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    command.stdin(OwnedFd::from(child_stdin)).stdout(OwnedFd::from(child_stdout));
    let child = start(&mut command, binary);
    // The command holds the child's ends; as long as they are open here, no end of stdout is ever seen.
    drop(command);
    let ours = |stream: std::os::unix::net::UnixStream| {
        stream.set_nonblocking(true).expect("a socket can be non-blocking");
        tokio::net::UnixStream::from_std(stream).expect("there is a runtime")
    };
    (child, Box::new(ours(stdin)), Box::new(ours(stdout)))
}

fn start(command: &mut Command, binary: &Path) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{} cannot be started: {error}", binary.display()))
}

/// Answers a request of the server: `ping` with success, the rest as a client without capabilities does.
fn answer_server_request(wire: &Arc<Outgoing>, request: &Value) {
    let answer = if request["method"] == "ping" {
        json!({"jsonrpc": "2.0", "id": request["id"], "result": {}})
    } else {
        json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "method not found"}})
    };
    let wire = Arc::clone(wire);
    // On a task, because a reader that waits for the server to read its input would deadlock with it.
    tokio::spawn(async move {
        let line = format!("{answer}\n");
        // A closed connection is noticed by the reader.
        let _sent = tokio::time::timeout(REQUEST_LIMIT, wire.write(line.as_bytes())).await;
    });
}

async fn capture(mut pipe: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut chunk = vec![0; 8192];
    // A pipe that cannot be read ends like one that is closed: there is nothing more to keep.
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&chunk[..count]);
        let excess = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..excess);
    }
}
