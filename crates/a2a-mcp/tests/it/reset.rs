//! Erasing everything: only on purpose, only what is ours, only alone.

use std::time::Duration;

use a2a_testing::wait::wait_until;

use crate::cli::Home;
use crate::world::World;

fn agents(home: &Home) -> u64 {
    home.run(&["agents", "list", "--json"]).code(0).json()["total"].as_u64().unwrap()
}

fn check(home: &Home, name: &str) {
    home.run(&["seed"]).code(0);
    let before = agents(home);
    assert!(before > 0);
    let asked = home.run(&["migrate", "reset"]).code(2);
    assert!(asked.err.contains(&format!("--yes --database {name}")) && asked.err.contains(&before.to_string()));
    for wrong in [&["--yes"][..], &["--yes", "--database", "other"], &["--database", name]] {
        home.run(&[&["migrate", "reset"], wrong].concat()).code(2);
    }
    assert_eq!(agents(home), before);
    let done = home.run(&["migrate", "reset", "--yes", "--database", name]).code(0);
    assert!(done.out.contains(&format!("erased {before} agents")), "{}", done.out);
    assert_eq!(agents(home), 0);
    let again = home.run(&["seed", "--json"]).code(0).json();
    assert_eq!(again["agents"]["created"], before, "nothing is remembered of what was there");
}

#[test]
fn everything_in_a_file_is_erased_when_its_name_is_given() {
    let home = Home::new();
    let none = home.run(&["migrate", "reset", "--yes", "--database", "a2a.db"]).code(1);
    assert!(none.err.contains("no tables of this program"), "{}", none.err);
    check(&home, "a2a.db");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_the_file_open_is_in_the_way() {
    let world = World::sqlite();
    let server = world.server().await;
    crate::world::deploy(&server, serde_json::json!({"id": "kept", "description": "x"})).await;
    let World::Sqlite(folder) = &world else { unreachable!() };
    let home = Home::with_database(format!("sqlite:{}", folder.path().join("a2a.db").display()));
    let reset = ["migrate", "reset", "--yes", "--database", "a2a.db", "--while-connected"];
    let refused = tokio::task::block_in_place(|| home.run(&reset[..5]));
    assert!(refused.code(1).err.contains("another process has the file open"));
    assert!(crate::world::document(&server, "kept").await.is_some());
    // Told to, it does it all the same, and the server sees that nothing is there any more.
    tokio::task::block_in_place(|| home.run(&reset)).code(0);
    wait_until(Duration::from_secs(5), "the server sees the empty database", async || {
        crate::world::document(&server, "kept").await.is_none()
    })
    .await;
    assert!(server.finish().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_erased_and_what_others_have_in_it_stays() {
    let Some(World::Postgres(database)) = World::postgres().await else { return };
    let url = database.url();
    let name = url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    database.execute("CREATE TABLE theirs (id int)").await;
    {
        let (url, name) = (url.clone(), name.clone());
        tokio::task::spawn_blocking(move || check(&Home::with_database(url), &name)).await.unwrap();
    }
    database.execute("INSERT INTO theirs VALUES (1)").await;
    // What depends on a table of ours keeps all of it.
    database.execute("CREATE VIEW their_view AS SELECT id FROM agents").await;
    let reset = move || {
        let home = Home::with_database(url);
        let refused = home.run(&["migrate", "reset", "--yes", "--database", &name, "--while-connected"]).code(3);
        assert!(refused.err.contains("their_view") || refused.err.contains("depend"), "{}", refused.err);
        assert!(agents(&home) > 0);
    };
    tokio::task::spawn_blocking(reset).await.unwrap();
}
