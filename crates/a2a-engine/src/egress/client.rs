//! Clients that can reach one origin at the addresses that were checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, redirect, retry};
use rustls::{ClientConfig, RootCertStore};

use super::{EgressError, Origin};

/// A host that does not answer within this time is tried again by a later attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A host that sends nothing for this long is given up. A request as a whole is limited by who sends it; this one is
/// for those that do not, so that nothing hangs for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Connections are closed when nothing was sent for this long; many servers close theirs a little later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 8;

/// Roots of the operating system besides those that ship with browsers, so that a company's own certificates work.
pub(super) fn tls_config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

pub(super) fn pinned(
    origin: &Origin,
    addresses: &[SocketAddr],
    headers: &HeaderMap,
    tls: ClientConfig,
) -> Result<Client, EgressError> {
    Client::builder()
        .user_agent(concat!("a2a-mcp/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers.clone())
        .tls_backend_preconfigured(tls)
        .https_only(origin.is_https())
        .http1_only()
        .dns_resolver(Pinned { host: origin.host().into(), addresses: addresses.into() })
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        // Whether a request may be sent again is decided by the run, not by the client.
        .retry(retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build()
        .map_err(|error| EgressError::Client(super::transport_error(&error)))
}

/// A client for a host that a setting of the operator names, which may be anywhere.
///
/// # Errors
/// When TLS can't be set up.
pub(crate) async fn own_client(https_only: bool) -> Result<Client, EgressError> {
    let builder = own_client_builder(https_only).await?;
    builder.build().map_err(|error| EgressError::Client(super::transport_error(&error)))
}

/// The same, to be changed before it is made.
///
/// # Errors
/// When TLS can't be set up.
pub(crate) async fn own_client_builder(https_only: bool) -> Result<ClientBuilder, EgressError> {
    // Reading the certificates of the operating system takes milliseconds.
    let made = tokio::task::spawn_blocking(tls_config).await;
    let tls = made.map_err(|error| error.to_string()).and_then(|made| made).map_err(EgressError::Client)?;
    Ok(Client::builder()
        .user_agent(concat!("a2a-mcp/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .https_only(https_only)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX))
}

/// Answers with what was checked, and for no other host.
struct Pinned {
    host: Box<str>,
    addresses: Arc<[SocketAddr]>,
}

impl Resolve for Pinned {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = (name.as_str() == &*self.host).then(|| self.addresses.clone());
        Box::pin(async move {
            match addresses {
                Some(addresses) => {
                    let addresses: Vec<SocketAddr> = addresses.to_vec();
                    Ok(Box::new(addresses.into_iter()) as Addrs)
                }
                None => Err("this client is for another host".into()),
            }
        })
    }
}
