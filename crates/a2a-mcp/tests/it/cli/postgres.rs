//! The command line against a real Postgres.

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
