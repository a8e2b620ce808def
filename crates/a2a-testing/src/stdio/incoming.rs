//! What the server writes to stdout: every byte is parsed, every deviation recorded.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{Notify, oneshot, watch};

use super::RpcError;

/// How many notifications and other unasked messages are kept; older ones are dropped.
const KEPT_MAX: usize = 10_000;
/// How many violations are kept; one would do.
const VIOLATIONS_MAX: usize = 100;
/// The longest line that is collected; a server whose limit is 4 MiB never writes one.
const LINE_MAX: usize = 64 << 20;

/// What one read may take at once.
const READ_SIZE: usize = 64 << 10;

/// The messages of a server, shared between its reader and its callers.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    state: Mutex<State>,
    /// Wakes those who wait for an unasked message.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<String, oneshot::Sender<Result<Value, RpcError>>>,
    /// Requests whose caller gave up: their late answers are no violation.
    abandoned: HashSet<String>,
    /// Notifications, requests of the server, and errors without an id.
    unasked: VecDeque<Value>,
    violations: Vec<String>,
    answers: u64,
    closed: bool,
}

/// An answer that will come.
#[derive(Debug)]
pub struct PendingReply {
    id: String,
    incoming: Arc<Incoming>,
    receiver: oneshot::Receiver<Result<Value, RpcError>>,
}

impl PendingReply {
    /// Waits for the answer.
    ///
    /// # Errors
    /// When the server answers with an error, not in time, or not at all.
    pub async fn wait(mut self, limit: Duration) -> Result<Value, RpcError> {
        match tokio::time::timeout(limit, &mut self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RpcError::Closed),
            Err(_) => Err(RpcError::Timeout),
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        let mut state = self.incoming.state();
        if state.pending.remove(&self.id).is_some() {
            state.abandoned.insert(std::mem::take(&mut self.id));
        }
    }
}

impl Incoming {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a request before it is sent.
    pub(super) fn expect(self: &Arc<Self>, id: &Value) -> PendingReply {
        let (sender, receiver) = oneshot::channel();
        let id = id.to_string();
        let mut state = self.state();
        // Without a sender the receiver reports that the connection is closed.
        if !state.closed {
            let before = state.pending.insert(id.clone(), sender);
            assert!(before.is_none(), "the request id {id} is in use");
        }
        drop(state);
        PendingReply { id, incoming: Arc::clone(self), receiver }
    }

    pub(super) fn violation(&self, text: String) {
        let mut state = self.state();
        if state.violations.len() < VIOLATIONS_MAX {
            state.violations.push(text);
        }
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub(super) fn answers(&self) -> u64 {
        self.state().answers
    }

    pub(super) fn open_requests(&self) -> usize {
        self.state().pending.len()
    }

    /// Takes the first unasked message for which `wanted` holds, waiting for it if need be.
    pub(super) async fn take_unasked(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let taking = async {
            loop {
                // The future is made before the look, so a message in between is not missed.
                let arrived = self.arrived.notified();
                {
                    let mut state = self.state();
                    if let Some(at) = state.unasked.iter().position(&wanted) {
                        return state.unasked.remove(at);
                    }
                    if state.closed {
                        return None;
                    }
                }
                arrived.await;
            }
        };
        tokio::time::timeout(limit, taking).await.unwrap_or_default()
    }

    pub(super) fn unasked(&self) -> Vec<Value> {
        self.state().unasked.iter().cloned().collect()
    }

    /// Reads until the end of the stream. While `reading` is false nothing is read, so that the server's writes block.
    /// `reply` is called for each request of the server.
    pub(super) async fn read(
        self: Arc<Self>,
        mut stdout: impl AsyncRead + Unpin,
        mut reading: watch::Receiver<bool>,
        reply: impl Fn(&Value),
    ) {
        let mut buffer = Vec::with_capacity(READ_SIZE);
        // Where the search for the next line break goes on; the bytes before it hold none.
        let mut searched = 0;
        loop {
            if reading.wait_for(|on| *on).await.is_err() {
                break;
            }
            buffer.reserve(READ_SIZE);
            let read = tokio::select! {
                read = stdout.read_buf(&mut buffer) => read,
                // A stop ends a read that waits; nothing is lost, because such a read has taken nothing.
                changed = reading.changed() => {
                    if changed.is_err() { break; }
                    continue;
                }
            };
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    // A socket whose peer was killed may report a reset instead of an end.
                    if error.kind() != std::io::ErrorKind::ConnectionReset {
                        self.violation(format!("stdout cannot be read: {error}"));
                    }
                    break;
                }
            }
            let mut line_start = 0;
            while let Some(length) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line_end = searched + length;
                self.line(&buffer[line_start..line_end], &reply);
                line_start = line_end + 1;
                searched = line_start;
            }
            buffer.drain(..line_start);
            searched = buffer.len();
            if searched > LINE_MAX {
                self.violation(format!("a line of stdout is longer than {LINE_MAX} bytes"));
                break;
            }
        }
        self.close(&buffer);
    }

    fn close(&self, rest: &[u8]) {
        if !rest.is_empty() {
            self.violation(format!("stdout ends without a line break: {}", excerpt(rest)));
        }
        let mut state = self.state();
        state.closed = true;
        for (_, sender) in state.pending.drain() {
            // The caller may have stopped waiting at this very moment.
            let _sent = sender.send(Err(RpcError::Closed));
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    fn line(&self, line: &[u8], reply: &impl Fn(&Value)) {
        let message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                return self.violation(format!("a line of stdout is not JSON ({error}): {}", excerpt(line)));
            }
        };
        let Value::Object(mut members) = message else {
            return self.violation(format!("a line of stdout is not a JSON object: {}", excerpt(line)));
        };
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return self.violation(format!("a message is not JSON-RPC 2.0: {}", excerpt(line)));
        }
        let method = members.get("method");
        let (result, error) = (members.get("result"), members.get("error"));
        match (method, result, error) {
            (Some(Value::String(_)), None, None) => {
                let message = Value::Object(members);
                if message.get("id").is_some() {
                    reply(&message);
                }
                self.keep(message);
            }
            (None, Some(_), None) => {
                let result = members.remove("result").unwrap_or_default();
                self.answer(members.get("id"), Ok(result), line);
            }
            (None, None, Some(error)) if error["code"].is_i64() && error["message"].is_string() => {
                match members.get("id") {
                    // An error that answers an unreadable line has no id to name.
                    None | Some(Value::Null) => self.keep(Value::Object(members)),
                    id => self.answer(id, Err(RpcError::from_member(error)), line),
                }
            }
            _ => self.violation(format!("a message is neither request nor response: {}", excerpt(line))),
        }
    }

    fn answer(&self, id: Option<&Value>, answer: Result<Value, RpcError>, line: &[u8]) {
        let id = id.map(Value::to_string).unwrap_or_default();
        let mut state = self.state();
        state.answers += 1;
        if let Some(sender) = state.pending.remove(&id) {
            // The caller may have stopped waiting at this very moment.
            let _sent = sender.send(answer);
        } else if !state.abandoned.remove(&id) {
            drop(state);
            self.violation(format!("an answer to nothing that was asked: {}", excerpt(line)));
        }
    }

    fn keep(&self, message: Value) {
        let mut state = self.state();
        if state.unasked.len() == KEPT_MAX {
            state.unasked.pop_front();
        }
        state.unasked.push_back(message);
        drop(state);
        self.arrived.notify_waiters();
    }
}

fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(300)];
    format!("{:?}", String::from_utf8_lossy(shown))
}
