//! Inputs that are broken, each with what is said of it.

use serde_json::Value;

use crate::cli::Home;

/// Format, file, what it holds, and what the error says.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("json", "a.json", "", "is not valid JSON"),
    ("json", "a.json", "{", "is not valid JSON"),
    ("json", "a.json", "[", "is not valid JSON"),
    ("json", "a.json", "nul", "is not valid JSON"),
    ("json", "a.json", "{'id': 1}", "is not valid JSON"),
    ("json", "a.json", "{\"id\": \"a\",}", "is not valid JSON"),
    ("json", "a.json", "{\"id\": \"a\", \"id\": \"b\"}", "twice"),
    ("json", "a.json", "{\"id\": \"\\ud800\"}", "is not valid JSON"),
    ("json", "a.json", "null", "holds no document"),
    ("json", "a.json", "[]", "holds no document"),
    ("json", "a.json", "1", "must be an object"),
    ("json", "a.json", "\"text\"", "must be an object"),
    ("json", "a.json", "[[1]]", "must be an object"),
    ("json", "a.json", "{}", "id: is required"),
    ("json", "a.json", "{\"id\": 1, \"description\": \"x\"}", "must be a text"),
    ("json", "a.json", "{\"id\": \"a b\", \"description\": \"x\"}", "a.json.id"),
    ("json", "a.json", "{\"id\": \"\", \"description\": \"x\"}", "a.json.id"),
    ("json", "a.json", "{\"id\": \"builtin:x\", \"description\": \"x\"}", "builtin:"),
    ("json", "a.json", "{\"id\": \"a\"}", "description: is required"),
    ("json", "a.json", "{\"id\": \"a\", \"description\": \" \"}", "description: is empty"),
    ("json", "a.json", "{\"id\": \"a\", \"description\": \"x\", \"colour\": 1}", "colour"),
    ("json", "a.json", "{\"id\": \"a\", \"description\": \"x\", \"version\": \"one\"}", "semantic version"),
    ("json", "a.json", "{\"id\": \"a\", \"description\": \"x\", \"tags\": 7}", "tags"),
    ("json", "a.json", "{\"id\": \"a\", \"description\": \"x\", \"executor\": {\"kind\": \"magic\"}}", "executor"),
    ("json", "a.json", "{\"id\": \"a\", \"description\": \"nul \\u0000\"}", "NUL"),
    (
        "json",
        "a.json",
        "[{\"id\": \"a\", \"description\": \"x\"}, {\"id\": \"a\", \"description\": \"y\"}]",
        "give each agent its own id",
    ),
    ("json", "a.json", "{\"agents\": [{\"id\": \"a\"}]}", "agents[0].description"),
    ("json", "a.json", "{\"agents\": {}}", "a.json"),
    ("json", "a.json", "{\"id\": \"w\", \"steps\": []}", "steps"),
    ("json", "a.json", "{\"id\": \"w\", \"steps\": [{\"name\": \"s\"}]}", "agent"),
    (
        "json",
        "a.json",
        "{\"id\": \"w\", \"steps\": [{\"name\": \"s\", \"agent\": \"a\", \"depends_on\": [\"t\"]}]}",
        "\"t\"",
    ),
    ("json", "a.json", "{\"content\": \"\"}", "content"),
    ("json", "a.json", "{\"content\": 7}", "content"),
    ("json", "a.json", "{\"content\": \"x\", \"type\": \"dream\"}", "type"),
    ("json", "a.json", "{\"content\": \"x\", \"importance\": 2}", "importance"),
    ("json", "a.json", "{\"content\": \"x\", \"created_at\": \"yesterday\"}", "created_at"),
    ("json", "a.json", "{\"content\": \"x\", \"supersedes\": \"y\"}", "supersedes"),
    ("yaml", "a.yaml", "id: [", "is not valid YAML"),
    ("yaml", "a.yaml", "id: a\nid: b\n", "is not valid YAML"),
    ("yaml", "a.yaml", "id: \"a\n", "is not valid YAML"),
    ("yaml", "a.yaml", "id: &a [*a]\n", "a.yaml"),
    ("yaml", "a.yaml", "- a\n- b\n", "must be an object"),
    ("yaml", "a.yaml", "# nothing\n", "holds no document"),
    ("yaml", "a.yaml", "id: a\ndescription: 1\n", "must be a text"),
    ("yaml", "a.yaml", "id: a\ndescription: x\n---\nid: b\n", "a.yaml[1].description"),
    ("a2a-card", "a.json", "{\"name\": \"x\"}", "has no description"),
    ("a2a-card", "a.json", "{\"name\": \"x\", \"description\": \"y\"}", "neither supportedInterfaces"),
    ("claude-agents", "a.md", "---\nname: a\n", "the front matter has no end"),
    ("claude-agents", "a.md", "---\nname: a\n---\n", "lacks description"),
    ("claude-agents", "a.md", "---\ndescription: a\n---\n", "lacks name"),
    ("claude-agents", "a.md", "---\nname: a\nname: b\ndescription: c\n---\n", "stands twice"),
    ("claude-agents", "a.md", "---\nname: a\njust words\ndescription: c\n---\n", "line 3"),
    ("claude-agents", "a.md", "---\nname: [a]\ndescription: c\n---\n", "must be a text"),
    ("claude-agents", "a.md", "---\nname: a\ndescription: ''\n---\n", "description"),
    ("claude-agents", "a.md", "---\nname: \"!!\"\ndescription: c\n---\n", "nothing that an id may hold"),
];

#[test]
fn each_broken_input_is_told_and_the_good_one_beside_it_is_imported() {
    assert!(CASES.len() >= 50, "{}", CASES.len());
    for (index, (format, name, text, expected)) in CASES.iter().enumerate() {
        let home = Home::new();
        home.write(name, text);
        let (good, document) = match *format {
            "json" => ("good.json", "{\"id\": \"good\", \"description\": \"x\"}"),
            "a2a-card" => {
                ("good.json", "{\"name\": \"good\", \"description\": \"x\", \"url\": \"https://h.example/\"}")
            }
            "yaml" => ("good.yaml", "id: good\ndescription: x\n"),
            _ => ("good.md", "---\nname: good\ndescription: x\n---\n"),
        };
        home.write(good, document);
        let ended = home.run(&["import", format, name, good, "--json"]).code(1);
        let summary = ended.json();
        let failed: Vec<&Value> =
            summary["items"].as_array().unwrap().iter().filter(|item| item["status"] == "failed").collect();
        let told = failed.iter().any(|item| item.to_string().replace("\\\"", "\"").contains(expected));
        assert!(told, "case {index}, {text:?}: {expected:?} is not in {failed:?}");
        assert_eq!(summary["failed"], failed.len(), "{summary}");
        assert!(summary["migrated"].as_u64().unwrap() >= 1, "case {index}: {summary}");
    }
}
