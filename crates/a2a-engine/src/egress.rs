//! Outgoing HTTP: only to origins that the operator's file allows, and only to the addresses that were checked.
//!
//! A URL comes from an agent, so it is taken for hostile. [`Egress::client`] reads it strictly, finds its origin among
//! those allowed, resolves the host once, checks every address, and gives a client that can connect to these addresses
//! and to nothing else: a second answer of the name server is never asked for. Redirects are not followed and proxies
//! of the environment are not used, because both would lead elsewhere.

mod address;
mod client;
mod origin;
mod resolver;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Client, Response, Url};

pub use address::{Reach, reach};
pub(crate) use client::own_client;
#[cfg(feature = "local-model")]
pub(crate) use client::own_client_builder;
pub use origin::{Origin, OriginPattern};
pub use resolver::{Resolver, SystemResolver};

use crate::operator::{AllowedOrigin, OperatorFile, Redaction, Secret};

/// A name server that takes longer is as good as none.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A host that resolves to more addresses is not a web server.
const ADDRESSES_MAX: usize = 64;
/// Clients that are kept with their open connections. More origins than this in turn only cost new connections.
const CLIENTS_MAX: usize = 32;

/// Why a request may not be sent, or not now.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The URL is not one that is understood in one way only.
    #[error("the URL {0}")]
    Url(String),
    /// The operator's file does not have the origin.
    #[error("{origin} is not allowed; to allow it, add it to egress.allow in {place}")]
    NotAllowed {
        /// The origin of the URL.
        origin: Origin,
        /// Where to allow it.
        place: String,
    },
    /// The host is at an address of a private network.
    #[error(
        "{origin} is at a {kind} address; to allow it, set private: true on the entry {entry} of egress.allow in {place}"
    )]
    Private {
        /// The origin of the URL.
        origin: Origin,
        /// What the address is.
        kind: &'static str,
        /// The entry that allows the origin.
        entry: String,
        /// Where to allow it.
        place: String,
    },
    /// The host is at an address that is never connected to.
    #[error("{origin} is at a {kind} address, which is never connected to")]
    Never {
        /// The origin of the URL.
        origin: Origin,
        /// What the address is.
        kind: &'static str,
    },
    /// The host has no address, or the name server does not answer.
    #[error("the address of {host} could not be found: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// What the name server said.
        reason: String,
    },
    /// TLS can't be set up.
    #[error("no HTTP client could be made: {0}")]
    Client(String),
}

impl EgressError {
    /// Whether the same request may be sent later without a change of the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Resolve { .. })
    }
}

/// The way out. Connections are kept and shared.
pub struct Egress {
    operator: Arc<OperatorFile>,
    resolver: Arc<dyn Resolver>,
    tls: OnceLock<rustls::ClientConfig>,
    /// The last used one at the back.
    clients: Mutex<VecDeque<(ClientKey, Client)>>,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

/// What a client is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClientKey {
    origin: Origin,
    /// Sorted.
    addresses: Vec<SocketAddr>,
}

/// A URL whose origin is allowed.
struct Allowed<'o> {
    origin: Origin,
    url: Url,
    entry: &'o AllowedOrigin,
}

impl Egress {
    /// Resolves names as the operating system does.
    #[must_use]
    pub fn new(operator: Arc<OperatorFile>) -> Self {
        Self::with_resolver(operator, Arc::new(SystemResolver))
    }

    /// Resolves names with `resolver`.
    #[must_use]
    pub fn with_resolver(operator: Arc<OperatorFile>, resolver: Arc<dyn Resolver>) -> Self {
        Self { operator, resolver, tls: OnceLock::new(), clients: Mutex::default() }
    }

    /// Whether a request to this URL is allowed, as far as can be told without asking a name server.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, url: &str) -> Result<(), EgressError> {
        let allowed = self.allowed(url)?;
        match allowed.origin.address() {
            Some(address) => self.check_address(&allowed, address),
            None => Ok(()),
        }
    }

    /// A client for requests to this URL, and the URL as it is to be requested. The client sends the headers of the
    /// allowed origin, keeps connections, and does not limit the time of a request as a whole. It is for
    /// requests to this origin: for a URL of any other, such as one that a response holds, ask again.
    ///
    /// # Errors
    /// When the operator's file does not allow it, or the host is not found.
    pub async fn client(&self, url: &str) -> Result<(Client, Url), EgressError> {
        let allowed = self.allowed(url)?;
        let addresses = self.resolve(&allowed).await?;
        for address in &addresses {
            self.check_address(&allowed, address.ip())?;
        }
        let key = ClientKey { origin: allowed.origin, addresses };
        let client = match self.kept(&key) {
            Some(client) => client,
            None => {
                let client = client::pinned(&key.origin, &key.addresses, &allowed.entry.headers, self.tls().await?)?;
                self.keep(key, client)
            }
        };
        Ok((client, allowed.url))
    }

    /// Takes the secrets of the operator's file out of texts.
    pub(crate) fn redaction(&self) -> &Redaction {
        self.operator.redaction()
    }

    /// The key that signs what is sent to this URL.
    #[must_use]
    pub fn signing_key(&self, url: &str) -> Option<&Secret> {
        self.allowed(url).ok()?.entry.signing_key.as_ref()
    }

    fn allowed(&self, url: &str) -> Result<Allowed<'_>, EgressError> {
        let (origin, url) = Origin::of_url(url).map_err(EgressError::Url)?;
        // The most exact entry counts, wherever it stands.
        let entry = self
            .operator
            .egress
            .iter()
            .filter(|entry| entry.origin.matches(&origin))
            .max_by_key(|entry| entry.origin.exactness());
        match entry {
            Some(entry) => Ok(Allowed { origin, url, entry }),
            None => Err(EgressError::NotAllowed { origin, place: self.operator.place().to_string() }),
        }
    }

    fn check_address(&self, allowed: &Allowed<'_>, address: IpAddr) -> Result<(), EgressError> {
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Private(_) if allowed.entry.private => Ok(()),
            Reach::Private(kind) => Err(EgressError::Private {
                origin: allowed.origin.clone(),
                kind,
                entry: allowed.entry.origin.to_string(),
                place: self.operator.place().to_string(),
            }),
            Reach::Never(kind) => Err(EgressError::Never { origin: allowed.origin.clone(), kind }),
        }
    }

    /// All addresses of the host, sorted; never empty.
    async fn resolve(&self, allowed: &Allowed<'_>) -> Result<Vec<SocketAddr>, EgressError> {
        let (host, port) = (allowed.origin.host(), allowed.origin.port());
        if let Some(address) = allowed.origin.address() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let failed = |reason: String| EgressError::Resolve { host: host.to_owned(), reason };
        let addresses = match tokio::time::timeout(RESOLVE_TIMEOUT, self.resolver.resolve(host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("the name server does not answer".to_owned())),
        };
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(failed(format!("the name server gives {} addresses", addresses.len())));
        }
        let mut addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    async fn tls(&self) -> Result<rustls::ClientConfig, EgressError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        // Reading the certificates of the operating system takes milliseconds.
        let made = tokio::task::spawn_blocking(client::tls_config).await;
        let tls = made.map_err(|error| error.to_string()).and_then(|made| made).map_err(EgressError::Client)?;
        Ok(self.tls.get_or_init(|| tls).clone())
    }

    fn kept(&self, key: &ClientKey) -> Option<Client> {
        let mut clients = self.clients.lock();
        let position = clients.iter().position(|(kept, _)| kept == key)?;
        let found = clients.remove(position)?;
        let client = found.1.clone();
        clients.push_back(found);
        Some(client)
    }

    /// Keeps a client, unless another task was quicker.
    fn keep(&self, key: ClientKey, client: Client) -> Client {
        let mut clients = self.clients.lock();
        if let Some((_, client)) = clients.iter().find(|(kept, _)| *kept == key) {
            return client.clone();
        }
        if clients.len() >= CLIENTS_MAX {
            clients.pop_front();
        }
        clients.push_back((key, client.clone()));
        client
    }
}

/// Why the body of a response was not read whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the response has more than {0} bytes")]
    TooLong(usize),
    /// The connection broke.
    #[error("the response broke off: {0}")]
    Broken(String),
}

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
/// When it is longer, of which no more than that is read, or when the connection breaks.
pub async fn read_body_limited(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(BodyError::TooLong(bytes_max));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| BodyError::Broken(transport_error(&error)))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(BodyError::TooLong(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong on the way, without the URL, which may hold a secret in its path.
#[must_use]
pub fn transport_error(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "it took too long"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the exchange broke off"
    };
    // The innermost cause says it; what is around it repeats the URL.
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause {
        Some(cause) => format!("{what} ({cause})"),
        None => what.to_owned(),
    }
}
