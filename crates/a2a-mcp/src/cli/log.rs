//! The log: to standard error, and never in the way.
//!
//! A client need not read the standard error of a server. Once the pipe is full, whoever writes to it waits; so the log
//! is written by a thread of its own, behind a bounded queue, and what finds the queue full is dropped.
//!
//! Libraries log what servers say, so every line passes the [`Redaction`] of the operator's file.

use std::io::{self, IsTerminal as _, Write};

use a2a_engine::operator::Redaction;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::output;

/// Lines that wait for somebody to read them.
const LINES_MAX: usize = 2_000;

/// Writes what is left when it is dropped.
pub(crate) struct Log {
    writer: NonBlocking,
    guard: Option<WorkerGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        // Where nobody reads, nobody will read the rest, and the guard would say so on standard output.
        if self.writer.error_counter().dropped_lines() > 0 {
            std::mem::forget(self.guard.take());
        }
    }
}

impl Log {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("a2a-log")
            .finish(std::io::stderr());
        Self { writer, guard: Some(guard) }
    }

    /// Takes over what the program logs from now on.
    pub(crate) fn install(&self, filter: EnvFilter, redaction: &Redaction) {
        let lines = Redacted { lines: self.writer.clone(), redaction: redaction.clone() };
        let log = tracing_subscriber::fmt()
            .with_writer(move || lines.clone())
            .with_ansi(std::io::stderr().is_terminal())
            .with_env_filter(filter);
        if let Err(error) = log.try_init() {
            output::note(&format!("warning: nothing is logged: {error}"));
        }
    }
}

/// Writes lines without the secrets in them.
#[derive(Clone)]
struct Redacted<W> {
    lines: W,
    redaction: Redaction,
}

impl<W: Write> Write for Redacted<W> {
    /// A line is written at once, so that no secret is in two of these.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.lines.write_all(self.redaction.text(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}
