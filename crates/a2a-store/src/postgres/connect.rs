//! Opening sessions: which server, with which TLS, within which time, and what the session is set to.
//!
//! The driver's own way to connect is not used, for three reasons: its `sslmode=prefer` goes plaintext to any host,
//! it does not bound the login, and of several hosts it reports only the last. Here each address is tried by itself.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Connection, Notification, Socket};

use crate::database_url::{PostgresUrl, SslPolicy, Target, TargetHost};

mod error;
mod tls;

pub use error::ConnectError;
use error::{Place, classify};
pub(crate) use tls::TlsConnectors;
use tls::{Recording, Verification};

/// What a connection over TLS reads from and writes to.
pub(crate) type TlsStream = <Recording as MakeTlsConnect<Socket>>::Stream;

/// How a session really is protected, which is not always what was asked for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing is encrypted.
    Plain,
    /// Encrypted, but nobody checked who is at the other end.
    TlsUnverified,
    /// Encrypted, and the certificate comes from the given CA.
    TlsVerifiedChain,
    /// Encrypted, and the certificate is trusted and for this host.
    TlsVerifiedFull,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "not encrypted",
            Self::TlsUnverified => "TLS, certificate not checked",
            Self::TlsVerifiedChain => "TLS, certificate from the given CA, name not checked",
            Self::TlsVerifiedFull => "TLS, certificate and name checked",
        })
    }
}

/// A session that is ready, its settings made.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// Does the actual work: queries wait until it is polled.
    pub(crate) connection: Connection<Socket, TlsStream>,
    pub(crate) transport: Transport,
    /// Which of the servers it is, without user and password.
    pub(crate) address: String,
}

/// What a look at the server found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// Which of the servers answered: `HOST:PORT`.
    pub address: String,
    /// The server's version, as it writes it.
    pub server_version: String,
    /// How the session was protected.
    pub transport: Transport,
    /// Whether the session refuses writes, as a standby does.
    pub read_only: bool,
    /// How long it took to open the session.
    pub connect_time: Duration,
    /// How long one small query took.
    pub round_trip: Duration,
}

/// Opens a session, which the caller must poll to use.
///
/// The hosts of the URL are tried in their order, each within its `connect_timeout` for everything: looking the name
/// up, TLS, login and session settings.
///
/// # Errors
/// Why no host gave a session.
pub(crate) async fn connect(url: &PostgresUrl) -> Result<Connected, ConnectError> {
    let mut targets: Vec<&Target> = url.targets().iter().collect();
    if url.shuffled() {
        targets.shuffle(&mut rand::rng());
    }
    let mut failures = Vec::new();
    for target in targets {
        let limit = url.connect_timeout();
        let address = target.to_string();
        match timeout(limit, connect_target(url, target)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failures.push(error),
            Err(_elapsed) => failures.push(ConnectError::Timeout { address, limit }),
        }
    }
    Err(ConnectError::from_failures(failures))
}

/// Opens a session and starts a task that drives it until the client is dropped or the session is lost.
///
/// `on_notification` runs on that task and must return at once.
///
/// # Errors
/// Why no host gave a session.
pub(crate) async fn open(
    url: &PostgresUrl,
    on_notification: impl FnMut(Notification) + Send + 'static,
) -> Result<(Client, JoinHandle<()>, Transport), ConnectError> {
    let Connected { client, connection, transport, address } = connect(url).await?;
    let driver = tokio::spawn(drive(connection, address, on_notification));
    Ok((client, driver, transport))
}

/// Opens a session, asks it one question and closes it.
///
/// # Errors
/// Why no host gave a session or an answer.
pub async fn probe(url: &PostgresUrl) -> Result<Probe, ConnectError> {
    let started = Instant::now();
    let Connected { client, mut connection, transport, address } = connect(url).await?;
    let connect_time = started.elapsed();
    let server_version = connection.parameter("server_version").unwrap_or("unknown").to_owned();
    let limit = url.connect_timeout();
    let place = Place { address: &address, encrypted: transport != Transport::Plain };
    let started = Instant::now();
    let question = while_driving(&mut connection, client.simple_query("SHOW transaction_read_only"));
    let answer = timeout(limit, question).await;
    let answer = answer.map_err(|_elapsed| ConnectError::Timeout { address: address.clone(), limit })?;
    let messages = answer.map_err(|lost| classify(lost, place))?;
    let round_trip = started.elapsed();
    let read_only = messages.iter().any(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
        _ => false,
    });
    Ok(Probe { address, server_version, transport, read_only, connect_time, round_trip })
}

async fn drive(
    mut connection: Connection<Socket, TlsStream>,
    address: String,
    mut on_notification: impl FnMut(Notification) + Send + 'static,
) {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => on_notification(notification),
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(%address, severity = notice.severity(), "Postgres says: {}", notice.message());
            }
            Some(Ok(_)) => {}
            Some(Err(lost)) => {
                // Every query in flight fails too, and its caller decides what that means.
                tracing::debug!(%address, error = %error::chain(&lost), "a Postgres session was lost");
                return;
            }
            None => return,
        }
    }
}

/// What to try with one address.
#[derive(Clone, Copy)]
enum Attempt {
    Plain,
    /// With TLS if the server offers it, plain if not.
    Offered,
    Tls(Verification),
}

/// What the policy means for one host, best first. The later attempts follow only on a refusal that another kind
/// of protection may get around.
fn attempts(policy: SslPolicy) -> &'static [Attempt] {
    use Attempt::{Offered, Plain, Tls};
    match policy {
        SslPolicy::Disable => &[Plain],
        SslPolicy::Allow => &[Plain, Tls(Verification::None)],
        SslPolicy::Prefer => &[Offered, Plain],
        SslPolicy::Require => &[Tls(Verification::None)],
        SslPolicy::VerifyCa => &[Tls(Verification::Chain)],
        SslPolicy::VerifyFull => &[Tls(Verification::Full)],
    }
}

async fn connect_target(url: &PostgresUrl, target: &Target) -> Result<Connected, ConnectError> {
    let started = Instant::now();
    let addresses = addresses(target).await?;
    let mut failure = None;
    for (index, address) in addresses.iter().enumerate() {
        // A dead address, as IPv6 often is, must leave time for the next one.
        let left = url.connect_timeout().saturating_sub(started.elapsed());
        let shares = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let handshake_limit = (left / shares).max(Duration::from_millis(1));
        match connect_address(url, target, *address, handshake_limit).await {
            Ok(connected) => return Ok(connected),
            // Nobody is there. The same server may well listen on its other address.
            Err(error @ (ConnectError::Refused { .. } | ConnectError::Timeout { .. })) => failure = Some(error),
            // A server has answered, and this answer tells more than what the other addresses could say.
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or_else(|| ConnectError::dns_empty(target)))
}

/// Looks the host up; `None` stands for a Unix socket.
async fn addresses(target: &Target) -> Result<Vec<Option<IpAddr>>, ConnectError> {
    let name = match (&target.host, target.address) {
        (TargetHost::Unix(_), _) => return Ok(vec![None]),
        (TargetHost::Tcp(_), Some(address)) => return Ok(vec![Some(address)]),
        (TargetHost::Tcp(name), None) => name,
    };
    let found = lookup_host((name.as_str(), target.port)).await;
    let found = found.map_err(|error| ConnectError::dns(target, error))?;
    let mut addresses: Vec<_> = found.map(|found: SocketAddr| Some(found.ip())).collect();
    if target.is_loopback() {
        // A resolver that sends "localhost" elsewhere must not get an unencrypted password.
        addresses.retain(|address| address.is_some_and(|address| address.to_canonical().is_loopback()));
    }
    Ok(addresses)
}

async fn connect_address(
    url: &PostgresUrl,
    target: &Target,
    address: Option<IpAddr>,
    handshake_limit: Duration,
) -> Result<Connected, ConnectError> {
    let mut result = Err(ConnectError::dns_empty(target));
    for attempt in attempts(url.ssl_for(target)) {
        result = connect_once(url, target, address, *attempt, handshake_limit).await;
        match &result {
            Err(error) if error.is_about_encryption() => {}
            _ => return result,
        }
    }
    result
}

async fn connect_once(
    url: &PostgresUrl,
    target: &Target,
    address: Option<IpAddr>,
    attempt: Attempt,
    handshake_limit: Duration,
) -> Result<Connected, ConnectError> {
    let label = target.to_string();
    let mut config = url.config().clone();
    match &target.host {
        TargetHost::Tcp(name) => config.host(name),
        TargetHost::Unix(directory) => config.host(directory),
    };
    if let Some(address) = address {
        config.hostaddr(address);
    }
    config.port(target.port).connect_timeout(handshake_limit);
    let (mode, verification) = match attempt {
        Attempt::Plain => (SslMode::Disable, None),
        Attempt::Offered => (SslMode::Prefer, Some(Verification::None)),
        Attempt::Tls(verification) => (SslMode::Require, Some(verification)),
    };
    config.ssl_mode(mode);
    let connector = url.connectors().get(verification, url.roots()).await;
    let connector = connector.map_err(|source| ConnectError::tls_setup(&label, source))?;
    let recording = Recording::new(connector);
    let connected = config.connect(recording.clone()).await;
    let encrypted = recording.used();
    let place = Place { address: &label, encrypted };
    let (client, mut connection) = connected.map_err(|error| classify(error, place))?;
    if !url.pooled() {
        let settings = session_settings(url);
        let made = while_driving(&mut connection, client.batch_execute(&settings)).await;
        made.map_err(|error| classify(error, place))?;
    }
    let transport = match verification {
        Some(Verification::None) if encrypted => Transport::TlsUnverified,
        Some(Verification::Chain) if encrypted => Transport::TlsVerifiedChain,
        Some(Verification::Full) if encrypted => Transport::TlsVerifiedFull,
        _ => Transport::Plain,
    };
    Ok(Connected { client, connection, transport, address: label })
}

/// What every session is set to, in one round trip.
///
/// They are statements and not start-up options, because poolers refuse those.
fn session_settings(url: &PostgresUrl) -> String {
    let mut settings = String::from(
        // A process that is stopped in the middle of a transaction must not hold its locks for long.
        "SET idle_in_transaction_session_timeout TO '5s'; \
         SET lock_timeout TO '5s'; \
         SET client_min_messages TO warning; \
         SET TIME ZONE 'UTC'; \
         SELECT set_config('synchronous_commit', 'on', false) \
           WHERE current_setting('synchronous_commit') = 'off';",
        // The last because "committed" has to survive a crash of the server, whatever the role's default is.
    );
    if url.is_for_reading() {
        settings.push_str(" SET default_transaction_read_only TO on;");
    }
    if let Some(schema) = url.schema_quoted() {
        // The schema need not exist yet.
        settings.push_str(" SET search_path TO ");
        settings.push_str(&schema);
        settings.push(';');
    }
    settings
}

/// Runs a query on a session that has no task of its own yet.
async fn while_driving<T>(
    connection: &mut Connection<Socket, TlsStream>,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    let mut work = pin!(work);
    let mut closed = false;
    poll_fn(|context| {
        // Ordering: the query is queued first, then the connection sends it or takes its answer in, and only then
        // can the query see the answer.
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if !closed {
            match Pin::new(&mut *connection).poll(context) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => closed = true,
                Poll::Pending => {}
            }
        }
        work.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests;
