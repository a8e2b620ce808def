//! A TCP proxy in front of Postgres that breaks the connection at a chosen moment.
//!
//! It reads enough of the frontend/backend protocol to know which statement a message executes, in the simple and
//! the extended query protocol, prepared statements included, and when that statement's transaction is complete. So
//! it can cut a connection before, during or after a COMMIT (or any statement that holds a given text), or turn into
//! a black hole or delay there. It does not see into TLS: such a connection is passed on, and only the faults that
//! need no understanding work on it.
//!
//! ```no_run
//! # async fn example(database: a2a_testing::postgres::TestDatabase) {
//! use a2a_testing::fault_proxy::{FaultProxy, Trigger};
//!
//! let proxy = FaultProxy::start_for(&database.url()).await;
//! let url = proxy.url(&database.url());
//! let fault = proxy.arm_cut_at(Trigger::AfterCommit);
//! // ... a client of `url` commits, and never learns that it worked ...
//! assert_eq!(fault.fired(), 1);
//! # }
//! ```

mod connection;
mod fault;
mod frontend;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use self::fault::{Action, ArmedFault, Moment, Trigger};

use self::connection::Connection;
use self::fault::ArmedFaults;

/// A running proxy; dropping it cuts its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What all connections look at.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    controls: watch::Sender<Controls>,
    faults: ArmedFaults,
    accepted: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
}

/// The faults that hold until they are taken back.
#[derive(Debug, Clone, Default)]
struct Controls {
    black_hole: bool,
    delay: Duration,
    refuse: bool,
    /// Raised by one to cut every connection that is older.
    cuts: u64,
}

impl FaultProxy {
    /// Starts a proxy in front of the server of a Postgres URL.
    ///
    /// # Panics
    /// When the URL names no host and port that can be resolved.
    pub async fn start_for(url: &str) -> Self {
        let host_port = &url[authority(url)];
        let host_port = if host_port.contains(':') { host_port.to_owned() } else { format!("{host_port}:5432") };
        let mut addrs = match tokio::net::lookup_host(&host_port).await {
            Ok(addrs) => addrs,
            Err(error) => panic!("{host_port} cannot be resolved: {error}"),
        };
        Self::start(addrs.next().expect("a resolved host has an address")).await
    }

    /// Starts a proxy in front of a server.
    ///
    /// # Panics
    /// When no port on 127.0.0.1 can be opened.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on 127.0.0.1");
        let addr = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            target,
            controls: watch::Sender::new(Controls::default()),
            faults: ArmedFaults::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { addr, shared, accepting }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the URL with the proxy in the place of its host and port.
    ///
    /// # Panics
    /// When the text is not a URL.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let place = authority(url);
        format!("{}{}{}", &url[..place.start], self.addr, &url[place.end..])
    }

    /// Cuts every open connection, both sides with a reset.
    pub fn cut_all(&self) {
        self.shared.controls.send_modify(|controls| controls.cuts += 1);
    }

    /// Holds all bytes in both directions back, or lets them go on. Meanwhile connections stay open, and new ones are
    /// accepted and get no answer.
    pub fn black_hole(&self, on: bool) {
        self.shared.controls.send_modify(|controls| controls.black_hole = on);
    }

    /// Delays everything by this much in each direction; zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.shared.controls.send_modify(|controls| controls.delay = delay);
    }

    /// Resets new connections at once, or accepts them again. Open ones go on.
    pub fn refuse(&self, on: bool) {
        self.shared.controls.send_modify(|controls| controls.refuse = on);
    }

    /// Cuts the connection on which the trigger happens next, once.
    pub fn arm_cut_at(&self, trigger: Trigger) -> ArmedFault {
        self.arm(trigger, Action::Cut, 1)
    }

    /// Cuts the connection that next executes a statement holding this text, letter case ignored, once.
    pub fn arm_cut_at_statement(&self, containing: &str, moment: Moment) -> ArmedFault {
        let containing = containing.to_owned();
        self.arm(Trigger::Statement { containing, moment }, Action::Cut, 1)
    }

    /// Does the action at the next `times` happenings of the trigger. Of several armed faults that fit a statement
    /// the oldest fires.
    pub fn arm(&self, trigger: Trigger, action: Action, times: u64) -> ArmedFault {
        self.shared.faults.arm(trigger, action, times)
    }

    /// Takes all armed faults back.
    pub fn disarm_all(&self) {
        self.shared.faults.disarm_all();
    }

    /// Takes every fault back: armed ones, black hole, delay and refusal.
    pub fn heal(&self) {
        self.disarm_all();
        self.shared.controls.send_modify(|controls| {
            let cuts = controls.cuts;
            *controls = Controls { cuts, ..Controls::default() };
        });
    }

    /// Returns how many connections have been accepted, refused ones not counted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Returns how many connections have been refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The tasks of the connections belong to the accepting task and end with it.
        self.accepting.abort();
    }
}

/// Counts a connection as open until it is dropped, also when its task is aborted.
struct OpenCount(Arc<Shared>);

impl OpenCount {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let client = match client {
            Ok((client, _)) => client,
            Err(error) => {
                // Too many open files, for instance; the next attempt may work.
                eprintln!("the fault proxy cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if shared.controls.borrow().refuse {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            reset(&client);
            continue;
        }
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        let open = OpenCount::new(Arc::clone(&shared));
        let connection = Connection::new(Arc::clone(&shared));
        connections.spawn(async move {
            connection.run(client).await;
            drop(open);
        });
    }
}

/// Makes closing this socket a reset instead of an orderly end.
fn reset(socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        // The other side has closed it already, and nothing is left to reset.
        eprintln!("the fault proxy cannot reset a connection: {error}");
    }
}

/// Where host and port are in a URL.
fn authority(url: &str) -> std::ops::Range<usize> {
    let start = url.find("://").expect("a URL has a scheme") + 3;
    let end = url[start..].find(['/', '?']).map_or(url.len(), |length| start + length);
    let start = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_of_a_url_are_found() {
        for (url, expected) in [
            ("postgres://u:p@h:1/db?x=y", "h:1"),
            ("postgres://h:1", "h:1"),
            ("postgres://h?x=a@b", "h"),
            ("postgres://u@[::1]:5/db", "[::1]:5"),
        ] {
            assert_eq!(&url[authority(url)], expected);
        }
    }
}
