//! The way to a Postgres server.

use a2a_store::database_url::PostgresUrl;
use a2a_store::postgres::connect::{ConnectError, Probe, Transport, probe};

use super::{Check, Findings, shown};

/// The oldest version that is supported: it has the transaction ids that the feed reads.
const VERSION_MIN: u32 = 13;

/// A farther server makes each write slow.
const ROUND_TRIP_SLOW: std::time::Duration = std::time::Duration::from_millis(50);

/// Looks at the server, at the protection of the connection and at what kind of session it is. Returns whether the
/// checks can go on.
pub(super) async fn check<F: FnMut(&Check)>(url: &PostgresUrl, only_reads: bool, findings: &mut Findings<F>) -> bool {
    let found = match probe(url).await {
        Ok(found) => found,
        Err(error) => {
            let (code, next) = advice(&error, url);
            let mut check = Check::fail("connect", code, error.to_string());
            check.next = next;
            findings.add(check);
            findings.skip(&["transport"], "needs a connection");
            return false;
        }
    };
    let reached = findings.add(connect(&found, only_reads));
    findings.add(transport(&found));
    if url.pooled() {
        let detail = "through a pooler in transaction mode, which passes no notifications: changes are seen by polling";
        findings.add(
            Check::warn("pooler", "pooled", detail).next(
                "give the direct address of the server, without pgbouncer=true, to see changes within milliseconds",
            ),
        );
    }
    reached
}

fn connect(found: &Probe, only_reads: bool) -> Check {
    const NAME: &str = "connect";
    let detail = format!(
        "Postgres {} at {}, session ready in {}, one round trip {}",
        found.server_version,
        found.address,
        shown(found.connect_time),
        shown(found.round_trip)
    );
    let major =
        found.server_version.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse::<u32>().ok());
    if major.is_some_and(|major| major < VERSION_MIN) {
        return Check::fail(NAME, "too_old", detail)
            .next(format!("update the server to Postgres {VERSION_MIN} or newer"));
    }
    if found.read_only && !only_reads {
        return Check::fail(NAME, "read_only", format!("{detail}, and it refuses writes, as a standby does"))
            .next("name the primary server in DATABASE_URL, or all servers with target_session_attrs=read-write");
    }
    if found.round_trip > ROUND_TRIP_SLOW {
        return Check::warn(NAME, "slow", format!("{detail}; under 10 ms is normal nearby"))
            .next("bring the database nearer: reads do not wait for it, but each write waits for several round trips");
    }
    Check::ok(NAME, detail)
}

fn transport(found: &Probe) -> Check {
    const NAME: &str = "transport";
    let detail = found.transport.to_string();
    match found.transport {
        Transport::TlsVerifiedFull | Transport::TlsVerifiedChain => Check::ok(NAME, detail),
        Transport::Plain | Transport::TlsUnverified if is_local(&found.address) => {
            Check::ok(NAME, format!("{detail}, and the server is on this machine"))
        }
        Transport::Plain => Check::warn(NAME, "plain", format!("{detail}: anyone on the way can read and change it"))
            .next("put sslmode=verify-full into DATABASE_URL"),
        Transport::TlsUnverified => {
            Check::warn(NAME, "unverified", format!("{detail}: anyone on the way can pretend to be the server"))
                .next("put sslmode=verify-full into DATABASE_URL, and sslrootcert=PATH if its authority is your own")
        }
    }
}

fn is_local(address: &str) -> bool {
    let (host, _port) = host_and_port(address);
    host.starts_with('/')
        || host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Takes `HOST:PORT`, `[IPV6]:PORT` or the path of a socket apart.
fn host_and_port(address: &str) -> (&str, &str) {
    if let Some((folder, port)) = address.split_once("/.s.PGSQL.") {
        return (folder, port);
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// A name for programs, and what to do.
fn advice(error: &ConnectError, url: &PostgresUrl) -> (&'static str, Option<String>) {
    let at = |address: &str| {
        let (host, port) = host_and_port(address);
        format!("-h {host} -p {port}")
    };
    let database = quoted(url.database());
    match error {
        ConnectError::Refused { address, .. } => ("refused", Some(format!("pg_isready {}", at(address)))),
        ConnectError::Dns { address, .. } => ("dns", Some(format!("getent hosts {}", host_and_port(address).0))),
        ConnectError::Timeout { address, .. } => {
            let (host, port) = host_and_port(address);
            ("timeout", Some(format!("nc -vz -w 5 {host} {port}    (no answer: a firewall, or a wrong address)")))
        }
        ConnectError::Tls { address, .. } => {
            let (host, port) = host_and_port(address);
            ("tls", Some(format!("openssl s_client -starttls postgres -connect {host}:{port} -servername {host}")))
        }
        ConnectError::Authentication { address, .. } => {
            ("authentication", Some(format!("psql {} -d {database} -U USER -c 'select 1'", at(address))))
        }
        ConnectError::DatabaseMissing { address, .. } => {
            ("database_missing", Some(format!("createdb {} -U USER {database}", at(address))))
        }
        ConnectError::TooManyConnections { address, .. } => (
            "too_many_connections",
            Some(format!(
                "psql {} -d {database} -U USER -c 'select usename, count(*) from pg_stat_activity group by 1'",
                at(address)
            )),
        ),
        ConnectError::StartingUp { address, .. } => ("starting_up", Some(format!("pg_isready {}", at(address)))),
        ConnectError::NotReadWrite { .. } => {
            ("read_only", Some("name the primary server, or wait for the failover to end".to_owned()))
        }
        // Each host may have its own cause; the text names them all.
        ConnectError::AllHosts { failures } => {
            failures.first().map_or(("all_hosts", None), |first| ("all_hosts", advice(first, url).1))
        }
        _ => ("other", None),
    }
}

/// A name that a shell takes as one word.
fn quoted(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if plain { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(host_and_port("db.example.com:5433"), ("db.example.com", "5433"));
        assert_eq!(host_and_port("[::1]:5432"), ("::1", "5432"));
        assert_eq!(host_and_port("/run/postgresql/.s.PGSQL.5432"), ("/run/postgresql", "5432"));
        for local in ["localhost:1", "127.0.0.2:1", "[::1]:1", "/run/.s.PGSQL.1"] {
            assert!(is_local(local), "{local}");
        }
        assert!(!is_local("10.0.0.1:1") && !is_local("localhost.example.com:1"));
    }

    #[test]
    fn names_are_safe_in_a_shell() {
        assert_eq!(quoted("a2a"), "a2a");
        assert_eq!(quoted("a'; rm -rf /"), r"'a'\''; rm -rf /'");
    }
}
