//! URLs of Postgres servers.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;

use super::DatabaseUrlError;
use crate::postgres::connect::TlsConnectors;

mod parts;

use parts::Parts;

/// What is demanded of TLS, with the meanings of libpq's `sslmode`.
///
/// On a Unix socket there is never TLS, whatever is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslPolicy {
    /// Never TLS.
    Disable,
    /// To this machine: without TLS, and with it if the server insists. To any other: like [`Require`](Self::Require).
    Allow,
    /// To this machine: with TLS if the server offers it. To any other: like [`Require`](Self::Require).
    Prefer,
    /// Encrypted, but nobody checks who is at the other end. With `sslrootcert`, like [`VerifyCa`](Self::VerifyCa).
    Require,
    /// Encrypted, and the certificate must come from the CA in `sslrootcert`; its names are not compared.
    VerifyCa,
    /// Encrypted, and the certificate must be trusted and be for this host.
    VerifyFull,
}

impl SslPolicy {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Which certificates are trusted when one is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootCertificates {
    /// Mozilla's list and the operating system's.
    Default,
    /// The operating system's only (`sslrootcert=system`).
    System,
    /// Those in this PEM file; with `verify-full`, the default ones besides.
    File(PathBuf),
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: TargetHost,
    /// The address to connect to instead of looking the host's name up.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

/// How a server is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetHost {
    /// A name or an address.
    Tcp(String),
    /// The directory of a Unix socket.
    Unix(String),
}

impl Target {
    /// Whether the URL itself says that the server runs on this machine. What a name resolves to does not count:
    /// whoever answers for the name would then decide whether the password goes out unencrypted.
    pub(crate) fn is_loopback(&self) -> bool {
        match (&self.host, self.address) {
            (TargetHost::Unix(_), _) => true,
            (TargetHost::Tcp(_), Some(address)) => address.to_canonical().is_loopback(),
            (TargetHost::Tcp(name), None) => match name.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().is_loopback(),
                Err(_not_an_address) => {
                    let name = name.trim_end_matches('.').to_ascii_lowercase();
                    name == "localhost" || name.ends_with(".localhost")
                }
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TargetHost::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            TargetHost::Tcp(name) => write!(f, "{name}:{}", self.port),
            TargetHost::Unix(directory) => write!(f, "{directory}/.s.PGSQL.{}", self.port),
        }
    }
}

/// A parsed `postgres://` or `postgresql://` URL.
///
/// `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETER=VALUE&...`; parts are percent-encoded, a Unix
/// socket is `?host=/DIRECTORY` or a percent-encoded host, and `host`, `port`, `hostaddr`, `user`, `password` and
/// `dbname` may be parameters too, which then win.
///
/// | parameter | meaning |
/// |---|---|
/// | `schema` | the only entry of `search_path`; in double quotes when it has unusual characters |
/// | `sslmode` | see [`SslPolicy`]. Unset: `verify-full`, or `prefer` on this machine. `ssl=true` is `require` |
/// | `sslrootcert` | a PEM file with the CA, or `system`; without `sslmode` it means `verify-full` |
/// | `sslnegotiation`, `channel_binding`, `options`, `application_name`, `load_balance_hosts` | as in libpq |
/// | `target_session_attrs` | `any`, `read-write` or `primary`, `read-only` or `standby` |
/// | `connect_timeout` | whole seconds for each host, for everything until the session is ready. Unset or 0: 2 |
/// | `keepalives`, `keepalives_idle`, `keepalives_interval`, `keepalives_count` | as in libpq, in seconds. Unset: 10, 3, 3 |
/// | `tcp_user_timeout` | milliseconds, as in libpq. Unset or 0: 5000 |
/// | `pgbouncer=true` | a transaction-mode pooler is in between: session settings are not made, as they would leak into other sessions |
/// | `sslaccept` | Prisma's: `strict` is `sslmode=verify-full`; `accept_invalid_certs` is `require` where `sslmode` is unset |
/// | `connection_limit`, `pool_timeout`, `socket_timeout`, `statement_cache_size`, `single_use_connections`, `supa`, `fallback_application_name`, `client_encoding`, `gssencmode` | accepted, because real URLs carry them, and not used |
#[derive(Clone)]
pub struct PostgresUrl {
    /// Everything except hosts, ports and TLS.
    config: Arc<Config>,
    targets: Vec<Target>,
    schema: Option<String>,
    ssl: Option<SslPolicy>,
    roots: RootCertificates,
    pooled: bool,
    read_only: bool,
    shuffled: bool,
    connect_timeout: Duration,
    /// Shared by all clones: the system's certificates are loaded once.
    connectors: Arc<TlsConnectors>,
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresUrl")
            .field("url", &self.display_safe())
            .field("ssl", &self.ssl)
            .field("roots", &self.roots)
            .field("pooled", &self.pooled)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl PostgresUrl {
    /// The schema that `search_path` is set to.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The schema as an SQL identifier, quotation marks included.
    #[must_use]
    pub fn schema_quoted(&self) -> Option<String> {
        self.schema.as_ref().map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
    }

    /// The name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// What the URL says of TLS; `None` leaves it to each host, see [`PostgresUrl`].
    #[must_use]
    pub fn ssl(&self) -> Option<SslPolicy> {
        self.ssl
    }

    /// Whether a transaction-mode pooler is in between: no LISTEN, no session settings, no named statements.
    #[must_use]
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// Makes sessions refuse writes, which a standby does anyway.
    #[must_use]
    pub fn for_reading(mut self) -> Self {
        self.read_only = true;
        self
    }

    pub(crate) fn is_for_reading(&self) -> bool {
        self.read_only
    }

    /// How long one host may take until its session is ready.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Names hosts, database and schema, but no user and no password.
    #[must_use]
    pub fn display_safe(&self) -> String {
        let hosts: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        let schema = self.schema.as_ref().map(|name| format!("?schema={name}")).unwrap_or_default();
        format!("{}/{}{schema}", hosts.join(","), self.database())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub(crate) fn roots(&self) -> &RootCertificates {
        &self.roots
    }

    pub(crate) fn shuffled(&self) -> bool {
        self.shuffled
    }

    pub(crate) fn connectors(&self) -> &TlsConnectors {
        &self.connectors
    }

    /// The policy for one host, after the defaults.
    pub(crate) fn ssl_for(&self, target: &Target) -> SslPolicy {
        match (&target.host, self.ssl) {
            (TargetHost::Unix(_), _) => SslPolicy::Disable,
            (TargetHost::Tcp(_), Some(SslPolicy::Allow | SslPolicy::Prefer)) if !target.is_loopback() => {
                SslPolicy::Require
            }
            (TargetHost::Tcp(_), Some(policy)) => policy,
            (TargetHost::Tcp(_), None) if target.is_loopback() => SslPolicy::Prefer,
            (TargetHost::Tcp(_), None) => SslPolicy::VerifyFull,
        }
    }

    /// Reads what follows `postgres://`.
    pub(super) fn parse(rest: &str) -> Result<Self, DatabaseUrlError> {
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before_query.split_once('/').unwrap_or((before_query, ""));
        // A raw @ belongs between credentials and host and nowhere before the query. Elsewhere it means that a
        // password was cut in two, and what looks like a host or a parameter may be half of it: say nothing of it.
        if authority.matches('@').count() > 1 || path.contains('@') {
            return Err(DatabaseUrlError::CredentialsNotEncoded);
        }
        let suspicious = query.contains('@');
        Parts::parse(authority, path, query)
            .and_then(Parts::build)
            .map_err(|error| if suspicious { DatabaseUrlError::CredentialsNotEncoded } else { error })
    }
}
