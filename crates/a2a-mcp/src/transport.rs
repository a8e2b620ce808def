//! The line transport: one JSON-RPC message per line, over the standard streams or any other pair of byte streams.
//!
//! It stands between the streams and rmcp, and keeps from rmcp whatever would end it, stall it or make it grow:
//!
//! - A line has a greatest length. A longer one passes through in constant memory and is answered with an error.
//! - A line that is not JSON, not a message, or holds what no database can hold is answered with the reason.
//! - A notification before the request that opens the session would end rmcp with an error; it is dropped.
//! - At most a fixed number of requests is in work. More are not read, so that a peer which does not read its answers
//!   stops itself. Behind a full house a bounded number of messages is looked at, because a cancellation in them may
//!   be what makes room.
//! - The end of the input, and an output that nobody reads, cancel a token, so that what waits can end early.
//! - A peer of the stateless era (2026-07-28) gets no notification that it did not ask for.
//!
//! Invariant: every request that was let in must be answered or cancelled, or its room is lost. A handler must not
//! panic past rmcp.

mod admission;
mod envelope;
mod line_reader;
mod message;
mod output;
mod stdio;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;

use a2a_core::limits::{CALLS_IN_WORK_MAX, LINE_BYTES_MAX};
use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, GetMeta as _, JsonRpcMessage, ProtocolVersion, RequestId,
    ServerJsonRpcMessage, ServerNotification,
};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use self::admission::{Admission, Calls};
use self::line_reader::{Line, LineReader};
use self::message::{Rejection, message_of};
use self::output::Output;
pub use self::stdio::{StdinStream, StdioTransport, StdoutStream};

/// Most messages that are looked at behind a request that finds no room.
const LOOK_AHEAD_MESSAGES_MAX: usize = 64;

/// The bounds of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportLimits {
    /// Longest line, without its newline.
    pub line_bytes: usize,
    /// Most requests in work at once.
    pub calls: usize,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self { line_bytes: LINE_BYTES_MAX, calls: CALLS_IN_WORK_MAX }
    }
}

/// How the peer opened the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    /// Not at all yet: only pings, discoveries, or requests that rmcp will refuse.
    Unopened,
    /// With `initialize`.
    Initialized,
    /// With a request that carries its own version, capabilities and client.
    Stateless,
}

/// A message with the length of its line.
#[derive(Debug)]
struct Arrived {
    message: ClientJsonRpcMessage,
    bytes: usize,
}

/// What became of a message that wants in.
#[derive(Debug)]
enum Passage {
    Forward(ClientJsonRpcMessage),
    /// It has to wait until a request in work was answered.
    NoRoom(Arrived),
    /// It was answered with an error here.
    Answered,
}

/// A server's transport over two byte streams.
#[derive(Debug)]
pub struct LineTransport<R, W> {
    reader: LineReader<R>,
    output: Arc<Output<W>>,
    calls: Arc<Calls>,
    limits: TransportLimits,
    peer_gone: CancellationToken,
    era: Era,
    /// Messages behind a request that found no room, that request first.
    waiting: VecDeque<Arrived>,
    waiting_bytes: usize,
    /// An answer of the transport itself that is not handed to the output yet.
    answer: Option<Vec<u8>>,
    /// An answer was handed to the output, and may not be flushed yet.
    answering: bool,
    input_ended: bool,
}

impl<R, W> LineTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// Makes a transport that reads requests from `source` and writes answers to `sink`.
    /// `peer_gone` is cancelled as soon as the input ends or the output breaks.
    pub fn new(source: R, sink: W, limits: TransportLimits, peer_gone: CancellationToken) -> Self {
        Self {
            reader: LineReader::new(source, limits.line_bytes),
            output: Arc::new(Output::new(sink, peer_gone.clone())),
            calls: Arc::new(Calls::new(limits.calls)),
            limits,
            peer_gone,
            era: Era::Unopened,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            answer: None,
            answering: false,
            input_ended: false,
        }
    }

    /// The next message for rmcp. Cancel safe: rmcp abandons this future whenever something else happens first.
    async fn next_message(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if self.output.is_closed() {
                return None;
            }
            if self.answer.is_some() || self.answering {
                self.answering = true;
                // One answer at a time is written before more is read: answers do not pile up either.
                if let Err(error) = self.output.write_line(&mut self.answer).await {
                    tracing::debug!(%error, "the peer no longer reads");
                    return None;
                }
                self.answering = false;
            }
            if let Some(first) = self.waiting.pop_front() {
                self.waiting_bytes -= first.bytes;
                match self.admitted(first) {
                    Passage::Forward(message) => return Some(message),
                    Passage::Answered => continue,
                    Passage::NoRoom(first) => {
                        self.waiting_bytes += first.bytes;
                        self.waiting.push_front(first);
                    }
                }
            } else if self.input_ended {
                return None;
            }
            let look_ahead_full =
                self.waiting.len() >= LOOK_AHEAD_MESSAGES_MAX || self.waiting_bytes >= self.limits.line_bytes;
            if self.input_ended || look_ahead_full {
                self.calls.changed.notified().await;
                continue;
            }
            let line = tokio::select! {
                biased;
                line = self.reader.next() => line,
                // A wake-up means that there is room again, or that the output has closed.
                () = self.calls.changed.notified() => continue,
            };
            if let Some(message) = self.line_taken(line) {
                return Some(message);
            }
        }
    }

    fn line_taken(&mut self, line: io::Result<Line>) -> Option<ClientJsonRpcMessage> {
        let line = line.unwrap_or_else(|error| {
            tracing::debug!(%error, "the input cannot be read");
            Line::End
        });
        match line {
            Line::End => {
                self.input_ended = true;
                self.peer_gone.cancel();
                None
            }
            Line::Oversized(id) => {
                self.reject(Rejection::oversized(id, self.limits.line_bytes));
                None
            }
            Line::Complete(line) => {
                let bytes = line.len();
                match message_of(self.reader.bytes(line)) {
                    Ok(message) => self.arrived(Arrived { message: message?, bytes }),
                    Err(rejection) => {
                        self.reject(rejection);
                        None
                    }
                }
            }
        }
    }

    /// Decides what becomes of a message: it goes on at once, or waits behind others, or is dropped.
    fn arrived(&mut self, arrived: Arrived) -> Option<ClientJsonRpcMessage> {
        match &arrived.message {
            JsonRpcMessage::Request(_) => {}
            _ if self.era == Era::Unopened => {
                tracing::debug!("dropped a message before the request that opens the session");
                return None;
            }
            // A handler may be waiting for this, and its request be what takes the room.
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => return Some(arrived.message),
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    return self.cancellation_wanted(&id.clone()).then_some(arrived.message);
                }
            }
        }
        if self.waiting.is_empty() {
            match self.admitted(arrived) {
                Passage::Forward(message) => return Some(message),
                Passage::Answered => {}
                Passage::NoRoom(arrived) => self.wait(arrived),
            }
        } else {
            self.wait(arrived);
        }
        None
    }

    fn wait(&mut self, arrived: Arrived) {
        self.waiting_bytes += arrived.bytes;
        self.waiting.push_back(arrived);
    }

    /// Tells whether rmcp has to hear of the cancellation: not when the request is still here, or answered, or unknown.
    fn cancellation_wanted(&mut self, id: &RequestId) -> bool {
        if self.calls.cancelled(id) {
            return true;
        }
        // A cancelled request is not answered, so that dropping it here is all that has to be done.
        self.waiting
            .retain(|waiting| !matches!(&waiting.message, JsonRpcMessage::Request(request) if request.id == *id));
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        false
    }

    /// Lets a message in, if it may.
    fn admitted(&mut self, arrived: Arrived) -> Passage {
        let JsonRpcMessage::Request(request) = &arrived.message else {
            return Passage::Forward(arrived.message);
        };
        match self.calls.admit(&request.id, arrived.bytes) {
            Admission::Granted => {
                if self.era == Era::Unopened {
                    self.era = era_opened_by(&request.request);
                }
                Passage::Forward(arrived.message)
            }
            Admission::Full => Passage::NoRoom(arrived),
            // An error with the id would be taken for the answer to the request that is in work.
            Admission::InWork => {
                let message = format!(
                    "a request with the id {} is in work; give each request an id of its own",
                    shown(&request.id)
                );
                self.reject(Rejection::invalid_request(None, message));
                Passage::Answered
            }
            Admission::Cancelled => {
                let message = "a request with this id was cancelled before; give each request an id of its own";
                self.reject(Rejection::invalid_request(Some(request.id.clone()), message));
                Passage::Answered
            }
        }
    }

    fn reject(&mut self, rejection: Rejection) {
        tracing::debug!(?rejection, "answered a line that is no message");
        self.answer = Some(rejection.into_line());
    }

    fn is_wanted(&self, message: &ServerJsonRpcMessage) -> bool {
        let JsonRpcMessage::Notification(notification) = message else {
            return true;
        };
        self.era == Era::Initialized
            || match &notification.notification {
                // These answer a request: one that carries a progress token, or opens or holds a subscription.
                ServerNotification::ProgressNotification(_)
                | ServerNotification::SubscriptionsAcknowledgedNotification(_)
                | ServerNotification::CancelledNotification(_) => true,
                other => other.get_meta().subscription_id().is_some(),
            }
    }
}

impl<R, W> Transport<RoleServer> for LineTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        // Ordering: the id is released here, in the task that also receives, and the room after the write.
        let room = answered.as_ref().and_then(|id| self.calls.answered(id));
        let output = self.is_wanted(&message).then(|| Arc::clone(&self.output));
        let calls = Arc::clone(&self.calls);
        async move {
            let Some(output) = output else {
                tracing::debug!("kept back a notification that the peer did not ask for");
                return Ok(());
            };
            let mut result = output.write_message(&message).await;
            if let Err(error) = &result
                && error.kind() == io::ErrorKind::InvalidData
                && answered.is_some()
            {
                let rejection =
                    Rejection::internal(answered, format!("the answer could not be written as JSON: {error}"));
                result = output.write_line(&mut Some(rejection.into_line())).await;
            }
            drop(room);
            if output.is_closed() {
                // The reader may be waiting for input that will never matter again.
                calls.changed.notify_one();
            }
            result
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.next_message().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.output.close().await;
        Ok(())
    }
}

/// What rmcp makes of a request before the session is open. It answers pings, discoveries and requests that lack
/// something without opening, and ends when a notification follows them.
fn era_opened_by(request: &ClientRequest) -> Era {
    match request {
        ClientRequest::InitializeRequest(_) => Era::Initialized,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => Era::Unopened,
        other => {
            let meta = other.get_meta();
            let complete = meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty();
            let known =
                meta.protocol_version().is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version));
            if complete && known { Era::Stateless } else { Era::Unopened }
        }
    }
}

/// An id as it may stand in a message: a peer can make it as long as a line.
fn shown(id: &RequestId) -> String {
    id.to_string().chars().take(64).collect()
}
