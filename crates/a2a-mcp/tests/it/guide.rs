//! The guide from memory to a database, followed to the letter.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::cli::{Ended, Home};
use crate::world::{World, binary};

/// The database that the guide names.
const URL: &str = "postgres://postgres:password@localhost:5432/a2a?schema=public";

/// What is marked to be run.
fn blocks(guide: &str) -> Vec<&str> {
    guide.split("\n```sh\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
}

fn follow(home: &Home, url: &str) {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert_eq!(guide.matches(URL).count(), 1);
    let folder = binary().parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut printed = String::new();
    for block in blocks(&guide) {
        let script = block.replace(URL, url);
        let mut shell = Command::new("sh");
        // The settings of this home, and nothing of the machine that the test runs on.
        let settings = home.command(&[]);
        for (variable, value) in settings.get_envs() {
            match value {
                Some(value) => shell.env(variable, value),
                None => shell.env_remove(variable),
            };
        }
        let done = shell.args(["-euc", &script]).env("PATH", &path).current_dir(home.path()).output().unwrap();
        let done = Ended::from(done);
        assert_eq!(done.code, 0, "{block}\n{}\n{}", done.out, done.err);
        printed.push_str(&format!("{block}\n{}", done.out));
        assert!(!printed.contains(url), "no password is printed: {printed}");
    }
    for expected in [
        "is up to date",
        "this was a dry run, nothing was written",
        "committed to",
        "Everything that was shown held.",
        "ok: it starts and answers",
        "PERSISTED, WARM",
        "created my-agent",
    ] {
        assert!(printed.contains(expected), "{expected:?} is not in\n{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_the_guide_works() {
    let Some(World::Postgres(database)) = World::postgres().await else { return };
    let home = Home::new();
    // Somebody with a client that knows another server.
    let text = "{\n  \"mcpServers\": {\n    \"other\": {\"command\": \"x\"}\n  }\n}\n";
    home.write(".claude.json", text);
    let url = database.url();
    tokio::task::block_in_place(|| follow(&home, &url));
    assert_eq!(std::fs::read_to_string(home.path().join(".claude.json")).unwrap(), text, "taken out again");
    let mode = std::fs::metadata(home.path().join(".env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = database.client().await;
    let agents = client.query_one("SELECT count(*) FROM agents WHERE namespace = 'default'", &[]).await.unwrap();
    assert!(agents.get::<_, i64>(0) > 15, "they are in the database, and not in a file");
}
