//! Import and export.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{all, show, store, written};
use crate::cli::{Ended, Home};

/// Writes one test for each backend of cases that begin with an empty home.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(server) = a2a_testing::postgres::postgres_or_skip().await else { return };
                    let database = a2a_testing::postgres::TestDatabase::create(&server).await;
                    super::$case(&crate::cli::Home::with_database(database.url()));
                }
            )*
        }
        mod sqlite {
            $(
                #[test]
                fn $case() {
                    super::$case(&crate::cli::Home::new());
                }
            )*
        }
    };
}

on_both!(
    a_graph_of_the_memory_server_comes_out_as_it_went_in,
    memories_move_to_another_place_with_their_history_and_references,
    an_import_that_was_killed_goes_on,
);

/// The lines of an export.
fn lines(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn export(home: &Home, more: &[&str]) -> Vec<Value> {
    lines(&home.run(&[&["memory", "export"], more].concat()).code(0))
}

fn jsonl(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn counts(summary: &Value) -> [u64; 4] {
    ["stored", "known", "skipped", "failed"].map(|field| summary[field].as_u64().unwrap())
}

#[track_caller]
fn import(home: &Home, file: &str, more: &[&str]) -> [u64; 4] {
    counts(&home.run(&[&["memory", "import", file, "--json"], more].concat()).code(0).json())
}

fn entity(name: &str, kind: &str, observations: &[&str]) -> Value {
    json!({"type": "entity", "name": name, "entityType": kind, "observations": observations})
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"type": "relation", "from": from, "to": to, "relationType": kind})
}

fn a_graph_of_the_memory_server_comes_out_as_it_went_in(home: &Home) {
    let graph = [
        entity(
            "John_Smith",
            "person",
            &["Speaks fluent Spanish", "Graduated in 2019", "Prefers morning meetings", " starts with a space"],
        ),
        entity("Anthropic", "company", &[]),
        // Names that run into what is written around them.
        entity("A: b", "x", &["c"]),
        entity("A", "x", &["b: c", "", " ", "two\nlines", "\u{202e}\u{1b}[2J", "{\"type\":\"entity\"}"]),
        entity("A", "y", &["of another type"]),
        entity("", "", &["nameless"]),
        entity("  ", "(", &[]),
        entity("works_at", "entity", &["naïve 🦀"]),
        entity("John_Smith works_at Anthropic", "", &[]),
        relation("John_Smith", "works_at", "Anthropic"),
        relation("John_Smith", "works_at Anthropic", ""),
        relation("", "", ""),
        relation("nobody", "knows", "no one"),
    ];
    let file = home.write("memory.jsonl", &jsonl(&graph));
    let memories = 4 + 1 + 1 + 6 + 1 + 1 + 1 + 1 + 1 + 4;
    assert_eq!(import(home, &file, &["--dry-run"]), [memories, 0, 0, 0]);
    assert_eq!(all(home, &[]).len(), 0, "a dry run writes nothing");
    assert_eq!(import(home, &file, &[]), [memories, 0, 0, 0]);
    assert_eq!(export(home, &["--format", "server-memory"]), graph);

    let found = all(home, &[]);
    let john = &found["John_Smith: Graduated in 2019"];
    assert_eq!((&john["type"], &john["provenance"]["trust"]), (&json!("semantic"), &json!("external")));
    let observed = json!({"entity": "John_Smith", "entity_type": "person", "observation": "Graduated in 2019"});
    assert_eq!(john["data"], observed);
    assert_eq!(found["nobody knows no one"]["data"]["relation"]["relationType"], "knows");
    let hits = home.run(&["memory", "search", "which languages does John speak", "--json"]).code(0).json();
    assert_eq!(hits["hits"][0]["content"], "John_Smith: Speaks fluent Spanish", "{hits}");

    // Again, with one observation more: it comes last.
    let mut more = graph.to_vec();
    more[0]["observations"].as_array_mut().unwrap().push(json!("Moved to Lisbon"));
    let file = home.write("memory.jsonl", &jsonl(&more));
    assert_eq!(import(home, &file, &["--dry-run"]), [1, memories, 0, 0]);
    assert_eq!(import(home, &file, &[]), [1, memories, 0, 0]);
    assert_eq!(import(home, &file, &[]), [0, memories + 1, 0, 0]);
    assert_eq!(export(home, &["--format", "server-memory"]), more);
    assert_eq!(all(home, &[])["John_Smith: Graduated in 2019"]["frequency"], 1, "it was not told again");
    // What an own memory takes the place of is not brought back.
    let id = all(home, &[])["John_Smith: Moved to Lisbon"]["id"].as_str().unwrap().to_owned();
    home.run(&["memory", "update", &id, "--set", r#"{"content": "John_Smith: Moved to Porto"}"#]).code(0);
    assert_eq!(import(home, &file, &[]), [0, memories + 1, 0, 0]);
    let exported = export(home, &["--format", "server-memory"]);
    let john = exported[0]["observations"].as_array().unwrap();
    assert!(john.contains(&json!("Moved to Porto")) && !john.contains(&json!("Moved to Lisbon")), "{exported:?}");
}

#[test]
fn other_memories_are_exported_as_entities() {
    let home = Home::new();
    store(&home, &["We deploy on Tuesdays", "--key", "deploy-day"]);
    let id = store(&home, &["Ann likes tea", "--type", "preference"]);
    let graph = export(&home, &["--format", "server-memory"]);
    assert_eq!(
        graph,
        [entity("deploy-day", "semantic", &["We deploy on Tuesdays"]), entity(&id, "preference", &["Ann likes tea"])]
    );
    assert_eq!(export(&home, &["--format", "server-memory", "--type", "preference"]).len(), 1);
}

fn memories_move_to_another_place_with_their_history_and_references(home: &Home) {
    let old = store(home, &["We deploy on Tuesdays", "--key", "deploy-day"]);
    let new =
        store(home, &["We deploy on Thursdays", "--key", "deploy-day", "--tag", "release", "--importance", "0.7"]);
    // The same is so again.
    let again = store(home, &["We deploy on Tuesdays", "--key", "deploy-day"]);
    let turn = |text: &str| store(home, &[text, "--type", "conversation", "--session", "s-1", "--user", "ann"]);
    let (question, answer) = (turn("Shall we ship?"), turn("Yes."));
    let soon = store(home, &["The badge is valid for a day", "--expires-in-s", "86400", "--agent", "porter"]);
    // One that comes later, one that came before, and one that goes.
    let gone = store(home, &["Gone"]);
    let relations = json!([{"kind": "see", "to": answer}, {"kind": "after", "to": old}, {"kind": "of", "to": gone}]);
    home.run(&["memory", "update", &question, "--set", &json!({"relations": relations}).to_string()]).code(0);
    home.run(&["memory", "forget", &gone, "--purge", "--yes"]).code(0);
    let replaced = home.run(&["memory", "update", &soon, "--set", r#"{"content": "The badge is valid for two days"}"#]);
    replaced.code(0);

    let exported = export(home, &["--superseded", "--expired"]);
    let file = home.write("all.jsonl", &jsonl(&exported));
    let there = Home::new();
    let summary = there.run(&["memory", "import", &file, "--json"]).code(0).json();
    assert_eq!((counts(&summary), &summary["references_left_out"]), ([7, 0, 0, 0], &json!(1)));
    assert_eq!(summary["format"], "jsonl");
    let imported = export(&there, &["--superseded", "--expired"]);
    let plain = |lines: &[Value]| lines.iter().map(written).collect::<Vec<_>>();
    assert_eq!(plain(&imported), plain(&exported));
    for memory in &imported {
        assert_eq!(memory["provenance"]["trust"], "external");
    }
    let new_id = |id: &str| {
        let place = exported.iter().position(|memory| memory["id"] == id).unwrap();
        imported[place]["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(show(&there, &new_id(&old))["superseded_by"], new_id(&new));
    assert_eq!(show(&there, &new_id(&new))["superseded_by"], new_id(&again));
    assert_eq!(show(&there, &new_id(&again))["superseded_by"], Value::Null);
    assert!(show(&there, &new_id(&soon))["superseded_by"].is_string());
    let mut relations = show(&there, &new_id(&question))["relations"].as_array().unwrap().clone();
    relations.sort_by_key(|relation| relation["kind"].to_string());
    assert_eq!(
        relations,
        [json!({"kind": "after", "to": new_id(&old)}), json!({"kind": "see", "to": new_id(&answer)})]
    );
    // Again it changes nothing, there and where it comes from.
    for home in [&there, home] {
        let before = export(home, &["--superseded", "--expired"]);
        assert_eq!(import(home, &file, &[]), [0, 7, 0, 0]);
        let after = export(home, &["--superseded", "--expired"]);
        let state = |lines: &[Value]| {
            let fields = ["id", "content", "superseded_by", "relations", "frequency", "revision"];
            lines.iter().map(|line| fields.map(|field| line[field].clone())).collect::<Vec<_>>()
        };
        assert_eq!(state(&after), state(&before));
    }
    // Into another namespace of the same database.
    assert_eq!(import(home, &file, &["--namespace", "copy"]), [7, 0, 0, 0]);
    assert_eq!(all(home, &["--namespace", "copy"]).len(), 4);
}

#[test]
fn equal_turns_of_a_conversation_stay_apart() {
    let home = Home::new();
    let turn =
        |text: &str, at: &str| json!({"content": text, "type": "conversation", "session": "s", "created_at": at});
    let turns = [
        turn("More?", "2026-01-01T10:00:00Z"),
        turn("yes", "2026-01-01T10:01:00Z"),
        turn("Still more?", "2026-01-01T10:02:00Z"),
        turn("yes", "2026-01-01T10:05:00Z"),
    ];
    let file = home.write("turns.jsonl", &jsonl(&turns));
    assert_eq!(import(&home, &file, &[]), [4, 0, 0, 0]);
    assert_eq!(import(&home, &file, &[]), [0, 4, 0, 0]);
    let read = home.run(&["memory", "turns", "s", "--json"]).code(0).json();
    let said: Vec<&Value> = read["turns"].as_array().unwrap().iter().map(|turn| &turn["content"]).collect();
    assert_eq!(said, ["More?", "yes", "Still more?", "yes"]);
}

#[test]
fn what_was_outdated_does_not_come_to_life() {
    let home = Home::new();
    let old = json!({"id": "mem-old", "content": "The office is in Bonn", "superseded_by": "mem-new"});
    let new = json!({"id": "mem-new", "content": "The office is in Berlin", "supersedes": ["mem-old"]});
    let part = home.write("part.jsonl", &jsonl(&[old.clone(), json!({"content": "Something else"})]));
    assert_eq!(import(&home, &part, &[]), [1, 0, 1, 0]);
    assert_eq!(all(&home, &["--superseded"]).keys().collect::<Vec<_>>(), ["Something else"]);
    let whole = home.write("whole.jsonl", &jsonl(&[old, new]));
    assert_eq!(import(&home, &whole, &[]), [2, 0, 0, 0]);
    assert_eq!(all(&home, &[]).len(), 2);
}

#[test]
fn bad_lines_are_told_and_left_out() {
    let home = Home::new();
    let secret = format!("The token is ghp_{}", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8");
    let text = [
        "\u{feff}{\"content\": \"First\", \"created_at\": \"2026-02-03T04:05:06.789Z\"}\r".to_owned(),
        "{\"content\": ".to_owned(),
        String::new(),
        "[1]".to_owned(),
        "{\"content\": \"\"}".to_owned(),
        "{\"content\": \"x\", \"colour\": \"red\"}".to_owned(),
        json!({"content": secret}).to_string(),
        "{\"content\": \"Over\", \"expires_at\": \"2020-01-01T00:00:00Z\"}".to_owned(),
        format!("{{\"content\": \"{}\"}}", "long ".repeat(1024 * 1024)),
        "{\"content\": \"x\", \"created_at\": \"soon\"}".to_owned(),
        "{\"content\": \"x\", \"relations\": 7}".to_owned(),
        "{\"content\": \"First\"}".to_owned(),
        // Without the end of a line.
        "{\"content\": \"Last\", \"created_at\": \"2999-01-01T00:00:00Z\"}".to_owned(),
    ]
    .join("\n");
    let file = home.write("mixed.jsonl", &text);
    let dry = home.run(&["memory", "import", &file, "--dry-run", "--json"]).code(1).json();
    assert_eq!(counts(&dry), [2, 1, 1, 8]);
    let ended = home.run(&["memory", "import", &file]).code(1);
    assert!(ended.out.starts_with("2 stored, 1 known, 1 skipped, 8 failed; committed to "), "{}", ended.out);
    for told in [
        "line 2: is not valid JSON",
        "line 4: is not a JSON object",
        "line 5.content: is empty",
        "line 6.colour",
        "line 7.content: holds what looks like a secret (GitHub token",
        "line 8 has expired at 2020-01-01",
        "line 9: is longer than 4 MiB",
        "line 10: created_at is not a time",
        "line 11: relations must be",
    ] {
        assert!(ended.err.contains(told), "{told}:\n{}", ended.err);
    }
    assert!(!ended.err.contains("A1b2C3"), "{}", ended.err);
    let found = all(&home, &[]);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["First", "Last"]);
    assert_eq!(found["First"]["created_at"], "2026-02-03T04:05:06.789Z");
    assert!(found["Last"]["created_at"].as_str().unwrap() < "2999", "nothing is told in the future");

    let again = home.run(&["memory", "import", &file, "--redact", "--json"]).code(1).json();
    assert_eq!((counts(&again), &again["redacted"]), ([1, 3, 1, 7], &json!(1)));
    let not_stored = again["not_stored"].as_array().unwrap();
    let named: Vec<u64> = not_stored.iter().map(|item| item["line"].as_u64().unwrap()).collect();
    assert_eq!(named.len(), 8);
    assert!(not_stored.iter().any(|item| item["line"] == 8 && item["status"] == "skipped"), "{again}");
    assert!(all(&home, &[]).contains_key("The token is [redacted: GitHub token]"));

    let graph = "{\"type\":\"entity\",\"name\":\"A\",\"entityType\":\"x\",\"observations\":[\"one\",2]}\n\
                 {\"type\":\"relation\",\"from\":\"A\",\"to\":\"B\"}\n{\"type\":\"entity\",\"name\":\"B\",\"entityType\":\"x\",\
                 \"observations\":[\"two\"]}\n";
    let ended = home.run_with_input(&["memory", "import", "-", "--format", "server-memory"], graph).code(1);
    assert!(ended.err.contains("line 1: observations[1] must be a text"), "{}", ended.err);
    assert!(ended.err.contains("line 2: relationType is missing"), "{}", ended.err);
    assert!(ended.out.starts_with("1 stored, 0 known, 0 skipped, 2 failed"), "{}", ended.out);
    assert!(home.run_with_input(&["memory", "import", "-"], "").code(0).out.starts_with("0 stored"));
    let unclear = home.run_with_input(&["memory", "import", "-"], "{\"x\": 1}\n").code(2).err;
    assert!(unclear.contains("name the --format"), "{unclear}");
}

#[test]
fn text_from_outside_changes_no_trusted_memory() {
    let home = Home::new();
    store(&home, &["We deploy on Tuesdays", "--key", "deploy-day"]);
    let file = home.write("other.jsonl", "{\"content\": \"We never deploy\", \"key\": \"deploy-day\"}\n");
    let ended = home.run(&["memory", "import", &file]).code(1);
    assert!(ended.err.contains("line 1: not stored") && ended.err.contains("trust"), "{}", ended.err);
    // Nor does it say what a known one has to do with.
    let known = json!({"id": "mem-1", "content": "We deploy on Tuesdays", "key": "deploy-day",
        "relations": [{"kind": "see", "to": "mem-2"}]});
    let file = home.write("other.jsonl", &jsonl(&[known, json!({"id": "mem-2", "content": "Something else"})]));
    let summary = home.run(&["memory", "import", &file, "--json"]).code(0).json();
    assert_eq!((counts(&summary), &summary["references_left_out"]), ([1, 1, 0, 0], &json!(1)));
    let found = all(&home, &[]);
    assert_eq!((found.len(), &found["We deploy on Tuesdays"]["relations"]), (2, &Value::Null));
}

#[test]
fn a_long_file_goes_in_by_batches_and_keeps_its_order() {
    let home = Home::new();
    let observations: Vec<String> = (0..2_500).map(|i| format!("Observation number {i}")).collect();
    let observations: Vec<&str> = observations.iter().map(String::as_str).collect();
    let graph: Vec<Value> =
        observations.chunks(50).enumerate().map(|(i, part)| entity(&format!("e{i}"), "x", part)).collect();
    let file = home.write("long.jsonl", &jsonl(&graph));
    assert_eq!(import(&home, &file, &[]), [2_500, 0, 0, 0]);
    assert!(export(&home, &["--format", "server-memory"]) == graph, "the order is another one");
    assert_eq!(import(&home, &file, &[]), [0, 2_500, 0, 0]);
    let gone = home.run(&["memory", "forget", "--type", "semantic", "--yes"]).code(0).out;
    assert_eq!(gone, "2500 memories forgotten\n");
}

fn an_import_that_was_killed_goes_on(home: &Home) {
    let lines: Vec<String> =
        (0..2_500).map(|i| format!("{}\n", entity(&format!("e{i}"), "x", &[&format!("Observation {i}")]))).collect();
    let mut command = home.command(&["memory", "import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // More than one batch, and no end.
    child.stdin.as_mut().unwrap().write_all(lines[..1_500].concat().as_bytes()).unwrap();
    let started = Instant::now();
    let count = || home.run(&["memory", "list", "--limit", "1", "--json"]).code(0).json()["total"].as_u64().unwrap();
    while count() < 1_000 {
        assert!(started.elapsed() < Duration::from_secs(60), "the first batch is not there");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let file = home.write("whole.jsonl", &lines.concat());
    let [stored, known, skipped, failed] = import(home, &file, &[]);
    assert!(known >= 1_000 && stored >= 1_000, "{stored} {known}");
    assert_eq!((stored + known, skipped, failed), (2_500, 0, 0));
    assert_eq!(count(), 2_500, "nothing twice");
    assert_eq!(import(home, &file, &[]), [0, 2_500, 0, 0]);
}
