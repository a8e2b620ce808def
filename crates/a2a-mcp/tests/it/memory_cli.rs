//! Memories on the command line.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cli::Home;

mod moving;

/// The id that a command has told.
fn id_in(text: &str) -> String {
    let start = text.find("mem-").unwrap_or_else(|| panic!("no id in {text}"));
    text[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// Stores one and returns its id.
#[track_caller]
fn store(home: &Home, args: &[&str]) -> String {
    id_in(&home.run(&[&["memory", "store"], args].concat()).code(0).out)
}

#[track_caller]
fn show(home: &Home, id: &str) -> Value {
    home.run(&["memory", "show", id, "--json"]).code(0).json()
}

/// All memories, by their content.
#[track_caller]
fn all(home: &Home, more: &[&str]) -> BTreeMap<String, Value> {
    let listed = home.run(&[&["memory", "list", "--all", "--json"], more].concat()).code(0).json();
    let memories = listed["memories"].as_array().unwrap();
    assert_eq!(listed["total"], memories.len());
    memories.iter().map(|memory| (memory["content"].as_str().unwrap().to_owned(), memory.clone())).collect()
}

#[test]
fn what_is_stored_is_recalled_and_shown() {
    let home = Home::new();
    let ended = home.run(&["memory", "store", "We", "deploy", "only", "on", "Tuesdays", "--key", "deploy-day"]).code(0);
    assert!(ended.out.starts_with("stored mem-"), "{}", ended.out);
    let first = id_in(&ended.out);
    let again = home.run(&["memory", "store", "We deploy only on  Tuesdays", "--key", "deploy-day"]).code(0).out;
    assert_eq!(again, format!("known {first}\n"));
    let second =
        home.run(&["memory", "store", "We deploy on Thursdays", "--key", "deploy-day", "--json"]).code(0).json();
    assert_eq!((&second["stored"], &second["durability"]), (&json!(1), &json!("committed")));
    assert_eq!(second["memories"][0]["superseded"], json!([first]));
    let second = second["memories"][0]["id"].as_str().unwrap().to_owned();
    let rich = store(
        &home,
        &[
            "Ann prefers short answers",
            "--type",
            "preference",
            "--tag",
            "style",
            "--tag",
            "Ann",
            "--user",
            "ann",
            "--importance",
            "0.9",
            "--decay",
            "0",
            "--agent",
            "writer",
            "--session",
            "s-1",
            "--expires-in-s",
            "3600",
        ],
    );

    let hits = home.run(&["memory", "search", "when", "do", "we", "deploy", "--json"]).code(0).json();
    assert_eq!(hits["hits"][0]["id"], second, "{hits}");
    assert!(hits["hits"][0]["score"].as_f64().unwrap() > 0.0 && hits["hits"][0]["reason"].is_string(), "{hits}");
    assert!(hits["hits"].as_array().unwrap().iter().all(|hit| hit["id"] != first.as_str()), "it was superseded");
    let table = home.run(&["memory", "search", "deploy"]).code(0).out;
    assert!(table.starts_with("SCORE") && table.contains(&second) && table.contains("Thursdays"), "{table}");
    let none = home.run(&["memory", "search", "deploy", "--type", "episodic"]).code(0);
    assert!(none.out.is_empty() && none.err.contains("nothing fits"), "{}", none.err);

    let shown = show(&home, &rich);
    let wanted = json!({
        "id": rich, "type": "preference", "content": "Ann prefers short answers", "tags": ["Ann", "style"], "user": "ann",
        "importance": 0.9, "decay": 0.0, "agent": "writer", "session": "s-1", "namespace": "default", "revision": 1,
    });
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}: {shown}");
    }
    assert_eq!(shown["provenance"]["trust"], "agent", "a script is no person");
    assert!(shown["expires_at"].is_string());
    let yaml = home.run(&["memory", "show", &rich[..10], &first]).code(0).out;
    assert!(yaml.contains("\ncontent: Ann prefers short answers\n") && yaml.contains("importance: 0.9\n"), "{yaml}");
    assert!(yaml.contains(&format!("# superseded by {second}")) && yaml.contains("\n---\n"), "{yaml}");
    let some = home.run(&["memory", "show", "mem-none", &rich, "--json"]);
    assert!(some.err.contains("there is no memory \"mem-none\""), "{}", some.err);
    assert_eq!(some.code(1).json()["id"], rich.as_str());

    assert_eq!(all(&home, &[]).len(), 2);
    assert_eq!(all(&home, &["--superseded"]).len(), 3);
    for filter in [
        &["--type", "preference"][..],
        &["--tag", "style", "--tag", "ann"],
        &["--any-tag", "style", "--any-tag", "other"],
        &["--agent", "writer"],
        &["--session", "s-1"],
        &["--user", "ann"],
        &["--importance-min", "0.8"],
    ] {
        let found = all(&home, filter);
        assert!(found.len() == 1 && found.contains_key("Ann prefers short answers"), "{filter:?}: {found:?}");
    }
    assert_eq!(all(&home, &["--no-tag", "style"]).len(), 1);
    assert_eq!(all(&home, &["--key", "deploy-day"]).len(), 1);
    assert_eq!(all(&home, &["--until", "2020-01-01"]).len(), 0);
    assert_eq!(all(&home, &["--since", "2020-01-01", "--trust-min", "agent"]).len(), 2);
    assert_eq!(all(&home, &["--trust-min", "user"]).len(), 0);
    let page = home.run(&["memory", "list", "--limit", "1", "--json"]).code(0).json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = home.run(&["memory", "list", "--limit", "1", "--cursor", next, "--json"]).code(0).json();
    assert_ne!(rest["memories"][0]["id"], page["memories"][0]["id"]);
    assert_eq!((&rest["total"], &rest["next_cursor"]), (&json!(2), &Value::Null));
    let told = home.run(&["memory", "list", "--limit", "1"]).code(0);
    assert!(told.err.contains("1 of 2 memories; go on with --cursor"), "{}", told.err);
    assert!(home.run(&["memory", "list", "--namespace", "elsewhere"]).code(0).err.contains("no such memories"));
}

#[test]
fn documents_of_a_file_are_stored_and_what_is_wrong_is_told_with_its_place() {
    let home = Home::new();
    let file = home.write(
        "facts.yaml",
        "- content: The staging host is stage-2\n  tags: [hosts]\n- content: ''\n- text: no content\n- content: The port is \
         8080\n",
    );
    let ended = home.run(&["memory", "store", "--file", &file]).code(1);
    assert!(ended.err.contains("facts.yaml[1].content") && ended.err.contains("facts.yaml[2].text"), "{}", ended.err);
    assert!(ended.out.contains("2 stored, 0 known, 2 failed; committed"), "{}", ended.out);
    let again = home.run(&["memory", "store", "--file", &file, "--json"]).code(1).json();
    assert_eq!([&again["stored"], &again["known"], &again["failed"]], [0, 2, 2]);
    assert_eq!(again["memories"][1]["code"], "invalid");
    assert!(again["memories"][1]["problems"][0]["path"].as_str().unwrap().ends_with("facts.yaml[1].content"));
    let piped = home.run_with_input(&["memory", "store", "--file", "-"], r#"{"content": "Tests run on every push"}"#);
    assert!(piped.code(0).out.starts_with("stored "));
    let near = home.run(&["memory", "store", "Tests run at every push"]).code(0).out;
    assert!(near.contains("; nearly the same: mem-"), "{near}");

    let secret = format!("The token is ghp_{}", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8");
    let refused = home.run(&["memory", "store", &secret]).code(1);
    assert!(refused.err.contains("content: holds what looks like a secret"), "{}", refused.err);
    assert!(!refused.err.contains("A1b2C3"), "{}", refused.err);
    let redacted = home.run(&["memory", "store", &secret, "--redact"]).code(0).out;
    assert!(redacted.contains("1 secrets cut out"), "{redacted}");
    assert!(show(&home, &id_in(&redacted))["content"].as_str().unwrap().contains("[redacted: GitHub token]"));
    let missing = home.run(&["memory", "store", "x", "--supersedes", "mem-aaaaaaaaaaaaaaaa"]).code(1).err;
    assert!(missing.contains("there is no memory"), "{missing}");
}

#[test]
fn turns_come_in_the_order_in_which_they_were_said() {
    let home = Home::new();
    let turn =
        |text: &str, user: &str| store(&home, &[text, "--type", "conversation", "--session", "s-9", "--user", user]);
    let ids = [turn("Is it done?", "ann"), turn("Nearly.", "bob"), turn("Good.", "ann")];
    let turns = home.run(&["memory", "turns", "s-9", "--json"]).code(0).json();
    let said: Vec<&str> = turns["turns"].as_array().unwrap().iter().map(|turn| turn["id"].as_str().unwrap()).collect();
    assert_eq!(said, ids);
    let last = home.run(&["memory", "turns", "s-9", "--limit", "2", "--json"]).code(0).json();
    assert_eq!((&last["turns"][0]["id"], &last["total"]), (&json!(ids[1]), &json!(3)));
    let cursor = last["next_cursor"].as_str().unwrap();
    let earlier = home.run(&["memory", "turns", "s-9", "--limit", "2", "--cursor", cursor]).code(0).out;
    assert!(earlier.contains("Is it done?") && earlier.contains("ann") && !earlier.contains("Nearly"), "{earlier}");
    assert!(home.run(&["memory", "turns", "none"]).code(0).err.contains("has no turns"));
}

#[test]
fn memories_are_updated_and_agents_learn_by_feedback() {
    let home = Home::new();
    let agents = home.write("a.yaml", "id: tuner\ndescription: Tunes queries.\n");
    home.run(&["agents", "deploy", &agents]).code(0);
    let id = store(&home, &["Indexes first", "--agent", "tuner", "--importance", "0.5"]);
    let set = home.write("set.json", r#"{"tags": ["sql"], "importance": 0.6}"#);
    let done = home.run(&["memory", "update", &id, "--set", &format!("@{set}")]).code(0).out;
    assert_eq!(done, format!("updated {id} at revision 2\n"));
    let same = home.run(&["memory", "update", &id, "--set", r#"{"importance": 0.6}"#, "--json"]).code(0).json();
    assert_eq!((&same["status"], &same["revision"]), (&json!("unchanged"), &json!(2)));
    let late = home.run(&["memory", "update", &id, "--set", r#"{"importance": 1}"#, "--expected-revision", "1"]);
    assert!(late.code(1).err.contains("revision"));
    let invalid = home.run(&["memory", "update", &id, "--set", r#"{"importance": 2}"#]).code(1).err;
    assert!(invalid.contains("set.importance"), "{invalid}");
    assert!(home.run(&["memory", "update", &id, "--set", "{}"]).code(2).err.contains("--set must be"));

    let praised = home.run(&["memory", "feedback", "--memory", &id, "--score", "1", "--json"]).code(0).json();
    assert_eq!((&praised["memory"], &praised["agent"]), (&json!(id), &json!("tuner")));
    assert!((praised["importance"].as_f64().unwrap() - 0.8).abs() < 1e-6, "{praised}");
    assert!(praised["personality"]["confidence"].as_f64().unwrap() > 0.5, "{praised}");
    let blamed = home
        .run(&["memory", "feedback", "--agent", "tuner", "--score", "-0.5", "--comment", "Too many indexes"])
        .code(0);
    assert!(
        blamed.out.contains("tuner has learned") && blamed.out.contains("the comment is kept as mem-"),
        "{}",
        blamed.out
    );
    assert_eq!(show(&home, &id_in(&blamed.out))["type"], "preference");
    let plain = store(&home, &["Of nobody"]);
    let comment = home.run(&["memory", "feedback", "--memory", &plain, "--score", "-1", "--comment", "wrong"]).code(0);
    assert!(comment.err.contains("the comment was not kept"), "{}", comment.err);
    home.run(&["memory", "feedback", "--agent", "nobody", "--score", "1"]).code(1);

    let replaced =
        home.run(&["memory", "update", &id, "--set", r#"{"content": "Statistics first"}"#, "--json"]).code(0).json();
    assert_eq!((&replaced["status"], &replaced["superseded"]), (&json!("replaced"), &json!([id])));
    let refused = home.run(&["memory", "update", &id, "--set", r#"{"importance": 0.1}"#]).code(1).err;
    assert!(refused.contains("was superseded by"), "{refused}");
}

#[test]
fn what_is_known_of_a_capability_is_suggested() {
    let home = Home::new();
    assert!(home.run(&["memory", "suggest", "tune"]).code(0).err.contains("nothing is known"));
    store(&home, &["tune worked: rewrote the join", "--tag", "capability:tune", "--tag", "worked"]);
    store(&home, &["tune failed: no statistics", "--tag", "capability:tune", "--tag", "failed", "--type", "episodic"]);
    store(&home, &["tune used explain", "--tag", "capability:tune", "--tag", "tool:explain", "--type", "tool_usage"]);
    let known = home.run(&["memory", "suggest", "tune", "--json"]).code(0).json();
    assert_eq!(known["tools"], json!([{"tool": "explain", "count": 1}]));
    assert_eq!((&known["worked"]["total"], &known["failed"]["total"]), (&json!(1), &json!(1)));
    assert_eq!(known["worked"]["memories"][0]["content"], "tune worked: rewrote the join");
    let shown = home.run(&["memory", "suggest", "tune"]).code(0).out;
    assert!(shown.contains("What worked, 1 of 1:") && shown.contains("explain"), "{shown}");
}

#[test]
fn forgetting_by_conditions_shows_what_would_go_first() {
    let home = Home::new();
    let ids: Vec<String> = (0..3).map(|i| store(&home, &[&format!("Fact {i}"), "--session", "s-1"])).collect();
    let kept = store(&home, &["Kept"]);
    let dry = home.run(&["memory", "forget", "--session", "s-1"]).code(0);
    assert!(dry.out.contains("Fact 2") && !dry.out.contains("Kept"), "{}", dry.out);
    assert!(dry.err.contains("3 memories would be forgotten; nothing was changed; add --yes"), "{}", dry.err);
    let dry = home.run(&["memory", "forget", "--session", "s-1", "--json"]).code(0).json();
    assert_eq!((&dry["dry_run"], &dry["total"]), (&json!(true), &json!(3)));
    assert_eq!(all(&home, &[]).len(), 4);

    let one = home.run(&["memory", "forget", &ids[0], "mem-none"]).code(1);
    assert!(one.out == format!("forgotten {}\n", ids[0]) && one.err.contains("mem-none"), "{}{}", one.out, one.err);
    let rest = home.run(&["memory", "forget", "--session", "s-1", "--yes", "--json"]).code(0).json();
    assert_eq!((&rest["status"], &rest["total"], &rest["dry_run"]), (&json!("forgotten"), &json!(2), &json!(false)));
    assert_eq!(all(&home, &[]).keys().collect::<Vec<_>>(), ["Kept"]);
    home.run(&["memory", "show", &ids[1]]).code(1);

    assert!(home.run(&["memory", "forget", &ids[0], "--purge"]).code(2).err.contains("add --yes"));
    let purged = home.run(&["memory", "forget", &ids[0], &kept, "--purge", "--yes"]).code(0).out;
    assert!(purged.contains(&format!("purged {}", ids[0])) && purged.contains(&format!("purged {kept}")), "{purged}");
    home.run(&["memory", "forget", &ids[0], "--purge", "--yes"]).code(1);
    assert!(home.run(&["memory", "forget"]).code(2).err.contains("say what to forget"));
    // These let more in and leave nothing out.
    assert!(home.run(&["memory", "forget", "--superseded", "--expired", "--yes"]).code(2).err.contains("say what"));
    home.run(&["memory", "forget", &ids[1], "--session", "s-1"]).code(2);
    assert!(home.run(&["memory", "forget", "--tag", "none", "--yes"]).code(0).err.contains("no such memories"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_person_at_a_terminal_is_trusted_as_a_user() {
    let home = Home::new();
    // The program `script` gives another one a terminal.
    let mut script = std::process::Command::new("script");
    for (name, value) in home.command(&[]).get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let command = format!("{} memory store 'Ann is on leave'", env!("CARGO_BIN_EXE_a2a-mcp"));
    script.args(["-qec", &command, "/dev/null"]).current_dir(home.path()).stdin(std::process::Stdio::null());
    let output = script.output().expect("`script` is part of util-linux");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("stored mem-"), "{told}");
    assert_eq!(show(&home, &id_in(&told))["provenance"]["trust"], "user");
    let scripted = store(&home, &["Bob is on leave"]);
    assert_eq!(show(&home, &scripted)["provenance"]["trust"], "agent");
}

#[test]
fn what_is_wrong_with_a_command_ends_it_with_2() {
    let home = Home::new();
    let file = home.write("x.yaml", "content: x\n");
    for args in [
        &["store"][..],
        &["store", "text", "--file", &file],
        &["store", "--file", &file, "--key", "k"],
        &["store", "text", "--type", "fact"],
        &["store", "text", "--importance", "2"],
        &["search"],
        &["search", " "],
        &["list", "--cursor", "zzz"],
        &["list", "--since", "yesterday"],
        &["list", "--trust-min", "high"],
        &["turns", "s", "--limit", "0"],
        &["update", "mem-a", "--set", "{"],
        &["feedback", "--score", "1"],
        &["feedback", "--memory", "a", "--agent", "b", "--score", "1"],
        &["feedback", "--agent", "b", "--score", "2"],
        &["import", &file],
        &["import", &file, "--format", "csv"],
        &["export", "--format", "csv"],
    ] {
        let ended = home.run(&[&["memory"], args].concat());
        assert!(ended.code == 2 && !ended.err.is_empty(), "{args:?}: {} {}", ended.code, ended.err);
    }
    home.run(&["memory", "import", "missing.jsonl"]).code(1);
    let away = ["--database-url", "postgres://nobody@127.0.0.1:1/none"];
    home.run(&[&["memory", "list"][..], &away].concat()).code(3);
    let file = home.write("one.jsonl", "{\"content\": \"x\"}\n");
    home.run(&[&["memory", "import", &file][..], &away].concat()).code(3);
    for command in
        ["store", "search", "list", "turns", "show", "suggest", "update", "feedback", "forget", "import", "export"]
    {
        let help = home.run(&["memory", command, "--help"]).code(0).out;
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{command}:\n{help}");
    }
    assert!(home.run(&["memory", "--help"]).code(0).out.contains("Examples:"));
}

/// What its author has written, without what the server stamps.
fn written(memory: &Value) -> Map<String, Value> {
    let mut fields = memory.as_object().unwrap().clone();
    for stamped in [
        "id",
        "namespace",
        "provenance",
        "frequency",
        "accesses",
        "last_accessed",
        "superseded_by",
        "revision",
        "updated_at",
        "updated_by",
        "supersedes",
        "relations",
    ] {
        fields.remove(stamped);
    }
    fields
}
