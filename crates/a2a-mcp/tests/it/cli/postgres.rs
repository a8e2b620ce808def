//! The command line against a real Postgres.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use a2a_testing::postgres::{PostgresServer, TestDatabase, postgres_or_skip};

use super::{Home, examples};

async fn server() -> Option<PostgresServer> {
    postgres_or_skip().await
}

#[tokio::test]
async fn doctor_follows_the_way_to_postgres() {
    let Some(server) = server().await else { return };
    let database = TestDatabase::create(&server).await;
    let home = Home::new();
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str())];

    let empty = home.run_with(&variables, &["doctor", "--json"]).code(0).json();
    let codes = |report: &serde_json::Value| -> Vec<String> {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().map(|check| format!("{}={}", check["name"], check["code"]).replace('"', "")).collect()
    };
    assert!(codes(&empty).contains(&"schema=missing".to_owned()), "{empty}");
    home.run_with(&variables, &["migrate", "run"]).code(0);
    let report = home.run_with(&variables, &["doctor", "--json"]).code(0).json();
    for name in ["connect", "transport", "schema", "write", "load", "freshness"] {
        assert!(codes(&report).contains(&format!("{name}=ok")), "{report}");
    }
    assert!(home.files().is_empty(), "{:?}", home.files());

    let missing = server.url("no_such_database");
    let report = home.run_with(&[("DATABASE_URL", &missing)], &["doctor", "--json"]).code(3).json();
    assert_eq!(report["checks"][0]["code"], "database_missing", "{report}");
    assert!(report["checks"][0]["next"].as_str().unwrap().starts_with("createdb -h "), "{report}");
}

#[tokio::test]
async fn agents_are_kept_in_a_schema_of_their_own() {
    let Some(server) = server().await else { return };
    let database = TestDatabase::create(&server).await;
    let home = Home::new();
    let url = database.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}schema=team");
    let variables = [("DATABASE_URL", url.as_str())];
    home.run_with(&variables, &["agents", "deploy", &examples()]).code(0);
    let listed = home.run_with(&variables, &["agents", "list", "--json", "--all"]).code(0).json();
    assert!(listed["total"].as_u64().unwrap() >= 40, "{listed}");
    let rows = database.client().await.query("select count(*) from team.agents", &[]).await.unwrap();
    let count: i64 = rows[0].get(0);
    assert_eq!(Some(count), listed["total"].as_i64());
}

/// What a server does with whoever comes.
#[derive(Clone, Copy)]
enum Door {
    /// It refuses with this code.
    Refuses(&'static str),
    /// It has no TLS.
    Plain,
    /// It says nothing.
    Silent,
}

/// A port behind which there is a server of that kind, until the test process ends.
fn server_that(door: Door) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The first message is the length of itself, then the rest.
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut rest).unwrap();
            let answer = match door {
                Door::Refuses(code) => {
                    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mgo away\0\0");
                    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
                    [b"E".as_slice(), &length, fields.as_bytes()].concat()
                }
                Door::Plain => b"N".to_vec(),
                Door::Silent => {
                    silent.push(stream);
                    continue;
                }
            };
            stream.write_all(&answer).unwrap();
        }
    });
    port
}

#[test]
fn doctor_names_each_way_in_which_a_server_turns_it_away() {
    let home = Home::new();
    for (door, options, code, next) in [
        (Door::Refuses("28P01"), "sslmode=disable", "authentication", "psql -h 127.0.0.1 -p PORT -d a2a"),
        (Door::Refuses("53300"), "sslmode=disable", "too_many_connections", "pg_stat_activity"),
        (Door::Refuses("57P03"), "sslmode=disable", "starting_up", "pg_isready -h 127.0.0.1 -p PORT"),
        (Door::Plain, "sslmode=require", "tls", "openssl s_client -starttls postgres -connect 127.0.0.1:PORT"),
        (Door::Silent, "sslmode=disable&connect_timeout=2", "timeout", "nc -vz -w 5 127.0.0.1 PORT"),
    ] {
        let port = server_that(door);
        let url = format!("postgres://a2a:hunter2@127.0.0.1:{port}/a2a?{options}");
        let report = home.run_with(&[("DATABASE_URL", &url)], &["doctor", "--json"]).code(3).json();
        let check = &report["checks"][0];
        assert_eq!((&check["status"], &check["code"]), (&"fail".into(), &code.into()), "{report}");
        let said = check["next"].as_str().unwrap();
        assert!(said.contains(&next.replace("PORT", &port.to_string())), "{code}: {said}");
        assert!(!report.to_string().contains("hunter2"), "{report}");
    }
    let url = "postgres://a2a:hunter2@no-such-host.invalid/a2a?sslmode=disable";
    let report = home.run_with(&[("DATABASE_URL", url)], &["doctor", "--json"]).code(3).json();
    assert_eq!(report["checks"][0]["code"], "dns", "{report}");
    assert_eq!(report["checks"][0]["next"], "getent hosts no-such-host.invalid");
}
