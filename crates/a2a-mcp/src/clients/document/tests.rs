use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn wanted(url: Option<&str>) -> Entry {
    Entry {
        command: "/usr/bin/a2a-mcp".to_owned(),
        args: vec!["serve".to_owned()],
        env: url.map(|url| ("DATABASE_URL".to_owned(), url.to_owned())).into_iter().collect(),
    }
}

fn parse(client: Client, text: &str) -> Result<Document, String> {
    Document::parse(client, Vec::new(), text)
}

fn set(client: Client, text: &str, entry: &Entry) -> Result<String, String> {
    let document = parse(client, text)?;
    document.set("a2a", entry)?;
    Ok(document.text())
}

#[test]
fn an_empty_file_becomes_a_configuration() {
    for text in ["", " \n", "{}", "\u{FEFF}{}"] {
        let after = set(Client::Cursor, text, &wanted(None)).unwrap();
        let value: Value = serde_json::from_str(after.trim_start_matches('\u{FEFF}')).unwrap();
        assert_eq!(value["mcpServers"]["a2a"]["command"], "/usr/bin/a2a-mcp", "{after}");
        assert_eq!(after.starts_with('\u{FEFF}'), text.starts_with('\u{FEFF}'));
    }
    assert!(set(Client::Cursor, "", &wanted(None)).unwrap().ends_with("}\n"));
}

const COMMENTED: &str = "// mine\n{\n  // servers\n  \"servers\": {\n    \"other\": { \"command\": \"x\", }, // keep\n  },\n  \
                         /* end */\n}";

#[test]
fn comments_order_and_commas_stay_and_taking_out_gives_the_text_back() {
    let after = set(Client::VsCode, COMMENTED, &wanted(Some("postgres://u:p@h/d"))).unwrap();
    for line in COMMENTED.lines() {
        assert!(after.contains(line.trim_end()), "{line:?} is missing in\n{after}");
    }
    assert_eq!(set(Client::VsCode, &after, &wanted(Some("postgres://u:p@h/d"))).unwrap(), after);
    let document = parse(Client::VsCode, &after).unwrap();
    assert!(document.remove("a2a").unwrap() && !document.remove("a2a").unwrap());
    assert_eq!(document.text(), COMMENTED);
}

#[test]
fn what_somebody_has_added_to_the_entry_stays() {
    let text = r#"{"mcpServers": {"a2a": {"command": "/old/a2a-mcp", "args": ["serve", "--tools", "agents"],
        "env": {"A2A_LOG": "info", "DATABASE_URL": "postgres://a@b/c"}, "timeout": 5}}}"#;
    let after = set(Client::ClaudeCode, text, &wanted(Some("postgres://n@b/c"))).unwrap();
    let expected = text.replace("/old/", "/usr/bin/").replace("//a@", "//n@");
    assert_eq!(after, expected);
    // A URL that is not set now is no reason to lose the one that is there.
    assert_eq!(set(Client::ClaudeCode, &expected, &wanted(None)).unwrap(), expected);
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let cases = [
        (Client::ClaudeCode, "{\n  \"a\": 1,\n  b\n}", "line 3, column 3"),
        (Client::ClaudeDesktop, "{\n// no\n}", "line 2, column 1: this client reads neither comments"),
        (Client::VsCode, "{\"servers\": {}, \"servers\": {}}", "\"servers\" twice"),
        (Client::Cursor, "{\"mcpServers\": {\"a2a\": {\"command\": \"a2a-mcp\"}, \"a2a\": 1}}", "\"a2a\" twice"),
        (Client::Cursor, "{\"mcpServers\": []}", "not an object"),
        (Client::Cursor, "[]", "JSON object"),
        (Client::Cursor, "{\"mcpServers\": {\"a2a\": {\"url\": \"http://x\"}}}", "not started by a command"),
        (Client::Cursor, "{\"mcpServers\": {\"a2a\": {\"command\": \"npx\"}}}", "another program"),
        (Client::Cursor, "{\"mcpServers\": {\"a2a\": {\"command\": \"a2a-mcp\", \"env\": 1}}}", "\"env\" is not"),
    ];
    for (client, text, reason) in cases {
        let error = set(client, text, &wanted(Some("postgres://a@b/c"))).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_project_of_vscode_asks_for_the_url() {
    let reference = Client::VsCode.reference("DATABASE_URL", "a2a");
    let text = "{\"inputs\": [{\"id\": \"mine\"}]}";
    let after = set(Client::VsCode, text, &wanted(Some(&reference))).unwrap();
    let value: Value = serde_json::from_str(&after).unwrap();
    assert_eq!(value["inputs"][1]["id"], "a2a-database-url");
    assert_eq!(value["servers"]["a2a"]["env"]["DATABASE_URL"], "${input:a2a-database-url}");
    let document = parse(Client::VsCode, &after).unwrap();
    document.remove("a2a").unwrap();
    let value: Value = serde_json::from_str(&document.text()).unwrap();
    assert_eq!(value["inputs"], serde_json::json!([{"id": "mine"}]));
}

#[test]
fn nothing_secret_is_shown() {
    let text = r#"// postgres://u:secret1@h/d
    {"token": "secret2", "servers": {"other": {"env": {"KEY": "secret3"}}, "a2a": {"command": "a2a-mcp",
      "args": ["serve", "--database-url", "postgres://u:secret4@h/d"], "headers": {"x": "secret5"},
      "env": {"DATABASE_URL": "postgres://u:secret6@db.example.com/d?password=secret7", "MINE": "secret8"}}}}"#;
    let shown = parse(Client::VsCode, text).unwrap().shown("a2a");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("postgres://…@db.example.com:5432/d"), "{shown}");
    assert_eq!(url_shown("nonsense:secret"), "…");
}

proptest! {
    #[test]
    fn everything_else_stays_whatever_it_is(
        others in proptest::collection::btree_map("[a-z]{1,6}", "[^\\\\\"\u{0}-\u{1f}]{0,12}", 0..5),
        indent in "( {0,4}|\t)", url in proptest::option::of(Just("postgres://u:p@h/d")),
    ) {
        let lines: Vec<String> = others.iter().map(|(key, value)| format!("{indent}\"{key}\": \"{value}\"")).collect();
        let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
        let once = set(Client::ClaudeDesktop, &text, &wanted(url)).unwrap();
        prop_assert_eq!(&set(Client::ClaudeDesktop, &once, &wanted(url)).unwrap(), &once);
        let value: Value = serde_json::from_str(&once).unwrap();
        for (key, other) in &others {
            prop_assert_eq!(&value[key], &Value::from(other.as_str()));
        }
        let document = parse(Client::ClaudeDesktop, &once).unwrap();
        prop_assert_eq!(document.ours().len(), 1);
        prop_assert!(document.remove("a2a").unwrap());
        prop_assert!(document.ours().is_empty());
    }
}
