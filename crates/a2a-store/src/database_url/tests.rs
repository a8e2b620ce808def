use std::time::Duration;

use proptest::prelude::*;
use tokio_postgres::config::{ChannelBinding, SslNegotiation, TargetSessionAttrs};

use super::*;

fn postgres(text: &str) -> PostgresUrl {
    match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Postgres(url)) => url,
        other => panic!("{text} gives {other:?}"),
    }
}

fn error(text: &str) -> DatabaseUrlError {
    match DatabaseUrl::parse(text) {
        Err(error) => error,
        Ok(url) => panic!("{text} gives {url:?}"),
    }
}

#[test]
fn urls_of_the_usual_hosts_name_the_right_servers() {
    let cases = [
        ("postgres://localhost/app", "localhost:5432/app"),
        ("postgresql://localhost/app", "localhost:5432/app"),
        ("POSTGRES://localhost/app", "localhost:5432/app"),
        ("postgres://user@localhost/app", "localhost:5432/app"),
        // A container network, a hosted database, a pooler.
        ("postgres://postgres:postgres@db:5432/app", "db:5432/app"),
        (
            "postgresql://postgres:AbC123@containers-us-west-7.railway.app:6543/railway",
            "containers-us-west-7.railway.app:6543/railway",
        ),
        ("postgres://app_user:x1y2z3@dpg-abc123def-a/app_db", "dpg-abc123def-a:5432/app_db"),
        (
            "postgres://u:p@ep-cool-1.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
            "ep-cool-1.eu-central-1.aws.neon.tech:5432/neondb",
        ),
        (
            "postgres://postgres.ref:p@aws-0.pooler.supabase.com:6543/postgres?pgbouncer=true&connection_limit=1",
            "aws-0.pooler.supabase.com:6543/postgres",
        ),
        (
            "postgres://u:p@h.example/verceldb?sslmode=require&supa=base-pooler.x&connect_timeout=15",
            "h.example:5432/verceldb",
        ),
        ("postgresql://u:p@my_db:5432/app?schema=public", "my_db:5432/app?schema=public"),
        // Passwords.
        ("postgres://u:p%40ss%2Fw%3Ard@h/app", "h:5432/app"),
        ("postgres://u:a:b:c@h/app", "h:5432/app"),
        ("postgres://u:p#s!$&'()*+;=@h/app", "h:5432/app"),
        ("postgres://:p@h/app", "h:5432/app"),
        // Several hosts.
        ("postgres://u:p@a:1,b:2,c/app?target_session_attrs=read-write", "a:1,b:2,c:5432/app"),
        ("postgres:///app?host=a,b&port=1,2", "a:1,b:2/app"),
        ("postgres:///app?host=a,b&port=7", "a:7,b:7/app"),
        ("postgres://a,b/app?port=1,2", "a:1,b:2/app"),
        // Addresses.
        ("postgres://127.0.0.1:55/app", "127.0.0.1:55/app"),
        ("postgres://[::1]/app", "[::1]:5432/app"),
        ("postgres://[::1]:7,[2001:db8::2]/app", "[::1]:7,[2001:db8::2]:5432/app"),
        ("postgres:///app?hostaddr=10.0.0.1", "10.0.0.1:5432/app"),
        ("postgres://name.example/app?hostaddr=10.0.0.1", "name.example:5432/app"),
        // Unix sockets.
        ("postgres://%2Fvar%2Frun%2Fpostgresql/app", "/var/run/postgresql/.s.PGSQL.5432/app"),
        ("postgres:///app?host=/var/run/postgresql&port=7", "/var/run/postgresql/.s.PGSQL.7/app"),
        (
            "postgresql://u:p@localhost/app?host=/cloudsql/project:region:name",
            "/cloudsql/project:region:name/.s.PGSQL.5432/app",
        ),
        // Everything by parameter, other spellings, encoded names.
        ("postgres://?host=h&dbname=app&user=u&password=p", "h:5432/app"),
        ("postgres://h?dbname=app", "h:5432/app"),
        ("postgres://h:/app", "h:5432/app"),
        ("postgres://h/my%20app", "h:5432/my app"),
        ("postgres://h/app?", "h:5432/app"),
        ("postgres://h/app?ssl=true", "h:5432/app"),
        ("postgres://h/app?user=me@example.org", "h:5432/app"),
    ];
    for (text, expected) in cases {
        assert_eq!(DatabaseUrl::parse(text).expect(text).display_safe(), expected, "{text}");
    }
}

#[test]
fn what_is_not_a_url_of_a_database_is_refused_with_the_reason() {
    use DatabaseUrlError as E;
    let cases: &[(&str, &str)] = &[
        ("", "is empty"),
        ("  ", "is empty"),
        ("\"postgres://h/app\"", "quotation marks"),
        ("'postgres://h/app'", "quotation marks"),
        ("postgres://h/app\"", "quotation marks"),
        (" postgres://h/app", "at its beginning or end"),
        ("postgres://h/app\n", "at its beginning or end"),
        ("postgres://h/my app", "%20"),
        ("postgres://h/a\tb", "control character"),
        ("app.db", "use sqlite:PATH for a file"),
        ("/var/lib/app.db", "use sqlite:PATH for a file"),
        ("./app.db", "use sqlite:PATH for a file"),
        ("C:\\data\\app.db", "use sqlite:PATH for a file"),
        ("postgres", "use sqlite:PATH for a file"),
        ("localhost:5432/app", "has no scheme"),
        ("admin:secret@h/app", "has no scheme"),
        (":memory:", "A2A_STORAGE=memory"),
        ("host=localhost dbname=app", "postgres://USER"),
        ("postgre://h/app", "did you mean postgres://"),
        ("postgress://h/app", "did you mean postgres://"),
        ("postgressql://h/app", "did you mean postgres://"),
        ("psql://h/app", "did you mean postgres://"),
        ("postgresql+asyncpg://h/app", "did you mean postgres://"),
        ("jdbc:postgresql://h/app", "did you mean postgres://"),
        ("mysql://h/app", "mysql:// is not supported"),
        ("mongodb+srv://h/app", "mongodb+srv:// is not supported"),
        ("https://h/app", "https:// is not supported"),
        ("sqlite3:app.db", "did you mean sqlite:PATH"),
        ("sqllite://app.db", "did you mean sqlite:PATH"),
        ("postgres:h/app", "two slashes"),
        ("postgres:/h/app", "two slashes"),
        ("postgres://", "names no host"),
        ("postgres:///app", "names no host"),
        ("postgres://u:p@/app", "names no host"),
        ("postgres://h", "names no database"),
        ("postgres://h/", "names no database"),
        ("postgres://h?schema=x", "names no database"),
        ("postgres://h/a/b", "can't contain /"),
        ("postgres://h:0/app", "a number from 1 to 65535"),
        ("postgres://h:65536/app", "a number from 1 to 65535"),
        ("postgres://h:+5/app", "a number from 1 to 65535"),
        ("postgres://h:port/app", "a number from 1 to 65535"),
        ("postgres://::1/app", "a number from 1 to 65535"),
        ("postgres://[::1/app", "not a valid name or address"),
        ("postgres://[::1]5/app", "not a valid name or address"),
        ("postgres://h$/app", "not a valid name or address"),
        ("postgres://h,,i/app", "not a valid name or address"),
        ("postgres://a,b,c/app?port=1,2", "names 3 hosts and 2 ports"),
        ("postgres://a,b/app?hostaddr=10.0.0.1", "names 2 hosts and 1 addresses"),
        ("postgres://u:p@q@h/app", "must be percent-encoded"),
        ("postgres://u:p/q@h/app", "must be percent-encoded"),
        ("postgres://u:p?q@h/app", "must be percent-encoded"),
        ("postgres://u:100%@h/app", "a % itself is written %25"),
        ("postgres://u:%ff@h/app", "the password"),
        ("postgres://h/app?schemaa=x", "unknown parameter \"schemaa\""),
        ("postgres://h/app?search_path=x", "use schema=NAME"),
        ("postgres://h/app?sslcert=x", "sslrootcert"),
        ("postgres://h/app?sslmode", "unknown parameter after the ?"),
        ("postgres://h/app?sslmode=on", "disable, allow, prefer, require, verify-ca or verify-full"),
        ("postgres://h/app?sslmode=require&sslmode=disable", "sslmode is given twice"),
        ("postgres://h/app?sslmode=verify-ca", "needs sslrootcert=PATH"),
        ("postgres://h/app?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("postgres://h/app?sslnegotiation=direct", "needs sslmode=require"),
        ("postgres://h/app?target_session_attrs=prefer-standby", "target_session_attrs"),
        ("postgres://h/app?connect_timeout=soon", "connect_timeout"),
        ("postgres://h/app?connect_timeout=601", "connect_timeout"),
        ("postgres://h/app?hostaddr=name", "hostaddr"),
        ("postgres://h/app?gssencmode=require", "gssencmode"),
        ("postgres://h/app?pgbouncer=yes", "pgbouncer"),
        ("postgres://h/app?pgbouncer=true&schema=mine", "ALTER ROLE"),
        ("postgres://h/app?schema=", "one schema"),
        ("postgres://h/app?schema=a,b", "one schema"),
        ("postgres://h/app?schema=a;drop", "one schema"),
        ("postgres://h/app?schema=1a", "one schema"),
        ("postgres://h/app?schema=\"a\"b\"", "one schema"),
        ("postgres://h/app?schema=pg_catalog", "belong to Postgres"),
        ("sqlite:", "names no file"),
        ("sqlite://", "names no file"),
        ("file:", "names no file"),
        ("sqlite::memory:", "A2A_STORAGE=memory"),
        ("sqlite://:memory:", "A2A_STORAGE=memory"),
        ("file::memory:?cache=shared", "cache"),
        ("sqlite:app.db?mode=memory", "A2A_STORAGE=memory"),
        ("sqlite:app.db?mode=ro", "mode"),
        ("sqlite:/data/", "names a directory"),
        ("sqlite:.", "names a directory"),
        ("sqlite:~/app.db", "only a shell replaces"),
        ("sqlite:$HOME/app.db", "only a shell replaces"),
        ("sqlite:postgres://h/app", "another URL"),
        ("sqlite:a%00b", "NUL"),
    ];
    for (text, expected) in cases {
        let message = error(text).to_string();
        assert!(message.contains(expected), "{text:?} gives: {message}");
    }
    let hosts = vec!["h"; 17].join(",");
    assert_eq!(error(&format!("postgres://{hosts}/app")), E::TooManyHosts(16));
}

#[test]
fn sqlite_urls_name_files() {
    let cases = [
        ("sqlite:app.db", "app.db"),
        ("sqlite:./dir/app.db", "./dir/app.db"),
        ("sqlite:/abs/app.db", "/abs/app.db"),
        ("sqlite://app.db", "app.db"),
        ("sqlite://dir/app.db", "dir/app.db"),
        ("sqlite:///abs/app.db", "/abs/app.db"),
        ("SQLITE:app.db", "app.db"),
        ("file:app.db", "app.db"),
        ("file:///abs/app.db", "/abs/app.db"),
        ("sqlite:with space.db", "with space.db"),
        ("sqlite:with%20space%3F.db", "with space?.db"),
        ("sqlite:data.db?mode=rwc", "data.db"),
        ("sqlite:C:\\data\\app.db", "C:\\data\\app.db"),
    ];
    for (text, expected) in cases {
        match DatabaseUrl::parse(text) {
            Ok(DatabaseUrl::Sqlite(location)) => {
                assert_eq!(location, SqliteLocation::File(PathBuf::from(expected)), "{text}");
            }
            other => panic!("{text} gives {other:?}"),
        }
    }
}

#[test]
fn credentials_are_decoded() {
    let url = postgres("postgres://us%40er:p%40ss%2Fw%3Ard+%25@h/app");
    assert_eq!(url.config().get_user(), Some("us@er"));
    assert_eq!(url.config().get_password(), Some("p@ss/w:rd+%".as_bytes()));
    assert_eq!(url.database(), "app");
    let url = postgres("postgres://u:one@h/app?password=two&user=v");
    assert_eq!(url.config().get_user(), Some("v"));
    assert_eq!(url.config().get_password(), Some("two".as_bytes()));
    assert_eq!(postgres("postgres://h/app").config().get_password(), None);
}

#[test]
fn unset_times_are_short_and_set_ones_are_kept() {
    let url = postgres("postgres://h/app");
    assert_eq!(url.connect_timeout(), Duration::from_secs(2));
    assert_eq!(url.config().get_tcp_user_timeout(), Some(&Duration::from_secs(5)));
    assert!(url.config().get_keepalives());
    assert_eq!(url.config().get_keepalives_idle(), Duration::from_secs(10));
    assert_eq!(url.config().get_application_name(), Some("a2a-mcp"));
    assert_eq!(postgres("postgres://h/app?connect_timeout=0").connect_timeout(), Duration::from_secs(2));

    let url = postgres(
        "postgres://h/app?connect_timeout=9&tcp_user_timeout=1500&keepalives=0&keepalives_idle=8\
         &keepalives_interval=7&keepalives_count=6&application_name=mine&options=-c%20geqo%3Doff\
         &target_session_attrs=standby&channel_binding=require&load_balance_hosts=random\
         &sslnegotiation=direct&sslmode=require",
    );
    let config = url.config();
    assert_eq!(url.connect_timeout(), Duration::from_secs(9));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
    assert!(!config.get_keepalives());
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(8));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(7)));
    assert_eq!(config.get_keepalives_retries(), Some(6));
    assert_eq!(config.get_application_name(), Some("mine"));
    assert_eq!(config.get_options(), Some("-c geqo=off"));
    assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadOnly);
    assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(config.get_ssl_negotiation(), SslNegotiation::Direct);
    assert!(url.shuffled());
}

#[test]
fn plaintext_never_goes_to_another_machine_unless_tls_is_disabled() {
    use SslPolicy::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
    let cases = [
        ("", Prefer, VerifyFull),
        ("sslmode=disable", Disable, Disable),
        ("sslmode=allow", Allow, Require),
        ("sslmode=prefer", Prefer, Require),
        ("sslmode=require", Require, Require),
        ("ssl=true", Require, Require),
        ("ssl=true&sslmode=verify-full", VerifyFull, VerifyFull),
        ("sslmode=verify-full", VerifyFull, VerifyFull),
        ("sslmode=verify-ca&sslrootcert=ca.pem", VerifyCa, VerifyCa),
        ("sslmode=require&sslrootcert=ca.pem", VerifyCa, VerifyCa),
        ("sslrootcert=ca.pem", VerifyFull, VerifyFull),
        ("sslrootcert=system", VerifyFull, VerifyFull),
        ("sslaccept=strict", VerifyFull, VerifyFull),
        ("sslmode=require&sslaccept=strict", VerifyFull, VerifyFull),
        ("sslaccept=accept_invalid_certs", Require, Require),
        ("sslmode=verify-full&sslaccept=accept_invalid_certs", VerifyFull, VerifyFull),
    ];
    let local = ["localhost", "LOCALHOST", "db.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"];
    let remote = ["db", "example.org", "10.0.0.1", "localhost.example.org", "notlocalhost", "[::2]", "0.0.0.0"];
    for (query, at_home, away) in cases {
        for (hosts, expected) in [(local.as_slice(), at_home), (remote.as_slice(), away)] {
            for host in hosts {
                let url = postgres(&format!("postgres://{host}/app?{query}"));
                let target = url.targets().first().expect("one host");
                assert_eq!(url.ssl_for(target), expected, "{host} {query}");
            }
        }
        let url = postgres(&format!("postgres://localhost/app?host=/run/postgresql&{query}"));
        assert_eq!(url.ssl_for(&url.targets()[0]), Disable, "socket {query}");
        // The address that is connected to decides, not the name beside it.
        let url = postgres(&format!("postgres://localhost/app?hostaddr=10.0.0.1&{query}"));
        assert_eq!(url.ssl_for(&url.targets()[0]), away, "hostaddr {query}");
    }
    let url = postgres("postgres://localhost,example.org/app");
    assert_eq!(url.ssl_for(&url.targets()[0]), Prefer);
    assert_eq!(url.ssl_for(&url.targets()[1]), VerifyFull);
}

#[test]
fn schema_is_taken_literally_and_quoted() {
    let longest = "s".repeat(63);
    let cases = [
        ("mine", "\"mine\""),
        ("Mine", "\"Mine\""),
        ("_a-b$1", "\"_a-b$1\""),
        ("größe", "\"größe\""),
        ("%22My%20Own%22", "\"My Own\""),
        ("%22a%22%22b%22", "\"a\"\"b\""),
        ("\"1,2;--\"", "\"1,2;--\""),
        (longest.as_str(), &format!("\"{longest}\"")),
    ];
    for (text, expected) in cases {
        let url = postgres(&format!("postgres://h/app?schema={text}"));
        assert_eq!(url.schema_quoted().as_deref(), Some(expected), "{text}");
    }
    let message = error(&format!("postgres://h/app?schema={longest}s")).to_string();
    assert!(message.contains("63 bytes"), "{message}");
    assert_eq!(postgres("postgres://h/app").schema(), None);
    assert_eq!(postgres("postgres://h/app?pgbouncer=true&schema=public").schema(), None);
}

/// Encodes every byte, so that whatever the password is, the URL is valid.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn shown(result: &Result<DatabaseUrl, DatabaseUrlError>) -> String {
    match result {
        Ok(url) => format!("{} {url:?} {url:#?}", url.display_safe()),
        Err(error) => format!("{error} {error:?} {error:#?}"),
    }
}

proptest! {
    #[test]
    fn an_encoded_password_is_never_shown(
        password in "\\PC{6,20}",
        host in "(localhost|db\\.example\\.org|bad host|h:99999|)",
        query in "(|\\?schema=x|\\?sslmode=no|\\?nonsense=1|\\?sslmode|\\?user=a@b&x=1)",
    ) {
        let secret = encoded(&password);
        for text in [
            format!("postgres://user:{secret}@{host}/app{query}"),
            format!("postgres://{host}/app?password={secret}{}", query.replace('?', "&")),
            format!("mysql://user:{secret}@{host}/app{query}"),
        ] {
            let shown = shown(&DatabaseUrl::parse(&text));
            prop_assert!(!shown.contains(&password), "{}", shown);
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }
    }

    #[test]
    fn a_raw_password_is_never_shown_whatever_its_characters_cut_apart(
        head in "[a-z0-9]{0,4}[/?#@:%&=,\\[\\]]{0,3}",
        secret in "[A-Z]{8}",
        tail in "[/?#@:%&=,\\[\\]]{0,3}[a-z0-9]{0,4}",
        scheme in "(postgres://|postgresql://|postgress://|mysql://|postgres:|sqlite:postgres://|)",
        after in "(db\\.example\\.org/app|db\\.example\\.org/app\\?schema=x&sslmode=require|db\\.example\\.org:5432)",
    ) {
        let text = format!("{scheme}user:{head}{secret}{tail}@{after}");
        let shown = shown(&DatabaseUrl::parse(&text));
        prop_assert!(!shown.contains(&secret), "{} gives {}", text, shown);
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,60}", rest in "[a-z0-9:/?#@%&=,.\\[\\]]{0,60}") {
        let _ = DatabaseUrl::parse(&text);
        let _ = DatabaseUrl::parse(&format!("postgres://{rest}"));
        let _ = DatabaseUrl::parse(&format!("sqlite:{rest}"));
    }
}
