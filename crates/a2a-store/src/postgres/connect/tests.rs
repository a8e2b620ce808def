//! What needs no Postgres: servers that are not there, that never answer, or that hang up.

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::database_url::DatabaseUrl;

fn url(text: &str) -> PostgresUrl {
    match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Postgres(url)) => url,
        other => panic!("{text} gives {other:?}"),
    }
}

async fn failure(text: &str) -> ConnectError {
    let error = match connect(&url(text)).await {
        Ok(connected) => panic!("{text} gives a session with {}", connected.address),
        Err(error) => error,
    };
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hidden-word"), "{shown}");
    error
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// A port that nobody listens on: one that was free a moment ago.
async fn closed_port() -> u16 {
    listener().await.1
}

#[tokio::test]
async fn a_closed_port_is_refused_and_may_be_tried_again() {
    let port = closed_port().await;
    let error = failure(&format!("postgres://u:hidden-word@127.0.0.1:{port}/app")).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");

    let error = failure("postgres:///app?host=/nowhere&password=hidden-word").await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("/nowhere/.s.PGSQL.5432"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_connect_timeout() {
    let (_open, port) = listener().await;
    for mode in ["disable", "prefer", "require", "verify-full"] {
        let started = Instant::now();
        let text = format!("postgres://u:hidden-word@127.0.0.1:{port}/app?connect_timeout=1&sslmode={mode}");
        let error = failure(&text).await;
        assert!(matches!(error, ConnectError::Timeout { .. }), "{mode}: {error:?}");
        assert!(error.is_transient());
        assert!(started.elapsed() < Duration::from_millis(1800), "{mode}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn every_host_is_tried_and_every_failure_is_told() {
    let closed = closed_port().await;
    let (_open, silent) = listener().await;
    let (hangs_up, hanging_up) = listener().await;
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = hangs_up.accept().await {
            drop(stream);
        }
    });
    let hosts = format!("127.0.0.1:{closed},127.0.0.1:{silent},127.0.0.1:{hanging_up}");
    let error = failure(&format!("postgres://u:hidden-word@{hosts}/app?connect_timeout=1")).await;
    server.abort();
    assert!(error.is_transient());
    let ConnectError::AllHosts { failures } = &error else { panic!("{error:?}") };
    let [first, second, third] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(matches!(first, ConnectError::Refused { .. }), "{first:?}");
    assert!(matches!(second, ConnectError::Timeout { .. }), "{second:?}");
    assert!(matches!(third, ConnectError::Other { transient: true, .. }), "{third:?}");
    for port in [closed, silent, hanging_up] {
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}

/// Answers the first message of each connection with one byte and gives the rest of what the client sends.
async fn answer_tls_request(listener: &TcpListener, answer: u8) -> (Vec<u8>, TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut request = vec![0; 8];
    stream.read_exact(&mut request).await.expect("the request");
    stream.write_all(&[answer]).await.expect("the answer");
    (request, stream)
}

#[tokio::test]
async fn a_server_without_tls_gets_no_password_when_tls_is_required() {
    use tokio::io::AsyncReadExt;
    for mode in ["require", "verify-full"] {
        let (listener, port) = listener().await;
        let text = format!("postgres://u:hidden-word@127.0.0.1:{port}/app?sslmode={mode}");
        let (error, rest) = tokio::join!(failure(&text), async {
            let (_, mut stream) = answer_tls_request(&listener, b'N').await;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("the end");
            rest
        });
        assert!(rest.is_empty(), "{mode}: {} bytes followed", rest.len());
        assert!(matches!(error, ConnectError::Tls { .. }), "{mode}: {error:?}");
        assert!(!error.is_transient());
        assert!(error.to_string().contains("sslmode=disable"), "{error}");
    }
}

#[tokio::test]
async fn a_root_file_that_is_missing_or_empty_is_a_tls_error_that_names_it() {
    let (_open, port) = listener().await;
    let empty = tempfile::NamedTempFile::new().expect("a file");
    for path in ["/nowhere/ca.pem", empty.path().to_str().expect("UTF-8")] {
        let error = failure(&format!("postgres://u@127.0.0.1:{port}/app?sslrootcert={path}")).await;
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[tokio::test]
async fn connectors_are_made_once_and_only_when_tls_may_be_used() {
    let closed = closed_port().await;
    let url = url(&format!("postgres://u@127.0.0.1:{closed}/app?sslmode=disable"));
    assert!(connect(&url).await.is_err());
    let connectors = url.connectors();
    assert!(connectors.is_empty());
    let roots = url.roots();
    let full = connectors.get(Some(Verification::Full), roots).await.expect("a connector");
    assert!(full.is_some());
    assert!(!url.clone().connectors().is_empty(), "clones share them");
    assert!(connectors.get(None, roots).await.expect("no connector").is_none());
}

#[test]
fn session_settings_quote_the_schema() {
    let settings = session_settings(&url("postgres://h/app?schema=%22a%22%22b%22"));
    assert!(settings.ends_with("SET search_path TO \"a\"\"b\";"), "{settings}");
    assert!(!session_settings(&url("postgres://h/app")).contains("search_path"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_session_has_its_settings_and_forwards_notifications() {
    use a2a_testing::postgres::{TestDatabase, postgres_or_skip};

    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    let text = database.url();
    let separator = if text.contains('?') { '&' } else { '?' };
    let url = url(&format!("{text}{separator}schema=Not_There&options=-c%20synchronous_commit%3Doff"));
    let (heard, mut hears) = tokio::sync::mpsc::channel(4);
    let (client, driver, transport) = open(&url, move |notification| {
        heard.try_send(notification.payload().to_owned()).expect("room for a payload");
    })
    .await
    .expect("a session");
    assert_eq!(transport, Transport::Plain);

    for (name, expected) in [
        ("search_path", "\"Not_There\""),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("client_min_messages", "warning"),
        ("TimeZone", "UTC"),
        ("synchronous_commit", "on"),
        ("application_name", "a2a-mcp"),
    ] {
        let row = client.query_one("SELECT current_setting($1)", &[&name]).await.expect(name);
        assert_eq!(row.get::<_, &str>(0), expected, "{name}");
    }

    client.batch_execute("LISTEN news; NOTIFY news, 'first'").await.expect("a notification");
    assert_eq!(hears.recv().await.as_deref(), Some("first"));

    let other = database.client().await;
    other.batch_execute("NOTIFY news, 'second'").await.expect("a notification");
    assert_eq!(hears.recv().await.as_deref(), Some("second"));

    // The driver ends with the session, on either side.
    database.terminate_connections("application_name = 'a2a-mcp'").await;
    driver.await.expect("the driver ends");
    assert!(client.is_closed());
    let (client, driver, _transport) = open(&url, |_| {}).await.expect("a session");
    drop(client);
    driver.await.expect("the driver ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_url_leaves_the_session_as_it_is() {
    use a2a_testing::postgres::{TestDatabase, postgres_or_skip};

    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    let text = database.url();
    let separator = if text.contains('?') { '&' } else { '?' };
    let url = url(&format!("{text}{separator}pgbouncer=true"));
    let (client, _driver, _transport) = open(&url, |_| {}).await.expect("a session");
    let row = client.query_one("SELECT current_setting('lock_timeout')", &[]).await.expect("a setting");
    assert_eq!(row.get::<_, &str>(0), "0");
}
