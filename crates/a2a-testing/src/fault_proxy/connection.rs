//! One connection through the proxy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::fault::{Action, Fault, Moment};
use super::frontend::{Asks, CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST, Statements, message_length, startup_message};
use super::{Controls, Shared, reset};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side closed it.
    Closed,
    /// A fault cut it.
    Cut,
}

/// `Err` ends the connection; a failed read or write means that a side closed it.
type Pumped<T> = Result<T, End>;

pub(super) struct Connection {
    shared: Arc<Shared>,
    /// Each direction waits on the controls by itself.
    controls: watch::Receiver<Controls>,
    progress: Mutex<Progress>,
}

/// How far the conversation is: each Query and each Sync is answered by exactly one ReadyForQuery, in order.
#[derive(Debug, Default)]
struct Progress {
    asked: u64,
    answered: u64,
    hold: Option<Hold>,
}

/// The answer that is held back for a fault that fires after its statement.
#[derive(Debug)]
struct Hold {
    /// The number of the ReadyForQuery that completes it.
    answer: u64,
    fault: Arc<Fault>,
    /// The fault fires by itself; its answer just must not reach the client.
    swallow: bool,
    failed: bool,
    committed: bool,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let controls = shared.controls.subscribe();
        Self { shared, controls, progress: Mutex::new(Progress::default()) }
    }

    pub(super) async fn run(self, mut client: TcpStream) {
        let mut controls = self.controls.clone();
        let cuts = controls.borrow().cuts;
        let cut = async {
            // The sender lives in `self.shared`, so the wait ends by a cut only.
            let _seen = controls.wait_for(|controls| controls.cuts != cuts).await;
        };
        tokio::pin!(cut);
        let connecting = async {
            self.gate().await;
            TcpStream::connect(self.shared.target).await
        };
        let server = tokio::select! {
            server = connecting => server.ok(),
            () = &mut cut => None,
        };
        let Some(mut server) = server else {
            // Postgres is not there: the client sees its connection fail.
            return reset(&client);
        };
        // Small messages must not wait for each other.
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return reset(&client);
        }
        let end = tokio::select! {
            end = self.talk(&mut client, &mut server) => end,
            () = cut => End::Cut,
        };
        if end == End::Cut {
            reset(&client);
            reset(&server);
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the proxy is a black hole, and for the delay.
    async fn gate(&self) {
        let mut controls = self.controls.clone();
        let delay = controls.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // The sender lives in `self.shared`.
        let _open = controls.wait_for(|controls| !controls.black_hole).await;
    }

    async fn talk(&self, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let (mut client_read, mut client_write) = client.split();
        let (mut server_read, mut server_write) = server.split();
        let mut first = Vec::new();
        let started =
            self.start(&mut first, &mut client_read, &mut client_write, &mut server_read, &mut server_write).await;
        let readable = match started {
            Ok(readable) => readable,
            Err(end) => return end,
        };
        let up = async {
            let ended = if readable {
                self.up(first, &mut client_read, &mut server_write).await
            } else {
                self.copy(first, &mut client_read, &mut server_write).await
            };
            match ended {
                Err(End::Cut) => End::Cut,
                _ => {
                    // The server may still have something to say; its end is the end of the connection.
                    if server_write.shutdown().await.is_err() {
                        return End::Closed;
                    }
                    std::future::pending().await
                }
            }
        };
        let down = async {
            let ended = if readable {
                self.down(&mut server_read, &mut client_write).await
            } else {
                self.copy(Vec::new(), &mut server_read, &mut client_write).await
            };
            match ended {
                Err(End::Cut) => End::Cut,
                _ => End::Closed,
            }
        };
        tokio::select! {
            end = up => end,
            end = down => end,
        }
    }

    /// Passes the opening on and returns whether the rest can be understood. `first` holds what the client sent
    /// beyond the opening.
    async fn start(
        &self,
        first: &mut Vec<u8>,
        client_read: &mut ReadHalf<'_>,
        client_write: &mut WriteHalf<'_>,
        server_read: &mut ReadHalf<'_>,
        server_write: &mut WriteHalf<'_>,
    ) -> Pumped<bool> {
        loop {
            let (length, code) = loop {
                if let Some(found) = startup_message(first) {
                    break found;
                }
                self.read(client_read, first).await?;
            };
            let message: Vec<u8> = first.drain(..length).collect();
            send(server_write, &message).await?;
            match code {
                SSL_REQUEST | GSS_REQUEST => {
                    let answer = server_read.read_u8().await.map_err(|_| End::Closed)?;
                    self.gate().await;
                    send(client_write, &[answer]).await?;
                    if answer != b'N' {
                        return Ok(false);
                    }
                }
                CANCEL_REQUEST => return Ok(false),
                _ => {
                    // The opening is answered by a ReadyForQuery too.
                    self.progress().asked = 1;
                    return Ok(true);
                }
            }
        }
    }

    /// Reads what is there, then waits at the gate.
    async fn read(&self, from: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) -> Pumped<()> {
        match from.read_buf(buffer).await {
            Ok(0) | Err(_) => Err(End::Closed),
            Ok(_) => {
                self.gate().await;
                Ok(())
            }
        }
    }

    /// Passes bytes on without looking at them.
    async fn copy(&self, mut buffer: Vec<u8>, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Pumped<()> {
        loop {
            send(to, &buffer).await?;
            buffer.clear();
            self.read(from, &mut buffer).await?;
        }
    }

    /// From the client to the server.
    async fn up(&self, mut buffer: Vec<u8>, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Pumped<()> {
        let mut statements = Statements::default();
        // A fault that fires when the Sync of its statement has been passed on.
        let mut at_sync: Option<Arc<Fault>> = None;
        loop {
            let mut start = 0;
            let mut end = 0;
            while let Some(length) = message_length(&buffer[end..]) {
                let message = &buffer[end..end + length];
                let asks = statements.see(message);
                let fault = match &asks {
                    Asks::Simple(sql) | Asks::Extended(sql) => self.shared.faults.take(sql),
                    Asks::Sync | Asks::Other => None,
                };
                if let Some(fault) = &fault {
                    match fault.trigger.moment() {
                        Moment::Before => {
                            send(to, &buffer[start..end]).await?;
                            start = end;
                            self.fire(fault).await?;
                        }
                        Moment::During => at_sync = Some(Arc::clone(fault)),
                        // Ordering: held before the message is passed on, or the answer could overtake the hold.
                        Moment::After => self.hold(fault),
                    }
                }
                end += length;
                if matches!(asks, Asks::Simple(_) | Asks::Sync) {
                    // Ordering: counted before it is passed on, or the answer could overtake the count.
                    self.progress().asked += 1;
                    if let Some(fault) = at_sync.take() {
                        self.hold_last(&fault);
                        send(to, &buffer[start..end]).await?;
                        start = end;
                        self.fire_during(&fault, to).await?;
                    }
                }
            }
            send(to, &buffer[start..end]).await?;
            buffer.drain(..end);
            self.read(from, &mut buffer).await?;
        }
    }

    /// Holds the answer to the statement that is about to be counted.
    fn hold(&self, fault: &Arc<Fault>) {
        let mut progress = self.progress();
        let answer = progress.asked + 1;
        Self::hold_answer(&mut progress, answer, fault);
    }

    /// Holds the answer to the statement that was counted last: a cut must come before it, a delay is done to it.
    fn hold_last(&self, fault: &Arc<Fault>) {
        let mut progress = self.progress();
        let answer = progress.asked;
        match fault.action {
            Action::Cut => {
                progress.hold =
                    Some(Hold { answer, fault: Arc::clone(fault), swallow: true, failed: false, committed: false });
            }
            Action::Delay(_) => Self::hold_answer(&mut progress, answer, fault),
            Action::BlackHole => {}
        }
    }

    fn hold_answer(progress: &mut Progress, answer: u64, fault: &Arc<Fault>) {
        if progress.hold.is_some() {
            // One answer at a time: a second statement of the same pipeline is left alone.
            fault.give_back();
            return;
        }
        progress.hold =
            Some(Hold { answer, fault: Arc::clone(fault), swallow: false, failed: false, committed: false });
    }

    /// Does what a fault does, at its moment.
    async fn fire(&self, fault: &Fault) -> Pumped<()> {
        fault.count();
        match fault.action {
            Action::Cut => return Err(End::Cut),
            Action::BlackHole => {
                self.shared.controls.send_modify(|controls| controls.black_hole = true);
                self.gate().await;
            }
            Action::Delay(delay) => tokio::time::sleep(delay).await,
        }
        Ok(())
    }

    /// Fires while the statement is under way. Sometimes at once and with a reset, so that the server may not even
    /// read it, sometimes a little later and in order, so that it may be done or half done.
    async fn fire_during(&self, fault: &Fault, to: &mut WriteHalf<'_>) -> Pumped<()> {
        match fault.action {
            Action::Cut => {
                match rand::random_range(0..4_u32) {
                    // A reset that follows at once often wins against the server's reading.
                    0 | 1 => {}
                    // A side that is closed already is as good as one that is closed now.
                    2 => drop(to.shutdown().await),
                    _ => tokio::time::sleep(Duration::from_micros(rand::random_range(0..1_000))).await,
                }
                self.fire(fault).await
            }
            Action::BlackHole => self.fire(fault).await,
            // The hold of the answer fires it.
            Action::Delay(_) => Ok(()),
        }
    }

    /// From the server to the client.
    async fn down(&self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Pumped<()> {
        let mut buffer = Vec::new();
        loop {
            // Whole messages end at `end`; those up to `free` may go, the rest is held; those up to `sent` have gone.
            let (mut sent, mut free, mut end) = (0, 0, 0);
            while let Some(length) = message_length(&buffer[end..]) {
                let (kind, body) = (buffer[end], &buffer[end + 5..end + length]);
                end += length;
                match self.answer(kind, body) {
                    Answer::Free => free = end,
                    Answer::Held => {}
                    Answer::Completes(fault) => {
                        send(to, &buffer[sent..free]).await?;
                        sent = free;
                        self.fire(&fault).await?;
                        free = end;
                    }
                    // The other direction is about to cut the connection.
                    Answer::Swallowed => {
                        send(to, &buffer[sent..free]).await?;
                        std::future::pending::<()>().await;
                    }
                }
            }
            send(to, &buffer[sent..free]).await?;
            // What is held is looked at again with the next bytes, which changes nothing: it holds no ReadyForQuery.
            buffer.drain(..free);
            self.read(from, &mut buffer).await?;
        }
    }

    /// Counts a message of the server and tells what to do with it.
    fn answer(&self, kind: u8, body: &[u8]) -> Answer {
        let mut progress = self.progress();
        let next = progress.answered + 1;
        if kind == b'Z' {
            progress.answered = next;
        }
        let Some(hold) = progress.hold.as_mut().filter(|hold| hold.answer == next) else {
            return Answer::Free;
        };
        match kind {
            b'E' => hold.failed = true,
            b'C' if body.starts_with(b"COMMIT") => hold.committed = true,
            b'Z' if hold.swallow => return Answer::Swallowed,
            b'Z' => {
                let done = !hold.failed && (hold.committed || !hold.fault.trigger.wants_commit());
                let fault = Arc::clone(&hold.fault);
                progress.hold = None;
                if done {
                    return Answer::Completes(fault);
                }
                fault.give_back();
                return Answer::Free;
            }
            _ => {}
        }
        Answer::Held
    }
}

/// What to do with a message of the server.
enum Answer {
    /// It may go, and so may everything before it.
    Free,
    /// It is held back.
    Held,
    /// It completes the statement of a fault, which fires before the held messages may go.
    Completes(Arc<Fault>),
    /// It never goes.
    Swallowed,
}

async fn send(to: &mut WriteHalf<'_>, bytes: &[u8]) -> Pumped<()> {
    to.write_all(bytes).await.map_err(|_| End::Closed)
}
