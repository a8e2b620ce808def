//! Import and export of agents, workflows and memories.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use a2a_testing::stdio::ServerOptions;

use crate::cli::Home;
use crate::world::{call, open};

mod broken;
mod card_url;
mod prisma;

/// What an import says: migrated, skipped, failed.
#[track_caller]
fn counts(summary: &Value) -> [u64; 3] {
    ["migrated", "skipped", "failed"].map(|field| summary[field].as_u64().unwrap())
}

#[track_caller]
fn import(home: &Home, args: &[&str], code: i32) -> Value {
    home.run(&[&["import"], args, &["--json"]].concat()).code(code).json()
}

/// All files of a folder and those in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn claude_agents_go_in_and_come_out_as_the_same_files() {
    let home = Home::new();
    let reviewer = "---\nname: code-reviewer\ndescription: Use when: code has changed\ntools: Read, Bash(git log:*, x)\n\
        model: sonnet\nhooks:\n  a: 1\n---\n\nYou review code.\n";
    home.write("in/01-quality/reviewer.md", reviewer);
    home.write("in/writer.md", "---\r\nname: writer\r\ndescription: \"Writes\"\r\n---\r\nBody\r\n");
    home.write("in/README.md", "# Not an agent\n");
    home.write("in/broken.md", "---\nname: broken\n---\n");
    let dry = import(&home, &["claude-agents", "in", "--dry-run"], 1);
    assert_eq!(counts(&dry), [2, 1, 1], "{dry}");
    assert_eq!(home.run(&["agents", "list", "--json"]).json()["total"], 0, "a dry run writes nothing");
    let first = import(&home, &["claude-agents", "in"], 1);
    assert_eq!(counts(&first), [2, 1, 1], "{first}");
    let failed = first["items"].as_array().unwrap().iter().find(|item| item["status"] == "failed").unwrap();
    assert!(failed["message"].as_str().unwrap().contains("lacks description"), "{failed}");
    assert_eq!(counts(&import(&home, &["claude-agents", "in"], 1)), [0, 3, 1], "it can be repeated");
    let shown = home.run(&["agents", "show", "code-reviewer", "--json"]).code(0).json();
    assert_eq!((&shown["category"], &shown["instructions"]), (&json!("quality"), &json!("\nYou review code.\n")));
    assert_eq!(shown["config"]["claude_agent"]["tools"], json!(["Read", "Bash(git log:*, x)"]));

    home.run(&["export", "claude-agents", "out"]).code(0);
    let mut expected = files(&home.path().join("in"));
    expected.retain(|name, _| name != "README.md" && name != "broken.md");
    assert_eq!(files(&home.path().join("out")), expected);
    home.write("out/writer.md", "mine");
    let refused = home.run(&["export", "claude-agents", "out"]).code(1);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert!(refused.out.starts_with("0 written, 1 unchanged, 0 skipped, 1 failed"), "{}", refused.out);
    home.run(&["export", "claude-agents", "out", "--force"]).code(0);
    assert_eq!(files(&home.path().join("out")), expected);
}

/// The public collection, which is not part of this repository.
#[test]
fn a_collection_of_claude_agents_arrives_whole() {
    let Some(folder) = std::env::var_os("A2A_CLAUDE_AGENTS") else {
        println!("skipped: A2A_CLAUDE_AGENTS names no folder of Claude Code subagents");
        return;
    };
    let home = Home::new();
    let folder = Path::new(&folder);
    let mut expected = files(folder);
    expected.retain(|name, _| name.ends_with(".md"));
    let summary = import(&home, &["claude-agents", folder.to_str().unwrap()], 0);
    assert_eq!(counts(&summary), [expected.len() as u64, 0, 0], "{summary}");
    home.run(&["export", "claude-agents", "out"]).code(0);
    assert_eq!(files(&home.path().join("out")), expected);
    println!("{} agents came out byte for byte", expected.len());
}

/// Questions whose agent is found first or second. Ten are wanted; a change that loses one of these is noticed.
const FOUND_MIN: usize = 8;

/// What people ask who look for help, each with who gives it.
const QUESTIONS: [(&str, &str); 10] = [
    ("my postgres queries got really slow after the migration", "postgres-pro"),
    ("can someone check whether our website works with a screen reader", "accessibility-tester"),
    ("we need to accept credit cards in the shop", "payment-integration"),
    ("our emails keep landing in spam", "email-deliverability-engineer"),
    ("pods keep restarting in our cluster, help", "kubernetes-specialist"),
    ("which licenses may our product use", "license-engineer"),
    ("turn this old COBOL style monolith into something modern", "legacy-modernizer"),
    ("write an app for iPhone in Swift", "swift-expert"),
    ("did the new button really win the experiment or was it luck", "ab-test-analysis"),
    ("does our handling of patient data follow the law", "hipaa-compliance"),
];

/// The public collection again, asked in one's own words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn natural_questions_find_the_agent_of_a_collection() {
    let Some(folder) = std::env::var_os("A2A_CLAUDE_AGENTS") else {
        println!("skipped: A2A_CLAUDE_AGENTS names no folder of Claude Code subagents");
        return;
    };
    let home = Home::new();
    let summary = import(&home, &["claude-agents", folder.to_str().unwrap()], 0);
    assert_eq!(summary["failed"], 0, "{summary}");
    let data = home.path().join("data").to_str().unwrap().to_owned();
    let server = open(ServerOptions::new(&["serve"], &[("A2A_DATA_DIR", &data)])).await;
    let mut found_early = 0;
    for (question, expected) in QUESTIONS {
        let found = call(&server, "agent_search", json!({"query": question})).await;
        let ids: Vec<&str> = found["agents"].as_array().unwrap().iter().filter_map(|hit| hit["id"].as_str()).collect();
        let rank = ids.iter().position(|id| *id == expected).map(|position| position + 1);
        found_early += usize::from(rank.is_some_and(|rank| rank <= 2));
        println!("{rank:?} {question}: {expected} among {ids:?}");
    }
    assert!(found_early >= FOUND_MIN, "{found_early} of {} are found first or second", QUESTIONS.len());
}

fn everything(home: &Home) -> Value {
    let mut documents = home.run(&["export", "json"]).code(0).json();
    // What the server stamps differs from place to place.
    for memory in documents["memories"].as_array_mut().unwrap() {
        let memory = memory.as_object_mut().unwrap();
        for stamp in ["id", "updated_at", "updated_by", "last_accessed", "provenance"] {
            memory.remove(stamp);
        }
    }
    documents
}

#[test]
fn documents_of_all_kinds_move_as_json_and_as_yaml() {
    let home = Home::new();
    let all = json!({
        "agents": [{"id": "a", "description": "Does: a", "instructions": "One\n\n two\n", "tags": ["no"],
            "capabilities": [{"name": "c", "input_schema": {"type": "object"}}]}],
        "workflows": [{"id": "w", "steps": [{"name": "s", "agent": "a", "input": {"x": "{{ input.x }}"}}]}],
        "memories": [{"content": "We deploy on Tuesdays", "key": "day", "tags": ["x"]}, {"content": "true"}],
    });
    home.write("all.json", &all.to_string());
    assert_eq!(counts(&import(&home, &["json", "all.json"], 0)), [4, 0, 0]);
    assert_eq!(counts(&import(&home, &["json", "all.json"], 0)), [0, 4, 0]);
    let expected = everything(&home);
    assert_eq!(expected["memories"].as_array().unwrap().len(), 2);
    for format in ["json", "yaml"] {
        let text = home.run(&["export", format]).code(0).out;
        let other = Home::new();
        let ended = other.run_with_input(&["import", format, "-", "--json"], &text).code(0);
        assert_eq!(counts(&ended.json()), [4, 0, 0], "{format}: {}", ended.out);
        assert_eq!(everything(&other), expected, "{format}");
    }
    let agents = home.run(&["export", "json", "--only", "agents"]).code(0).json();
    assert_eq!((agents["agents"].as_array().unwrap().len(), &agents["workflows"]), (1, &json!([])));
    let moved = home.run_with_input(&["import", "json", "-", "--namespace", "other"], &agents.to_string()).code(0);
    assert!(moved.out.starts_with("created agent a\n1 migrated, 0 skipped, 0 failed; committed"), "{}", moved.out);
    assert_eq!(home.run(&["agents", "list", "--namespace", "other", "--json"]).json()["total"], 1);
}

#[test]
fn the_file_of_the_memory_server_goes_in_by_the_same_way() {
    let home = Home::new();
    let graph = "{\"type\":\"entity\",\"name\":\"Ann\",\"entityType\":\"person\",\"observations\":[\"Likes tea\"]}\n";
    home.write("memory.jsonl", graph);
    let summary = home.run(&["import", "server-memory", "memory.jsonl", "--json"]).code(0).json();
    assert_eq!((&summary["stored"], &summary["failed"]), (&json!(1), &json!(0)));
    let exported = home.run(&["export", "server-memory"]).code(0).json();
    assert_eq!(exported, serde_json::from_str::<Value>(graph).unwrap());
}

#[test]
fn agent_cards_go_in_and_come_out_as_the_same() {
    let home = Home::new();
    let card = json!({"protocolVersion": "0.3.0", "name": "planner", "description": "Plans", "url": "https://h.example/rpc",
        "version": "1.0.0", "skills": [{"id": "route", "name": "Route", "description": "A to B", "tags": ["maps"]}]});
    home.write("card.json", &card.to_string());
    assert_eq!(counts(&import(&home, &["a2a-card", "card.json"], 0)), [1, 0, 0]);
    assert_eq!(counts(&import(&home, &["a2a-card", "card.json"], 0)), [0, 1, 0]);
    assert_eq!(home.run(&["agents", "list", "--capability", "route", "--json"]).code(0).json()["total"], 1);
    assert_eq!(home.run(&["export", "a2a-card", "planner"]).code(0).json(), card);
    assert_eq!(home.run(&["export", "a2a-card"]).code(0).json(), json!([card]));
    // No host is asked that the operator does not allow.
    let refused = import(&home, &["a2a-card", "https://h.example/"], 1);
    assert!(refused["items"][0]["message"].as_str().unwrap().contains("h.example"), "{refused}");
}

/// Waits until the agents are these.
#[track_caller]
fn agents_become(home: &Home, expected: &[(&str, &str)]) {
    let started = Instant::now();
    loop {
        let listed = home.run(&["agents", "list", "--json"]).code(0).json();
        let rows = listed["agents"].as_array().unwrap();
        let found: Vec<(&str, &str)> =
            rows.iter().map(|row| (row["id"].as_str().unwrap(), row["description"].as_str().unwrap())).collect();
        if found == expected {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{found:?} instead of {expected:?}");
    }
}

#[test]
fn a_folder_that_is_watched_is_followed() {
    let home = Home::new();
    let file = |name: &str, description: &str| format!("---\nname: {name}\ndescription: {description}\n---\n");
    home.write("in/a.md", &file("a", "one"));
    let mut command = home.command(&["import", "claude-agents", "in", "--watch", "--remove"]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    agents_become(&home, &[("a", "one")]);
    home.write("in/a.md", &file("a", "two"));
    home.write("in/deep/b.md", &file("b", "one"));
    agents_become(&home, &[("a", "two"), ("b", "one")]);
    // Somebody is in the middle of writing: the agent stays as it was.
    home.write("in/a.md", "---\nname: a\n");
    std::fs::rename(home.path().join("in/deep/b.md"), home.path().join("in/c.md")).unwrap();
    home.write("in/d.md", &file("d", "one"));
    agents_become(&home, &[("a", "two"), ("b", "one"), ("d", "one")]);
    std::fs::remove_file(home.path().join("in/a.md")).unwrap();
    agents_become(&home, &[("b", "one"), ("d", "one")]);
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    let wrong = home.run(&["import", "claude-agents", "-", "--watch"]).code(2);
    assert!(wrong.err.contains("not standard input"), "{}", wrong.err);
}
