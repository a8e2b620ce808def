//! Seeding: complete, repeatable, and without taking back what somebody has changed.

use serde_json::{Value, json};

use crate::cli::Home;
use crate::world::World;

fn counts(kind: &Value) -> [u64; 5] {
    ["created", "updated", "unchanged", "kept", "failed"].map(|name| kind[name].as_u64().unwrap())
}

fn check(home: &Home) {
    let dry = home.run(&["seed", "--dry-run", "--json"]).code(0).json();
    let agents = counts(&dry["agents"])[0];
    assert!(agents > 15, "{dry}");
    assert_eq!(home.run(&["agents", "list", "--json"]).code(0).json()["total"], 0, "a dry run writes nothing");

    let seeded = home.run(&["seed", "--json"]).code(0).json();
    assert_eq!(counts(&seeded["agents"]), [agents, 0, 0, 0, 0], "{seeded}");
    assert!(counts(&seeded["workflows"])[0] >= 1 && counts(&seeded["memories"])[0] >= 5, "{seeded}");
    let listed = home.run(&["agents", "list", "--all", "--json"]).code(0).json();
    let mut categories: Vec<&str> =
        listed["agents"].as_array().unwrap().iter().map(|agent| agent["category"].as_str().unwrap()).collect();
    categories.sort_unstable();
    categories.dedup();
    assert!(categories.len() >= 5, "{categories:?}");
    let echo = home.run(&["agents", "show", "echo", "--json"]).code(0).json();
    assert_eq!(echo["executor"]["kind"], "builtin");
    let found = home.run(&["memory", "search", "which", "clients", "share", "agents", "--json"]).code(0).json();
    assert!(!found["hits"].as_array().unwrap().is_empty(), "{found}");

    let again = home.run(&["seed", "--json"]).code(0).json();
    for kind in ["agents", "workflows", "memories"] {
        let [created, updated, unchanged, kept, failed] = counts(&again[kind]);
        assert_eq!([created, updated, kept, failed], [0; 4], "{kind}: {again}");
        assert!(unchanged > 0);
    }

    // One is changed by a user, one disabled, one removed, and one was left behind by an older version.
    let edited = json!({"id": "code-reviewer", "description": "Mine."});
    home.run_with_input(&["agents", "deploy", "-"], &edited.to_string()).code(0);
    home.run(&["agents", "remove", "echo"]).code(0);
    home.run(&["workflows", "remove", "bug-triage"]).code(0);
    let outdated = json!({"id": "postgres-tuner", "description": "Older."});
    let mut command = home.command(&["agents", "deploy", home.write("old.json", &outdated.to_string()).as_str()]);
    assert!(command.env("A2A_ACTOR", "a2a-mcp seed").status().unwrap().success());
    let kept = home.run(&["seed", "--json"]).code(0).json();
    assert_eq!(counts(&kept["agents"]), [0, 1, agents - 3, 2, 0], "{kept}");
    assert_eq!(counts(&kept["workflows"])[3], 1, "{kept}");
    assert_eq!(home.run(&["agents", "show", "code-reviewer", "--json"]).code(0).json()["description"], "Mine.");
    home.run(&["agents", "show", "echo"]).code(1);
    let tuner = home.run(&["agents", "show", "postgres-tuner", "--json"]).code(0).json();
    assert_ne!(tuner["description"], "Older.");
    let told = home.run(&["seed"]).code(0);
    assert!(told.out.contains("echo: ") && told.out.contains("has removed it"), "{}", told.out);
}

#[test]
fn an_installation_is_filled_once_and_changes_stay() {
    check(&Home::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_on_postgres_is_filled_once_and_changes_stay() {
    let Some(World::Postgres(database)) = World::postgres().await else { return };
    let url = database.url();
    tokio::task::spawn_blocking(move || check(&Home::with_database(url))).await.unwrap();
}

#[test]
fn generated_agents_come_on_top_and_only_once() {
    let home = Home::new();
    let shipped = home.run(&["seed", "--dry-run", "--json"]).code(0).json()["agents"]["created"].as_u64().unwrap();
    home.run(&["seed", "--scale", "450"]).code(0);
    let more = home.run(&["seed", "--scale", "500", "--json"]).code(0).json();
    assert_eq!(counts(&more["agents"]), [50, 0, shipped + 450, 0, 0], "{more}");
    let tagged = home.run(&["agents", "list", "--tag", "generated", "--json"]).code(0).json();
    assert_eq!(tagged["total"], 500);
    assert!(home.run(&["seed", "--scale", "100001"]).code(2).err.contains("100000"));
}
