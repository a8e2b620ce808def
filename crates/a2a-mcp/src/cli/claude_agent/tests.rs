use a2a_core::ids::Namespace;
use proptest::prelude::*;

use super::*;

fn spec(text: &str, path: &str) -> AgentSpec {
    let document = read(text, Path::new(path)).unwrap().unwrap();
    AgentSpec::from_document(&document, "x", &Namespace::default()).unwrap()
}

const REVIEWER: &str = "---\nname: code-reviewer\ndescription: Use when: code has changed\n  # not a comment of ours\n\
    tools: Read, Grep, Bash(git log:*, git diff:*)\nmodel: sonnet\nx-team:\n- core\n---\n\nYou review.\n";

#[test]
fn a_file_becomes_an_agent_and_comes_back() {
    let text = REVIEWER.replace("  # not a comment of ours\n", "");
    let agent = spec(&text, "04-quality/reviewer.md");
    assert_eq!((agent.id.as_str(), &*agent.name, &*agent.category), ("code-reviewer", "code-reviewer", "quality"));
    assert_eq!((&*agent.description, &*agent.instructions), ("Use when: code has changed", "\nYou review.\n"));
    let config = agent.config.value().unwrap();
    assert_eq!(config["claude_agent"]["tools"], json!(["Read", "Grep", "Bash(git log:*, git diff:*)"]));
    assert_eq!(config["claude_agent"]["model"], "sonnet");
    assert_eq!(write(&agent).unwrap(), text);
    assert_eq!(file(&agent), Path::new("04-quality/reviewer.md"));
}

#[test]
fn only_what_was_changed_is_written_anew() {
    let agent = spec(&REVIEWER.replace("  # not a comment of ours\n", ""), "reviewer.md");
    let patch = json!({"description": "Reviews \"all\": yes", "instructions": "New.", "config": {"claude_agent": {
        "front_matter": agent.config.value().unwrap()["claude_agent"]["front_matter"],
        "tools": ["Read", "Grep", "Bash(git log:*, git diff:*)"], "color": "red"}}});
    let changed = agent.patched(&patch, "x").unwrap();
    assert_eq!(
        write(&changed).unwrap(),
        "---\nname: code-reviewer\ndescription: \"Reviews \\\"all\\\": yes\"\n\
         tools: Read, Grep, Bash(git log:*, git diff:*)\nx-team:\n- core\ncolor: red\n---\nNew."
    );
}

#[test]
fn an_agent_of_another_origin_becomes_a_file_that_comes_back_as_it() {
    let document = json!({"id": "a.b", "name": "Ann", "description": "true", "instructions": "Do\n---\nit"});
    let agent = AgentSpec::from_document(&document, "x", &Namespace::default()).unwrap();
    let text = write(&agent).unwrap();
    assert_eq!(text, "---\nname: a.b\ndescription: \"true\"\n---\nDo\n---\nit");
    let back = spec(&text, "a.b.md");
    assert_eq!((&back.id, &back.description, &back.instructions), (&agent.id, &agent.description, &agent.instructions));
    let remote =
        json!({"id": "r", "description": "x", "executor": {"kind": "http", "settings": {"url": "https://h/"}}});
    let remote = AgentSpec::from_document(&remote, "x", &Namespace::default()).unwrap();
    assert!(write(&remote).unwrap_err().contains("http executor"));
}

#[test]
fn what_is_wrong_is_said() {
    for (text, expected) in [
        ("---\nname: a\n", "no end"),
        ("---\nname: a\n---\n", "lacks description"),
        ("---\ndescription: a\n---\n", "lacks name"),
        ("---\nname: a\nname: b\ndescription: c\n---\n", "twice"),
        ("---\nname: a\nwhat is this\ndescription: c\n---\n", "line 3"),
        ("---\nname: [a]\ndescription: c\n---\n", "name in the front matter must be a text"),
        ("---\nname: \u{65e5}\ndescription: c\n---\n", "nothing that an id may hold"),
        ("---\nname: a\ndescription: {b: c}\n---\n", "description in the front matter must be a text"),
        ("---\nname: a\ndescription: b\nmodel: [x]\n---\n", "model"),
    ] {
        let error = read(text, Path::new("a.md")).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    for text in ["", "# Title\n", "--- \u{e4}\n"] {
        assert_eq!(read(text, Path::new("a.md")), Ok(None), "{text:?}");
    }
}

#[test]
fn a_file_is_written_into_its_folder_only() {
    for (kept, expected) in [
        ("a/b.md", "a/b.md"),
        ("../b.md", "x.md"),
        ("/etc/b.md", "x.md"),
        ("a/../../b.md", "x.md"),
        ("b.sh", "x.md"),
        ("", "x.md"),
    ] {
        let document = json!({"id": "x", "description": "x", "config": {"claude_agent": {"file": kept}}});
        let agent = AgentSpec::from_document(&document, "x", &Namespace::default()).unwrap();
        assert_eq!(file(&agent), Path::new(expected), "{kept:?}");
    }
}

proptest! {
    #[test]
    fn any_file_comes_back_byte_for_byte(
        name in "[a-z][a-z-]{0,20}",
        description in "[^\\x00\\r\\n]{0,40}[a-z]",
        more in proptest::collection::vec(("x-[a-z]{1,9}", "[^\\x00\\r\\n]{0,20}"), 0..4),
        tools in proptest::option::of("[A-Za-z(),: *]{0,30}"),
        body in "[^\\x00]{0,200}",
        newline in prop_oneof![Just("\n"), Just("\r\n")],
    ) {
        let mut lines = vec![format!("name: {name}"), format!("description: d{description}")];
        lines.extend(tools.map(|tools| format!("tools: {tools}")));
        for (index, (key, value)) in more.into_iter().enumerate() {
            lines.push(format!("{key}{index}: {value}"));
        }
        let head: String = lines.iter().map(|line| format!("{line}{newline}")).collect();
        let text = format!("---{newline}{head}---{newline}{body}");
        if let Ok(Some(document)) = read(&text, Path::new("a.md")) {
            let agent = AgentSpec::from_document(&document, "x", &Namespace::default()).unwrap();
            prop_assert_eq!(write(&agent).unwrap(), text);
        } else {
            // Only a key that says something else than a text is refused.
            prop_assert!(head.contains(['[', '{', '&', '*', '!', '~']) || head.contains("null"), "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(---\n)?([a-z]{0,5}(: )?[^\\x00]{0,9}\n){0,5}(---\n)?") {
        let _read = read(&text, Path::new("a/b.md"));
    }
}
