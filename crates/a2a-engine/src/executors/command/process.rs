//! One process and its group, from start to end.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use a2a_core::json::{self, JsonProblem};
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::executors::tail::Tail;
use crate::executors::{Done, StepContext, StepWork, seconds};
use crate::operator::CommandEntry;

/// "Try again later", from `sysexits.h`.
const EX_TEMPFAIL: i32 = 75;
/// When the group is dead its pipes are closed, unless something has left the group and holds them open.
const PIPE_GRACE: Duration = Duration::from_secs(1);
/// How much of the end of the standard error is kept, for the error of the step.
const STDERR_BYTES_MAX: usize = 4 * 1024;
const STDERR_CHARS_MAX: usize = 1_000;
const READ_BYTES: usize = 8 * 1024;

/// Whether there is a program that can be started.
pub(super) fn look_at(program: &str) -> Result<(), String> {
    let metadata = std::fs::metadata(program).map_err(|error| format!("{program}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{program} is not a file"));
    }
    access(program, Access::EXEC_OK).map_err(|error| format!("{program} can't be executed: {error}"))
}

/// Runs a command to its end. Dropping the future kills the group.
pub(super) async fn run(entry: &CommandEntry, work: &StepWork, context: &dyn StepContext) -> Done {
    let cancelled = context.cancelled();
    let limit = work.timeout.map_or(entry.timeout, |timeout| timeout.min(entry.timeout));
    let Some((program, arguments)) = entry.argv.split_first() else {
        return Done::failed("the command has no program");
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(entry.env.iter().map(|(name, value)| (name, value.expose())))
        .current_dir(entry.cwd.as_deref().unwrap_or("/".as_ref()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
            let lasting = matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | InvalidInput);
            let error = format!("the command could not be started ({program}): {error}");
            context.contact(Err(&error));
            return Done::Failed { error, retryable: !lasting };
        }
    };
    context.contact(Ok(()));
    let running = match Running::new(child, entry.output_bytes_max) {
        Ok(running) => running,
        Err(error) => return Done::retryable(format!("the command could not be watched: {error}")),
    };
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Done::failed("the step is no longer wanted; the command was killed"),
        done = running.finish(format!("{}\n", work.message())) => done,
        () = tokio::time::sleep(limit) => {
            Done::retryable(format!("the command took longer than {} and was killed", seconds(limit)))
        }
    }
}

/// A process whose group is killed when this is dropped.
struct Running {
    /// Ordering: dropped before the child. As long as nobody has asked for the exit status of its leader, the number
    /// of the group belongs to this group and to no other.
    group: Group,
    child: Child,
    output_bytes_max: usize,
}

struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        kill(self.0);
    }
}

fn kill(group: Pid) {
    // It fails when nothing is left of the group, which is what is wanted.
    let _gone = kill_process_group(group, Signal::KILL);
}

impl Running {
    fn new(child: Child, output_bytes_max: usize) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(id.ok_or_else(|| io::Error::other("it has no process id"))?);
        Ok(Self { group, child, output_bytes_max })
    }

    /// Waits for the end, and says what came of it.
    async fn finish(mut self, input: String) -> Done {
        let group = self.group.0;
        let (stdin, stdout, stderr) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let streams = async {
            let (output, errors, ()) = tokio::join!(
                read_output(stdout, self.output_bytes_max, group),
                read_tail(stderr),
                write_input(stdin, &input),
            );
            (output, errors)
        };
        let mut streams = pin!(streams);
        let mut exit = pin!(leader_exited(group));
        let early = tokio::select! {
            streams = &mut streams => Some(streams),
            exited = &mut exit => match exited {
                Ok(()) => None,
                Err(error) => return Done::retryable(format!("the command could not be watched: {error}")),
            },
        };
        let streams = match early {
            // The program has closed its streams and goes on.
            Some(streams) => match exit.await {
                Ok(()) => Some(streams),
                Err(error) => return Done::retryable(format!("the command could not be watched: {error}")),
            },
            None => {
                // What it has left behind holds the streams open.
                kill(group);
                tokio::time::timeout(PIPE_GRACE, &mut streams).await.ok()
            }
        };
        let Self { group, mut child, .. } = self;
        // Ordering: killed before the exit status is taken, after which the number of the group is free for others.
        drop(group);
        let status = match child.wait().await {
            Ok(status) => status,
            Err(error) => return Done::retryable(format!("the command could not be watched: {error}")),
        };
        match streams {
            Some((output, errors)) => outcome(status, output, &errors),
            None => Done::failed("the command has ended, but something that it has started holds its output open"),
        }
    }
}

/// Waits until the leader of the group has exited, and leaves its exit status where it is.
pub(in crate::executors) async fn leader_exited(leader: Pid) -> io::Result<()> {
    // Ordering: listening begins before looking, so that an exit in between is not missed.
    let mut children = signal(SignalKind::child())?;
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(leader), options)?.is_some() {
            return Ok(());
        }
        if children.recv().await.is_none() {
            return Err(io::Error::other("the signals of child processes don't arrive"));
        }
    }
}

async fn write_input(stdin: Option<ChildStdin>, input: &str) {
    if let Some(mut stdin) = stdin {
        // A program that does not read its input may close it.
        let _closed = stdin.write_all(input.as_bytes()).await;
    }
}

enum Output {
    Whole(Vec<u8>),
    TooLong(usize),
    Unreadable(io::Error),
}

async fn read_output(stream: Option<impl AsyncRead + Unpin>, bytes_max: usize, group: Pid) -> Output {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Output::Whole(bytes) };
    match stream.take(bytes_max as u64 + 1).read_to_end(&mut bytes).await {
        Ok(_) if bytes.len() > bytes_max => {
            // It may go on writing for ever, or wait for somebody to read.
            kill(group);
            Output::TooLong(bytes_max)
        }
        Ok(_) => Output::Whole(bytes),
        Err(error) => Output::Unreadable(error),
    }
}

/// Reads everything and keeps the end.
async fn read_tail(stream: Option<impl AsyncRead + Unpin>) -> Tail {
    let mut tail = Tail::new(STDERR_BYTES_MAX);
    let Some(mut stream) = stream else { return tail };
    let mut buffer = [0; READ_BYTES];
    // What can't be read is missing from an error message and does no other harm.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        tail.push(buffer.get(..read).unwrap_or_default());
    }
    tail
}

fn outcome(status: ExitStatus, output: Output, errors: &Tail) -> Done {
    use std::os::unix::process::ExitStatusExt as _;
    let output = match output {
        Output::Whole(output) => output,
        Output::TooLong(bytes_max) => {
            return Done::failed(format!("the command wrote more than {bytes_max} bytes and was killed"));
        }
        Output::Unreadable(error) => return Done::retryable(format!("the output could not be read: {error}")),
    };
    let (what, retryable) = match (status.code(), status.signal()) {
        (Some(0), _) => return read_json(&output),
        (Some(code), _) => (format!("the command exited with {code}"), code == EX_TEMPFAIL),
        (None, Some(signal)) => (format!("the command was ended by signal {signal}"), true),
        (None, None) => ("the command ended in an unknown way".to_owned(), true),
    };
    let said = errors.excerpt(STDERR_CHARS_MAX);
    let error = if said.is_empty() { what } else { format!("{what}: {said}") };
    Done::Failed { error, retryable }
}

fn read_json(output: &[u8]) -> Done {
    if output.trim_ascii().is_empty() {
        return Done::Completed(Value::Null);
    }
    match json::parse_strict(output) {
        Ok(value) => Done::Completed(value),
        Err(JsonProblem::Refused(problem)) => {
            Done::failed(format!("the command wrote JSON that can't be kept: {problem}"))
        }
        Err(JsonProblem::Syntax { .. }) => match std::str::from_utf8(output) {
            Ok(text) if !text.contains('\0') => Done::Completed(json!({"text": text.trim_end()})),
            _ => Done::failed("the command wrote neither JSON nor text in UTF-8"),
        },
    }
}
