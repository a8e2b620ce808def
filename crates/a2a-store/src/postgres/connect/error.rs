//! Why there is no session, and what to do about it.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use tokio_postgres::error::SqlState;

use super::tls::TlsSetupError;
use crate::database_url::Target;

type Source = Box<dyn Error + Send + Sync>;

/// Why Postgres could not be reached or gave no session.
///
/// The text names `HOST:PORT` and what to do, never a user or a password; the cause is the
/// [`source`](Error::source). What the server itself wrote is only there, except in [`Other`](Self::Other).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there, or there is no way there.
    #[error("can't reach Postgres at {address}: {reason}; check that it runs there and that host and port are right")]
    Refused {
        /// The server.
        address: String,
        /// What the operating system says.
        reason: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The host has no address.
    #[error("can't find the address of {address}: {reason}; check the name of the host and this machine's network")]
    Dns {
        /// The server.
        address: String,
        /// What the resolver says.
        reason: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// Nothing came back in time.
    #[error(
        "Postgres at {address} did not answer within {limit:?}; check host, port and firewall, or give a slow \
         server more time with connect_timeout=SECONDS in the database URL"
    )]
    Timeout {
        /// The server.
        address: String,
        /// How long it had.
        limit: Duration,
    },
    /// There is no encryption as it is wanted.
    #[error("no TLS with Postgres at {address} as the database URL wants it: {reason}")]
    Tls {
        /// The server.
        address: String,
        /// What is wrong and what to do.
        reason: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The server does not let this user in.
    #[error("Postgres at {address} refused the login: {reason}")]
    Authentication {
        /// The server.
        address: String,
        /// What is wrong and what to do.
        reason: &'static str,
        /// The cause.
        #[source]
        source: Source,
    },
    /// There is no such database.
    #[error(
        "Postgres at {address} has no database of the name in the database URL; create it (createdb), or correct \
         the name"
    )]
    DatabaseMissing {
        /// The server.
        address: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// All of the server's connections are taken.
    #[error(
        "Postgres at {address} has no connection left; close some, or raise max_connections (or the pooler's or \
         role's limit)"
    )]
    TooManyConnections {
        /// The server.
        address: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The server starts, stops or recovers.
    #[error("Postgres at {address} is starting, stopping or recovering; it will be tried again")]
    StartingUp {
        /// The server.
        address: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The session is not of the kind that `target_session_attrs` demands, as during a failover.
    #[error("Postgres at {address} is not what target_session_attrs in the database URL demands: {reason}")]
    NotReadWrite {
        /// The server.
        address: String,
        /// What the session is.
        reason: &'static str,
        /// The cause.
        #[source]
        source: Source,
    },
    /// Anything else.
    #[error("can't open a session with Postgres at {address}: {reason}")]
    Other {
        /// The server.
        address: String,
        /// What the server or the system says.
        reason: String,
        /// Whether trying again can help.
        transient: bool,
        /// The cause.
        #[source]
        source: Source,
    },
    /// No host of several gave a session.
    #[error("none of the {} servers in the database URL can be used: {}", .failures.len(), list(.failures))]
    AllHosts {
        /// Why, one for each host.
        failures: Vec<ConnectError>,
    },
}

impl ConnectError {
    /// Whether the same attempt can succeed later without anybody changing a setting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // A laptop without network has no names either, so that a wrong one can't be told from it.
            Self::Refused { .. }
            | Self::Dns { .. }
            | Self::Timeout { .. }
            | Self::TooManyConnections { .. }
            | Self::StartingUp { .. }
            | Self::NotReadWrite { .. } => true,
            Self::Tls { .. } | Self::Authentication { .. } | Self::DatabaseMissing { .. } => false,
            Self::Other { transient, .. } => *transient,
            Self::AllHosts { failures } => failures.iter().any(Self::is_transient),
        }
    }

    /// Whether the server may accept the same login with TLS instead of without, or the other way round.
    pub(super) fn is_about_encryption(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::Authentication { reason: NO_RULE | NO_RULE_PLAIN, .. })
    }

    /// One failure stands for itself; several are told together.
    pub(super) fn from_failures(mut failures: Vec<Self>) -> Self {
        match (failures.pop(), failures.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                failures.extend(last);
                Self::AllHosts { failures }
            }
        }
    }

    pub(super) fn dns(target: &Target, error: io::Error) -> Self {
        Self::Dns { address: target.to_string(), reason: error.to_string(), source: error.into() }
    }

    pub(super) fn dns_empty(target: &Target) -> Self {
        let error = io::Error::new(io::ErrorKind::NotFound, "the name has no usable address");
        Self::dns(target, error)
    }

    pub(super) fn tls_setup(address: &str, error: TlsSetupError) -> Self {
        Self::Tls { address: address.to_owned(), reason: chain(&error), source: error.into() }
    }
}

fn list(failures: &[ConnectError]) -> String {
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

const NO_RULE: &str = "no rule in its pg_hba.conf lets this user into this database from here; add one";
const NO_RULE_PLAIN: &str = "no rule in its pg_hba.conf lets this user into this database from here without \
     encryption; add one, or use sslmode=require or verify-full in the database URL";

/// Where an error happened.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) address: &'a str,
    /// Whether TLS was in use or being agreed on.
    pub(super) encrypted: bool,
}

/// Sorts an error of the driver.
pub(super) fn classify(error: tokio_postgres::Error, place: Place<'_>) -> ConnectError {
    let address = place.address.to_owned();
    if let Some(code) = error.code().cloned() {
        return classify_answer(error, &code, place);
    }
    // The driver's kinds are private; its texts, which hold no variable part, stand for them.
    let kind = error.to_string();
    let cause = cause_text(&error);
    if let Some(io_error) = find::<io::Error>(&error).filter(|_| find::<rustls::Error>(&error).is_none()) {
        return classify_io(io_error.kind(), io_error.raw_os_error(), cause, address, error);
    }
    if kind.contains("TLS") {
        return ConnectError::Tls { address, reason: tls_reason(&error, cause), source: error.into() };
    }
    let password_missing = kind.contains("configuration") && cause.contains("password missing");
    if password_missing || kind.contains("authentication") {
        let reason = if password_missing {
            "it wants a password, and the database URL has none"
        } else if cause.contains("channel binding") {
            "channel_binding=require is not possible here; it needs TLS and a SCRAM password"
        } else {
            "it wants a way of logging in that is not supported; use scram-sha-256, or md5"
        };
        return ConnectError::Authentication { address, reason, source: error.into() };
    }
    // The server closed the session in the middle, as it does when it is stopped, or it does not speak Postgres.
    let transient = error.is_closed() || kind.contains("communicating");
    ConnectError::Other { address, reason: chain(&error), transient, source: error.into() }
}

fn classify_answer(error: tokio_postgres::Error, code: &SqlState, place: Place<'_>) -> ConnectError {
    let address = place.address.to_owned();
    let routine = error.as_db_error().and_then(|answer| answer.routine()).unwrap_or_default().to_owned();
    let message = error.as_db_error().map(|answer| answer.message().to_owned()).unwrap_or_default();
    let source = Source::from(error);
    match code.code() {
        "28P01" => {
            let reason = "user or password is wrong; correct them in the database URL (special characters are \
                 percent-encoded there)";
            ConnectError::Authentication { address, reason, source }
        }
        "28000" => {
            // The name of the function in the server does not depend on the server's language.
            let reason = match (routine.as_str(), place.encrypted) {
                ("ClientAuthentication", true) => NO_RULE,
                ("ClientAuthentication", false) => NO_RULE_PLAIN,
                ("InitializeSessionUserId", _) => "there is no such user, or it may not log in",
                _ => "the user may not log in this way",
            };
            ConnectError::Authentication { address, reason, source }
        }
        "42501" => {
            let reason = "the user has no CONNECT privilege for this database; GRANT it";
            ConnectError::Authentication { address, reason, source }
        }
        "3D000" => ConnectError::DatabaseMissing { address, source },
        "53300" => ConnectError::TooManyConnections { address, source },
        "57P01" | "57P02" | "57P03" => ConnectError::StartingUp { address, source },
        code => {
            let transient = ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class));
            ConnectError::Other { address, reason: format!("{message} (SQLSTATE {code})"), transient, source }
        }
    }
}

fn classify_io(
    kind: io::ErrorKind,
    os_error: Option<i32>,
    cause: String,
    address: String,
    error: tokio_postgres::Error,
) -> ConnectError {
    use io::ErrorKind as Kind;
    let connecting = error.to_string().contains("connecting");
    let source = Source::from(error);
    match kind {
        // The driver tells this one by an error that no operating system made.
        Kind::PermissionDenied if os_error.is_none() => {
            let reason = if cause.contains("not read only") {
                "it allows writes, and a read-only session is wanted"
            } else {
                "it is read-only, as a standby is, and writes are wanted"
            };
            ConnectError::NotReadWrite { address, reason, source }
        }
        Kind::NotFound if connecting => {
            let reason = "there is no such socket".to_owned();
            ConnectError::Refused { address, reason, source }
        }
        _ if connecting => ConnectError::Refused { address, reason: cause, source },
        Kind::InvalidInput | Kind::InvalidData => {
            ConnectError::Other { address, reason: cause, transient: false, source }
        }
        _ => {
            let reason = format!("the connection was lost before the session was ready ({cause})");
            ConnectError::Other { address, reason, transient: true, source }
        }
    }
}

fn tls_reason(error: &tokio_postgres::Error, cause: String) -> String {
    if cause.contains("does not support TLS") {
        return "the server offers no TLS; switch it on there, or use sslmode=disable if nobody else can listen on \
             the network in between"
            .to_owned();
    }
    let Some(tls_error) = find::<rustls::Error>(error) else { return cause };
    let advice = match tls_error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => {
                "; give the server's CA with sslrootcert=PATH, or use sslmode=require to encrypt without checking"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "; use a name that the certificate has, or sslmode=verify-ca with sslrootcert=PATH to leave the \
                 name unchecked"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "; renew it on the server",
            CertificateError::Other(_) if super::tls::is_ca_as_server(tls_error) => {
                return "the server's certificate is self-signed and not one that is trusted here; give it with \
                     sslrootcert=PATH, or use sslmode=require to encrypt without checking"
                    .to_owned();
            }
            CertificateError::Other(_) if cause.contains("UnsupportedCertVersion") => {
                return "the server's certificate is in the outdated X.509 version 1; make one of version 3, with a \
                     subjectAltName (openssl x509 -req with -extfile)"
                    .to_owned();
            }
            _ => "",
        },
        _ => "",
    };
    format!("{tls_error}{advice}")
}

/// Finds an error of a given type among the causes. An `io::Error` hides what it wraps from `source`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn cause_text(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Writes an error with its causes on one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a string can't fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}
