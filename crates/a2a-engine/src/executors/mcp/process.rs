//! An MCP server as a program of this machine.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::executors::command::process::leader_exited;
use crate::executors::tail::Tail;
use crate::operator::Secret;
use crate::operator::redaction::CUT;

/// How much of the end of the standard error is kept, for the error of a step.
const STDERR_BYTES_MAX: usize = 2 * 1024;
const STDERR_CHARS_MAX: usize = 500;
const READ_BYTES: usize = 4 * 1024;
/// How long a program that may still go on is listened to.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// A program with its process group, which is killed when this is dropped, and as soon as the program has ended: what it
/// leaves behind would hold the connection open.
pub(super) struct Process {
    /// Ordering: dropped before the child. As long as nobody has asked for the exit status of its leader, the number
    /// of the group belongs to this group and to no other.
    _group: Group,
    _child: Child,
    stderr: Arc<Mutex<Tail>>,
    /// Cancelled when all of it has been read.
    said_all: CancellationToken,
    tasks: [AbortHandle; 2],
}

/// The number of a group, as long as it belongs to that group.
#[derive(Clone)]
struct Leader(Arc<Mutex<Option<Pid>>>);

impl Leader {
    fn kill_group(&self, is_over: bool) {
        let mut leader = self.0.lock();
        if let Some(leader) = *leader {
            // It fails when nothing is left of the group, which is what is wanted.
            let _gone = kill_process_group(leader, Signal::KILL);
        }
        if is_over {
            *leader = None;
        }
    }
}

struct Group(Leader);

impl Drop for Group {
    fn drop(&mut self) {
        self.0.kill_group(true);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Process {
    /// Starts a program without a shell, with this environment and no other.
    pub(super) fn start(
        argv: &[String],
        env: &BTreeMap<String, Secret>,
        cwd: Option<&Path>,
    ) -> io::Result<(Self, ChildStdout, ChildStdin)> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no program"));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value.expose())))
            .current_dir(cwd.unwrap_or("/".as_ref()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("it has no process id"))?;
        let leader = Leader(Arc::new(Mutex::new(Some(id))));
        let group = Group(leader.clone());
        let (stdout, stdin) = (child.stdout.take(), child.stdin.take());
        let stderr = Arc::new(Mutex::new(Tail::new(STDERR_BYTES_MAX)));
        let said_all = CancellationToken::new();
        let (stream, kept, end) = (child.stderr.take(), stderr.clone(), said_all.clone().drop_guard());
        let reading = tokio::spawn(async move {
            keep_end(stream, kept).await;
            drop(end);
        });
        let watching = tokio::spawn(async move {
            match leader_exited(id).await {
                Ok(()) => leader.kill_group(false),
                Err(error) => tracing::warn!(%error, "the end of an MCP server can't be noticed"),
            }
        });
        let tasks = [reading.abort_handle(), watching.abort_handle()];
        let process = Self { _group: group, _child: child, stderr, said_all, tasks };
        match (stdout, stdin) {
            (Some(stdout), Some(stdin)) => Ok((process, stdout, stdin)),
            _ => Err(io::Error::other("it has no standard streams")),
        }
    }

    /// The end of what it has written to its standard error. One that has ended is listened to until its end.
    pub(super) async fn last_words(&self) -> String {
        let said_all = tokio::time::timeout(LAST_WORDS_LIMIT, self.said_all.cancelled()).await.is_ok();
        let mut said = self.stderr.lock().excerpt(STDERR_CHARS_MAX);
        if !said_all && !said.is_empty() {
            // It may be in the middle of a word.
            said.push(CUT);
        }
        said
    }
}

/// Reads everything, so that the program does not wait, and keeps the end.
async fn keep_end(stream: Option<impl AsyncRead + Unpin>, kept: Arc<Mutex<Tail>>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; READ_BYTES];
    // What can't be read is missing from an error message and does no other harm.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.lock().push(buffer.get(..read).unwrap_or_default());
    }
}
