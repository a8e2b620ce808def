//! Taking a Postgres URL apart and putting the settings together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslNegotiation, TargetSessionAttrs};

use super::{PostgresUrl, RootCertificates, SslPolicy, Target, TargetHost};
use crate::database_url::{DatabaseUrlError, percent_decode, unknown_parameter};

/// How long one host may take from the first packet to a session that is ready, unless `connect_timeout` says
/// otherwise. A local or nearby server takes milliseconds, a far one with TLS some hundred; callers wait for this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest `connect_timeout`: everything that waits is bounded.
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 600;
/// A server that vanished without a word is noticed after about 10 + 3 * 3 s on an idle connection.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVES_RETRIES: u32 = 3;
/// The same on a connection with unacknowledged data, where keepalives do not run: a statement must fail soon enough
/// for its caller to retry elsewhere.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
const APPLICATION_NAME: &str = "a2a-mcp";
const PORT: u16 = 5432;
/// Each host may cost a whole connect timeout, so their number bounds the time.
const HOSTS_MAX: usize = 16;
/// Postgres cuts longer identifiers off, which would silently name another schema.
const SCHEMA_BYTES_MAX: usize = 63;

/// The parameters that are understood, in the order in which an error lists them.
const PARAMETERS: &str = "known are schema, sslmode, sslrootcert, host, port, hostaddr, dbname, user, password, \
     target_session_attrs, connect_timeout, application_name, options, channel_binding, load_balance_hosts, \
     sslnegotiation, keepalives, keepalives_idle, keepalives_interval, keepalives_count, tcp_user_timeout, pgbouncer";

/// What the URL says, before it is put together.
#[derive(Default)]
pub(super) struct Parts {
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    hosts: Vec<String>,
    ports: Vec<u16>,
    addresses: Vec<IpAddr>,
    schema: Option<String>,
    ssl: Option<SslPolicy>,
    /// Prisma's `sslaccept`: whether certificates are checked.
    ssl_strict: Option<bool>,
    roots: Option<RootCertificates>,
    pooled: bool,
    shuffled: bool,
    connect_timeout: Option<Duration>,
    config: Config,
}

impl Parts {
    pub(super) fn parse(authority: &str, path: &str, query: &str) -> Result<Self, DatabaseUrlError> {
        let mut parts = Self::default();
        parts
            .config
            .application_name(APPLICATION_NAME)
            .keepalives_idle(KEEPALIVES_IDLE)
            .keepalives_interval(KEEPALIVES_INTERVAL)
            .keepalives_retries(KEEPALIVES_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        let hosts = match authority.split_once('@') {
            Some((credentials, hosts)) => {
                let (user, password) = match credentials.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (credentials, None),
                };
                if !user.is_empty() {
                    parts.user = Some(percent_decode(user, "user")?);
                }
                parts.password = password.map(|text| percent_decode(text, "password")).transpose()?;
                hosts
            }
            None => authority,
        };
        for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
            let (name, port) = split_port(host)?;
            parts.hosts.push(percent_decode(name, "host")?);
            parts.ports.push(parse_port(port)?);
        }
        if !path.is_empty() {
            parts.database = Some(percent_decode(path, "database name")?);
        }
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| unknown_parameter("", String::new()))?;
            let value = percent_decode(value, "value of a parameter")?;
            parts.parameter(name, &value)?;
            // The name is known by now, so that it is safe to repeat it.
            if seen.contains(&name) {
                return Err(DatabaseUrlError::DuplicateParameter { name: name.to_owned() });
            }
            seen.push(name);
        }
        Ok(parts)
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), DatabaseUrlError> {
        match name {
            "host" => self.hosts = list(value),
            "port" => self.ports = value.split(',').map(parse_port).collect::<Result<_, _>>()?,
            "hostaddr" => {
                let addresses: Result<_, _> = value.split(',').map(str::parse).collect();
                self.addresses = addresses.map_err(|_| invalid("hostaddr", "an IP address, or several with commas"))?;
            }
            "dbname" => self.database = Some(value.to_owned()),
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(value.to_owned()),
            "schema" => self.schema = Some(parse_schema(value)?),
            "sslmode" => {
                let policy = SslPolicy::parse(value)
                    .ok_or_else(|| invalid("sslmode", "disable, allow, prefer, require, verify-ca or verify-full"))?;
                self.ssl = Some(policy);
            }
            "ssl" => {
                if flag(value) != Some(true) {
                    return Err(invalid("ssl", "true; for anything else use sslmode"));
                }
                self.ssl = self.ssl.or(Some(SslPolicy::Require));
            }
            "sslaccept" => {
                self.ssl_strict = Some(match value {
                    "strict" => true,
                    "accept_invalid_certs" => false,
                    _ => return Err(invalid("sslaccept", "strict or accept_invalid_certs")),
                });
            }
            "sslrootcert" => {
                self.roots = Some(match value {
                    "" => return Err(invalid("sslrootcert", "the path of a PEM file, or system")),
                    "system" => RootCertificates::System,
                    path => RootCertificates::File(PathBuf::from(path)),
                });
            }
            "pgbouncer" => {
                self.pooled = flag(value).ok_or_else(|| invalid("pgbouncer", "true or false"))?;
            }
            "connect_timeout" => {
                let seconds = number(value, CONNECT_TIMEOUT_SECONDS_MAX)
                    .ok_or_else(|| invalid("connect_timeout", "a number of seconds from 0 to 600"))?;
                // Waiting without end, which 0 means in libpq, is what this program never does.
                self.connect_timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            "load_balance_hosts" => {
                self.shuffled = match value {
                    "disable" => false,
                    "random" => true,
                    _ => return Err(invalid("load_balance_hosts", "disable or random")),
                };
            }
            "connection_limit"
            | "pool_timeout"
            | "socket_timeout"
            | "statement_cache_size"
            | "single_use_connections"
            | "supa"
            | "fallback_application_name"
            | "client_encoding" => {}
            "gssencmode" if matches!(value, "disable" | "prefer") => {}
            "gssencmode" => return Err(invalid("gssencmode", "disable or prefer; GSSAPI is not supported")),
            _ => return self.config_parameter(name, value),
        }
        Ok(())
    }

    /// The parameters that only have to be handed on.
    fn config_parameter(&mut self, name: &str, value: &str) -> Result<(), DatabaseUrlError> {
        const SECONDS: &str = "a number of seconds from 0 to 86400";
        let seconds = |name| number(value, 86_400).ok_or_else(|| invalid(name, SECONDS));
        let config = &mut self.config;
        match name {
            "application_name" if !value.is_empty() => config.application_name(value),
            "application_name" => config,
            "options" => config.options(value),
            "target_session_attrs" => config.target_session_attrs(match value {
                "any" => TargetSessionAttrs::Any,
                "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
                "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
                _ => {
                    return Err(invalid("target_session_attrs", "any, read-write, primary, read-only or standby"));
                }
            }),
            "channel_binding" => config.channel_binding(match value {
                "disable" => ChannelBinding::Disable,
                "prefer" => ChannelBinding::Prefer,
                "require" => ChannelBinding::Require,
                _ => return Err(invalid("channel_binding", "disable, prefer or require")),
            }),
            "sslnegotiation" => config.ssl_negotiation(match value {
                "postgres" => SslNegotiation::Postgres,
                "direct" => SslNegotiation::Direct,
                _ => return Err(invalid("sslnegotiation", "postgres or direct")),
            }),
            "keepalives" => config.keepalives(flag(value).ok_or_else(|| invalid("keepalives", "0 or 1"))?),
            "keepalives_idle" => match seconds("keepalives_idle")? {
                0 => config,
                seconds => config.keepalives_idle(Duration::from_secs(seconds)),
            },
            "keepalives_interval" => match seconds("keepalives_interval")? {
                0 => config,
                seconds => config.keepalives_interval(Duration::from_secs(seconds)),
            },
            "keepalives_count" | "keepalives_retries" => match number(value, 100) {
                Some(0) => config,
                Some(count) => config.keepalives_retries(u32::try_from(count).unwrap_or(KEEPALIVES_RETRIES)),
                None => return Err(invalid("keepalives_count", "a number from 0 to 100")),
            },
            "tcp_user_timeout" => match number(value, 86_400_000) {
                Some(0) => config,
                Some(milliseconds) => config.tcp_user_timeout(Duration::from_millis(milliseconds)),
                None => return Err(invalid("tcp_user_timeout", "a number of milliseconds")),
            },
            _ => return Err(unknown_parameter(name, hint(name))),
        };
        Ok(())
    }

    pub(super) fn build(mut self) -> Result<PostgresUrl, DatabaseUrlError> {
        let targets = self.targets()?;
        let database = self.database.take().filter(|name| !name.is_empty());
        let database = database.ok_or(DatabaseUrlError::DatabaseMissing)?;
        if database.contains('\0') || database.contains('/') {
            return Err(DatabaseUrlError::Conflict("the name of the database can't contain / or NUL"));
        }
        self.config.dbname(database);
        if let Some(user) = self.user.take().filter(|name| !name.is_empty()) {
            self.config.user(user);
        }
        if let Some(password) = self.password.take().filter(|text| !text.is_empty()) {
            self.config.password(password);
        }
        let (ssl, roots) = self.ssl()?;
        if self.pooled && self.schema.as_deref() == Some("public") {
            self.schema = None;
        }
        if self.pooled && self.schema.is_some() {
            return Err(DatabaseUrlError::Conflict(
                "schema= does not work with pgbouncer=true, because a transaction-mode pooler forgets it; \
                 run ALTER ROLE name SET search_path TO schema once, and leave schema= out",
            ));
        }
        Ok(PostgresUrl {
            config: Arc::new(self.config),
            targets,
            schema: self.schema,
            ssl,
            roots,
            pooled: self.pooled,
            read_only: false,
            shuffled: self.shuffled,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            connectors: Arc::default(),
        })
    }

    fn targets(&self) -> Result<Vec<Target>, DatabaseUrlError> {
        let names = if self.hosts.is_empty() {
            // With an address alone, that is also the name which a certificate is compared with.
            self.addresses.iter().map(ToString::to_string).collect()
        } else {
            self.hosts.clone()
        };
        let hosts = names.len();
        if hosts == 0 {
            return Err(DatabaseUrlError::HostMissing);
        }
        if hosts > HOSTS_MAX {
            return Err(DatabaseUrlError::TooManyHosts(HOSTS_MAX));
        }
        if !self.addresses.is_empty() && self.addresses.len() != hosts {
            let others = self.addresses.len();
            return Err(DatabaseUrlError::CountMismatch { hosts, what: "addresses (hostaddr)", others });
        }
        if self.ports.len() > 1 && self.ports.len() != hosts {
            let others = self.ports.len();
            return Err(DatabaseUrlError::CountMismatch { hosts, what: "ports", others });
        }
        let mut targets = Vec::with_capacity(hosts);
        for (index, name) in names.into_iter().enumerate() {
            let port = self.ports.get(index).or(self.ports.first()).copied().unwrap_or(PORT);
            let host = parse_host(name)?;
            targets.push(Target { host, address: self.addresses.get(index).copied(), port });
        }
        Ok(targets)
    }

    fn ssl(&mut self) -> Result<(Option<SslPolicy>, RootCertificates), DatabaseUrlError> {
        let roots = self.roots.take();
        let ssl = match (self.ssl, self.ssl_strict) {
            (None | Some(SslPolicy::Allow | SslPolicy::Prefer | SslPolicy::Require), Some(true)) => {
                Some(SslPolicy::VerifyFull)
            }
            (None, Some(false)) => Some(SslPolicy::Require),
            (ssl, _) => ssl,
        };
        let ssl = match (ssl, &roots) {
            // Whoever names a certificate wants it to be checked.
            (None, Some(_)) => Some(SslPolicy::VerifyFull),
            (Some(SslPolicy::VerifyFull), Some(RootCertificates::System)) => ssl,
            (Some(_), Some(RootCertificates::System)) => {
                return Err(DatabaseUrlError::Conflict(
                    "sslrootcert=system needs sslmode=verify-full: public CAs give a certificate to anybody, \
                     so that only the name in it tells whose it is",
                ));
            }
            (Some(SslPolicy::Require), Some(RootCertificates::File(_))) => Some(SslPolicy::VerifyCa),
            (Some(SslPolicy::VerifyCa), None) => {
                return Err(DatabaseUrlError::Conflict(
                    "sslmode=verify-ca needs sslrootcert=PATH with the CA; for a certificate of a public CA \
                     use sslmode=verify-full",
                ));
            }
            _ => ssl,
        };
        let weak = matches!(ssl, None | Some(SslPolicy::Disable | SslPolicy::Allow | SslPolicy::Prefer));
        if weak && self.config.get_ssl_negotiation() == SslNegotiation::Direct {
            return Err(DatabaseUrlError::Conflict(
                "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full",
            ));
        }
        Ok((ssl, roots.unwrap_or(RootCertificates::Default)))
    }
}

fn invalid(name: &'static str, expected: &'static str) -> DatabaseUrlError {
    DatabaseUrlError::InvalidParameter { name, expected }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|_| !value.is_empty()).map(str::to_owned).collect()
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Reads digits only: `parse` alone would take a sign.
fn number(value: &str, max: u64) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| digits && *number <= max)
}

/// Separates `name:port`, where the name may be an address in brackets.
fn split_port(host: &str) -> Result<(&str, &str), DatabaseUrlError> {
    match host.strip_prefix('[') {
        Some(bracketed) => {
            let (name, after) = bracketed.split_once(']').ok_or(DatabaseUrlError::HostInvalid)?;
            match after.strip_prefix(':') {
                Some(port) => Ok((name, port)),
                None if after.is_empty() => Ok((name, "")),
                None => Err(DatabaseUrlError::HostInvalid),
            }
        }
        None => Ok(host.split_once(':').unwrap_or((host, ""))),
    }
}

fn parse_port(text: &str) -> Result<u16, DatabaseUrlError> {
    if text.is_empty() {
        return Ok(PORT);
    }
    let port = number(text, u64::from(u16::MAX)).filter(|port| *port > 0);
    port.and_then(|port| u16::try_from(port).ok()).ok_or(DatabaseUrlError::PortInvalid)
}

fn parse_host(name: String) -> Result<TargetHost, DatabaseUrlError> {
    if name.starts_with('/') && !name.contains('\0') {
        return Ok(TargetHost::Unix(name));
    }
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    // Names in hosts files and container networks have underscores, whatever the DNS says.
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if is_name || name.parse::<IpAddr>().is_ok() {
        Ok(TargetHost::Tcp(name.to_owned()))
    } else {
        Err(DatabaseUrlError::HostInvalid)
    }
}

/// Reads the name of a schema. It is taken literally, upper case included, and in double quotes it may have any
/// character that an identifier may have.
fn parse_schema(value: &str) -> Result<String, DatabaseUrlError> {
    let expected = "one schema: letters, digits, _, - and $, beginning with a letter or _, of at most 63 bytes, \
         or any other name in double quotes (%22)";
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let (name, valid) = match quoted {
        Some(inner) => {
            let name = inner.replace("\"\"", "\"");
            let stray = inner.replace("\"\"", "").contains('"');
            let valid = !stray && !name.contains(char::is_control);
            (name, valid)
        }
        None => {
            let begins = value.starts_with(|first: char| first.is_alphabetic() || first == '_');
            let rest = value.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
            (value.to_owned(), begins && rest)
        }
    };
    if !valid || name.is_empty() || name.len() > SCHEMA_BYTES_MAX {
        return Err(invalid("schema", expected));
    }
    if name.starts_with("pg_") || name == "information_schema" {
        return Err(invalid("schema", "a schema of your own; pg_... and information_schema belong to Postgres"));
    }
    Ok(name)
}

/// Says what to use instead of a parameter that other programs know.
fn hint(name: &str) -> String {
    match name {
        "search_path" | "currentSchema" | "currentschema" | "schemas" => "; use schema=NAME".to_owned(),
        "sslcert" | "sslkey" | "sslpassword" | "sslidentity" | "sslcrl" => {
            "; client certificates and revocation lists are not supported, and the server's CA goes into sslrootcert"
                .to_owned()
        }
        "service" | "passfile" | "servicefile" => "; service and password files are not supported".to_owned(),
        "ssl_mode" | "tls" => "; use sslmode".to_owned(),
        "timeout" | "connectTimeout" => "; use connect_timeout=SECONDS".to_owned(),
        _ => format!("; {PARAMETERS}"),
    }
}
