//! Sessions with a real Postgres: which login and which TLS is accepted, and how a refusal is told.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use a2a_store::database_url::{DatabaseUrl, PostgresUrl};
use a2a_store::postgres::connect::{ConnectError, Probe, Transport, probe};
use a2a_testing::postgres::{Cluster, skipped};
use a2a_testing::wait::wait_until;

const PASSWORD: &str = "hidden word/with@signs";
const PASSWORD_ENCODED: &str = "hidden%20word%2Fwith%40signs";

/// Lets only passwords in, and the superuser of the tests.
const HBA: &str = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all all scram-sha-256\n";

/// A cluster with a user that needs a password.
async fn cluster() -> Cluster {
    let cluster = Cluster::start_with(&[("max_connections", "20")]).await;
    let client = cluster.server().client("postgres").await;
    let statements = format!(
        "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE full LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0"
    );
    client.batch_execute(&statements).await.expect("the users");
    set_hba(&cluster, HBA).await;
    cluster
}

/// Writes a file into the data folder. The server does it, so that it belongs to the user that the server runs as.
async fn write_file(cluster: &Cluster, name: &str, text: &str) {
    let client = cluster.server().client("postgres").await;
    let statement = format!(
        "COPY (SELECT unnest(string_to_array(rtrim($text${text}$text$, E'\\n'), E'\\n'))) TO PROGRAM \
         'umask 077 && cat > {name}'"
    );
    client.batch_execute(&statement).await.expect("the file");
}

async fn set_hba(cluster: &Cluster, rules: &str) {
    write_file(cluster, "pg_hba.conf", rules).await;
    reload(cluster).await;
}

/// Lets the server read its settings, rules and certificates again, and waits until new sessions have them.
async fn reload(cluster: &Cluster) {
    let loaded = async || {
        let client = cluster.server().client("postgres").await;
        let row = client.query_one("SELECT pg_conf_load_time()::text", &[]).await.expect("a time");
        row.get::<_, String>(0)
    };
    let before = loaded().await;
    let client = cluster.server().client("postgres").await;
    client.batch_execute("SELECT pg_reload_conf()").await.expect("a reload");
    wait_until(Duration::from_secs(20), "the reload", async || loaded().await != before).await;
}

/// Switches TLS on with one of the certificates.
async fn set_certificate(cluster: &Cluster, name: &str) {
    write_file(cluster, "server.crt", &read(name)).await;
    write_file(cluster, "server.key", &read("server_key.pem")).await;
    let client = cluster.server().client("postgres").await;
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.expect("the setting");
    reload(cluster).await;
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/connect").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("a certificate")
}

fn parse(text: &str) -> PostgresUrl {
    match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Postgres(url)) => url,
        other => panic!("{text} gives {other:?}"),
    }
}

/// Looks at the server as the user with a password. The host is `localhost`, which the certificates are for.
async fn look(cluster: &Cluster, query: &str) -> Result<Probe, ConnectError> {
    let port = cluster.port();
    // A loaded machine may be slow, and time is not what these tests are about.
    let common = "connect_timeout=20";
    probe_text(&format!("postgres://app:{PASSWORD_ENCODED}@localhost:{port}/postgres?{common}&{query}")).await
}

async fn probe_text(text: &str) -> Result<Probe, ConnectError> {
    let result = probe(&parse(text)).await;
    let shown = match &result {
        Ok(found) => format!("{found:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(PASSWORD) && !shown.contains(PASSWORD_ENCODED), "{shown}");
    result
}

async fn transport(cluster: &Cluster, query: &str) -> Transport {
    match look(cluster, query).await {
        Ok(found) => found.transport,
        Err(error) => panic!("{query}: {error}"),
    }
}

/// The text of the TLS error that there must be.
async fn tls_error(cluster: &Cluster, query: &str) -> String {
    match look(cluster, query).await {
        Err(error @ ConnectError::Tls { .. }) => {
            assert!(!error.is_transient());
            error.to_string()
        }
        other => panic!("{query}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_are_told_apart() {
    if skipped() {
        return;
    }
    let cluster = cluster().await;
    let port = cluster.port();

    let found = look(&cluster, "sslmode=disable").await.expect("a session");
    assert_eq!(found.transport, Transport::Plain);
    assert_eq!(found.address, format!("localhost:{port}"));
    assert!(!found.read_only);
    assert!(found.server_version.starts_with(|c: char| c.is_ascii_digit()), "{}", found.server_version);

    let at = |user: &str, rest: &str| format!("postgres://{user}@127.0.0.1:{port}/{rest}");
    let app = format!("app:{PASSWORD_ENCODED}");
    let cases = [
        (at("app:wrong", "postgres"), "Authentication", "user or password is wrong"),
        (at("app", "postgres"), "Authentication", "has none"),
        (at("nobody:x", "postgres"), "Authentication", "user or password is wrong"),
        (at(&app, "missing"), "DatabaseMissing", "has no database of the name"),
        (at(&format!("full:{PASSWORD_ENCODED}"), "postgres"), "TooManyConnections", "no connection left"),
        (at(&app, "postgres?target_session_attrs=read-only"), "NotReadWrite", "it allows writes"),
        (
            at(&app, "postgres?target_session_attrs=read-write&options=-c%20default_transaction_read_only%3Don"),
            "NotReadWrite",
            "it is read-only",
        ),
        (at(&app, "postgres?channel_binding=require&sslmode=disable"), "Authentication", "channel_binding"),
        (at(&app, "postgres?options=-c%20no_such_setting%3D1"), "Other", "no_such_setting"),
    ];
    for (text, kind, expected) in cases {
        let error = probe_text(&text).await.expect_err(kind);
        assert!(format!("{error:?}").starts_with(kind), "{expected}: {error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
        let transient = matches!(kind, "TooManyConnections" | "NotReadWrite");
        assert_eq!(error.is_transient(), transient, "{error}");
        assert!(std::error::Error::source(&error).is_some(), "{error}");
    }

    // A host that is down is passed over.
    let found = probe_text(&format!("postgres://{app}@127.0.0.1:1,127.0.0.1:{port}/postgres")).await;
    assert_eq!(found.expect("the second host").address, format!("127.0.0.1:{port}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_as_far_as_the_url_asks() {
    if skipped() {
        return;
    }
    let cluster = cluster().await;
    let authority = path("authority.pem").display().to_string();
    let self_signed = path("self_signed.pem").display().to_string();
    let expired = path("expired.pem").display().to_string();

    // The server has no TLS yet.
    assert_eq!(transport(&cluster, "").await, Transport::Plain);
    assert_eq!(transport(&cluster, "sslmode=prefer").await, Transport::Plain);
    for query in ["sslmode=require", "sslmode=verify-full"] {
        assert!(tls_error(&cluster, query).await.contains("the server offers no TLS"), "{query}");
    }

    set_certificate(&cluster, "server.pem").await;
    assert_eq!(transport(&cluster, "").await, Transport::TlsUnverified);
    assert_eq!(transport(&cluster, "sslmode=disable").await, Transport::Plain);
    assert_eq!(transport(&cluster, "sslmode=allow").await, Transport::Plain);
    assert_eq!(transport(&cluster, "sslmode=require").await, Transport::TlsUnverified);
    assert_eq!(transport(&cluster, "sslmode=require&channel_binding=require").await, Transport::TlsUnverified);
    let query = format!("sslmode=verify-ca&sslrootcert={authority}");
    assert_eq!(transport(&cluster, &query).await, Transport::TlsVerifiedChain);
    let query = format!("sslmode=verify-full&sslrootcert={authority}");
    assert_eq!(transport(&cluster, &query).await, Transport::TlsVerifiedFull);
    let query = format!("sslmode=require&sslrootcert={authority}");
    assert_eq!(transport(&cluster, &query).await, Transport::TlsVerifiedChain);
    for query in [
        "sslmode=verify-full".to_owned(),
        "sslrootcert=system".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={self_signed}"),
    ] {
        assert!(tls_error(&cluster, &query).await.contains("UnknownIssuer"), "{query}");
    }

    set_certificate(&cluster, "other_name.pem").await;
    let query = format!("sslmode=verify-ca&sslrootcert={authority}");
    assert_eq!(transport(&cluster, &query).await, Transport::TlsVerifiedChain);
    let text = tls_error(&cluster, &format!("sslmode=verify-full&sslrootcert={authority}")).await;
    assert!(text.contains("other.example"), "{text}");

    set_certificate(&cluster, "self_signed.pem").await;
    assert_eq!(transport(&cluster, &format!("sslrootcert={self_signed}")).await, Transport::TlsVerifiedFull);
    assert!(tls_error(&cluster, "sslmode=verify-full").await.contains("is self-signed"));
    assert!(tls_error(&cluster, &format!("sslrootcert={authority}")).await.contains("is self-signed"));

    set_certificate(&cluster, "expired.pem").await;
    assert_eq!(transport(&cluster, "sslmode=require").await, Transport::TlsUnverified);
    let text = tls_error(&cluster, &format!("sslrootcert={expired}")).await;
    assert!(text.contains("expired") && text.contains("renew"), "{text}");

    // The rules of the server may want one kind of session only.
    set_hba(&cluster, &HBA.replace("host all all", "hostssl all all")).await;
    assert_eq!(transport(&cluster, "sslmode=allow").await, Transport::TlsUnverified);
    let error = look(&cluster, "sslmode=disable").await.expect_err("no rule");
    assert!(matches!(error, ConnectError::Authentication { .. }), "{error:?}");
    assert!(error.to_string().contains("without encryption"), "{error}");
    set_hba(&cluster, &HBA.replace("host all all", "hostnossl all all")).await;
    assert_eq!(transport(&cluster, "sslmode=prefer").await, Transport::Plain);
    let error = look(&cluster, "sslmode=require").await.expect_err("no rule");
    assert!(matches!(error, ConnectError::Authentication { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_or_stopped_server_is_a_transient_failure_in_bounded_time() {
    if skipped() {
        return;
    }
    let cluster = cluster().await;
    let port = cluster.port();
    let text = format!("postgres://app:{PASSWORD_ENCODED}@127.0.0.1:{port}/postgres?connect_timeout=1");

    cluster.pause().await;
    let started = Instant::now();
    let error = probe_text(&text).await.expect_err("paused");
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    cluster.resume().await;

    cluster.kill().await;
    let error = probe_text(&text).await.expect_err("killed");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(error.is_transient());

    cluster.start_again().await;
    assert!(look(&cluster, "").await.is_ok());
}
