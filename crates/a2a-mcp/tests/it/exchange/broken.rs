//! Inputs that are broken, each with what is said of it.

use crate::cli::Home;

/// What is where an import looks.
enum Input {
    Text(&'static str),
    Bytes(&'static [u8]),
    /// The first so many times and the second as often.
    Deep(&'static str, &'static str, usize),
    /// More than is read of one file.
    Large,
    /// More than is read of one line, which is not the last.
    LongLine,
    /// One without a file of the format.
    Folder,
    Missing,
}

use Input::{Bytes, Deep, Folder, Large, LongLine, Missing, Text};

impl Input {
    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Text(text) => Some(text.as_bytes().to_vec()),
            Bytes(bytes) => Some(bytes.to_vec()),
            Deep(open, close, times) => Some([open.repeat(*times), close.repeat(*times)].concat().into_bytes()),
            Large => Some(vec![b' '; 64 * 1024 * 1024 + 1]),
            LongLine => Some(vec![b' '; 4 * 1024 * 1024 + 1]),
            Folder | Missing => None,
        }
    }
}

/// Format, file, what it holds, and the errors that are told.
type Case = (&'static str, &'static str, Input, &'static str);

const CASES: &[Case] = &[
    ("json", "a.json", Text(""), "a.json: is not valid JSON: EOF while parsing a value at line 1 column 0"),
    ("json", "a.json", Text("{"), "a.json: is not valid JSON: EOF while parsing an object at line 1 column 1"),
    ("json", "a.json", Text("["), "a.json: is not valid JSON: EOF while parsing a list at line 1 column 1"),
    ("json", "a.json", Text("nul"), "a.json: is not valid JSON: EOF while parsing a value at line 1 column 3"),
    ("json", "a.json", Text("{'id': 1}"), "a.json: is not valid JSON: key must be a string at line 1 column 2"),
    ("json", "a.json", Text("{\"id\": \"a\",}"), "a.json: is not valid JSON: trailing comma at line 1 column 12"),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"id\": \"b\"}"),
        "a.json: is not valid JSON: id: the key stands twice in this object; send it once",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"\\ud800\"}"),
        "a.json: is not valid JSON: id: the string holds half of a surrogate pair (\\uD800-\\uDFFF); send both halves, or leave it out",
    ),
    ("json", "a.json", Text("null"), "a.json: holds no document"),
    ("json", "a.json", Text("[]"), "a.json: holds no document"),
    ("json", "a.json", Text("1"), "a.json: must be an object, not a number"),
    ("json", "a.json", Text("\"text\""), "a.json: must be an object, not a text"),
    ("json", "a.json", Text("[[1]]"), "a.json: must be an object, not a list"),
    (
        "json",
        "a.json",
        Text("{}"),
        "a.json.id: is required: the name that callers use, such as \"release-notes\"\na.json.description: is required: one sentence that says when to use this agent",
    ),
    ("json", "a.json", Text("{\"id\": 1, \"description\": \"x\"}"), "a.json.id: must be a text, not a number"),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a b\", \"description\": \"x\"}"),
        "a.json.id: has the character ' '; use only A-Z a-z 0-9 . _ : -",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"\", \"description\": \"x\"}"),
        "a.json.id: is empty; use 1 to 128 characters of A-Z a-z 0-9 . _ : -",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"builtin:x\", \"description\": \"x\"}"),
        "a.json.id: begins with \"builtin:\", which is kept for built-in agents; choose another",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\"}"),
        "a.json.description: is required: one sentence that says when to use this agent",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \" \"}"),
        "a.json.description: is empty: write one sentence that says when to use this agent",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"x\", \"colour\": 1}"),
        "a.json.colour: is not a field here; known fields: namespace, id, description, name, version, instructions, category, tags, enabled, capabilities, executor, config, deprecated",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"x\", \"version\": \"one\"}"),
        "a.json.version: is not a semantic version (unexpected character 'o' while parsing major version number); use one such as \"1.4.0\"",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"x\", \"tags\": 7}"),
        "a.json.tags: must be a list, not a number",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"x\", \"executor\": {\"kind\": \"magic\"}}"),
        "a.json.executor.kind: is \"magic\"; use one of: pull, builtin, a2a, mcp, http, command",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"nul \\u0000\"}"),
        "a.json: is not valid JSON: description: the string holds the character NUL (\\u0000), which cannot be stored; remove it",
    ),
    (
        "json",
        "a.json",
        Text("[{\"id\": \"a\", \"description\": \"x\"}, {\"id\": \"a\", \"description\": \"y\"}]"),
        "a.json[1].id: \"a\" stands in a.json[0] too; give each agent its own id",
    ),
    (
        "json",
        "a.json",
        Text("{\"agents\": [{\"id\": \"a\"}]}"),
        "a.json.agents[0].description: is required: one sentence that says when to use this agent",
    ),
    (
        "json",
        "a.json",
        Text("{\"agents\": {}}"),
        "a.json.id: is required: the name that callers use, such as \"release-notes\"\na.json.description: is required: one sentence that says when to use this agent\na.json.agents: is not a field here; known fields: namespace, id, description, name, version, instructions, category, tags, enabled, capabilities, executor, config, deprecated",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"w\", \"steps\": []}"),
        "a.json.steps: is required: at least one step, such as {\"name\": \"draft\", \"agent\": \"writer\"}",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"w\", \"steps\": [{\"name\": \"s\"}]}"),
        "a.json.steps[0].agent: is required: a deployed agent, or builtin:echo, builtin:transform, builtin:wait, builtin:gate",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"w\", \"steps\": [{\"name\": \"s\", \"agent\": \"a\", \"depends_on\": [\"t\"]}]}"),
        "a.json.steps[0].depends_on[0]: there is no step \"t\"",
    ),
    ("json", "a.json", Text("{\"content\": \"\"}"), "a.json.content: is empty: write what is to be remembered"),
    ("json", "a.json", Text("{\"content\": 7}"), "a.json.content: must be a text, not a number"),
    (
        "json",
        "a.json",
        Text("{\"content\": \"x\", \"type\": \"dream\"}"),
        "a.json.type: is \"dream\"; use one of: conversation, procedural, episodic, semantic, tool_usage, preference",
    ),
    (
        "json",
        "a.json",
        Text("{\"content\": \"x\", \"importance\": 2}"),
        "a.json.importance: is 2; use a number from 0 to 1",
    ),
    (
        "json",
        "a.json",
        Text("{\"content\": \"x\", \"created_at\": \"yesterday\"}"),
        "a.json: created_at is not a time in RFC 3339",
    ),
    ("json", "a.json", Text("{\"content\": \"x\", \"supersedes\": \"y\"}"), "a.json: supersedes must be a list of ids"),
    ("yaml", "a.yaml", Text("id: ["), "a.yaml: is not valid YAML: unclosed bracket '[' at line 1, column 5"),
    (
        "yaml",
        "a.yaml",
        Text("id: a\nid: b\n"),
        "a.yaml: is not valid YAML: duplicate mapping key: id at line 2, column 1",
    ),
    ("yaml", "a.yaml", Text("id: \"a\n"), "a.yaml: is not valid YAML: unclosed quote at line 1, column 5"),
    (
        "yaml",
        "a.yaml",
        Text("id: &a [*a]\n"),
        "a.yaml: is not valid YAML: a reference leads back to itself at line 1, column 9",
    ),
    (
        "yaml",
        "a.yaml",
        Text("- a\n- b\n"),
        "a.yaml[0]: must be an object, not a text\na.yaml[1]: must be an object, not a text",
    ),
    ("yaml", "a.yaml", Text("# nothing\n"), "a.yaml: holds no document"),
    ("yaml", "a.yaml", Text("id: a\ndescription: 1\n"), "a.yaml.description: must be a text, not a number"),
    (
        "yaml",
        "a.yaml",
        Text("id: a\ndescription: x\n---\nid: b\n"),
        "a.yaml[1].description: is required: one sentence that says when to use this agent",
    ),
    ("a2a-card", "a.json", Text("{\"name\": \"x\"}"), "a.json: is not an agent card: it has no description"),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"description\": \"y\"}"),
        "a.json: is not an agent card: it has neither supportedInterfaces (1.0) nor url (0.3)",
    ),
    ("claude-agents", "a.md", Text("---\nname: a\n"), "a.md: the front matter has no end: a line of --- is missing"),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: a\n---\n"),
        "a.md: the front matter lacks description, by which Claude Code chooses the agent",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\ndescription: a\n---\n"),
        "a.md: the front matter lacks name, by which Claude Code calls the agent",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: a\nname: b\ndescription: c\n---\n"),
        "a.md: \"name\" stands twice in the front matter",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: a\njust words\ndescription: c\n---\n"),
        "a.md: line 3 of the front matter is not `key: value`",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: [a]\ndescription: c\n---\n"),
        "a.md: name in the front matter must be a text",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: a\ndescription: ''\n---\n"),
        "a.md.description: is empty: write one sentence that says when to use this agent",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: \"!!\"\ndescription: c\n---\n"),
        "a.md: the name \"!!\" has nothing that an id may hold: A-Z a-z 0-9 . _ : -",
    ),
    (
        "json",
        "a.json",
        Bytes(b"{\"id\": \"\xff\"}"),
        "a.json: is not valid JSON: invalid unicode code point at line 1 column 9",
    ),
    (
        "json",
        "a.json",
        Bytes(b"{\"id\": \"a\0\"}"),
        "a.json: is not valid JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 10",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"cut off in the mid"),
        "a.json: is not valid JSON: EOF while parsing a string at line 1 column 46",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\"} {\"id\": \"b\"}"),
        "a.json: is not valid JSON: trailing characters at line 1 column 13",
    ),
    (
        "json",
        "a.json",
        Text("{\"id\": \"a\", \"description\": \"x\", \"config\": {\"n\": 1e999}}"),
        "a.json: is not valid JSON: config.n: the number is beyond the range of a double (about 1.8e308); send a smaller number, or a string",
    ),
    (
        "json",
        "a.json",
        Text("{\"content\": \"\\udc00\"}"),
        "a.json: is not valid JSON: content: the string holds half of a surrogate pair (\\uD800-\\uDFFF); send both halves, or leave it out",
    ),
    (
        "json",
        "a.json",
        Deep("[", "]", 5_000),
        "a.json: is not valid JSON: [0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested deeper than 64 levels; flatten it, or send the inner part as a string",
    ),
    (
        "json",
        "a.json",
        Deep("{\"id\": \"a\", \"description\": \"x\", \"config\": {\"x\": ", "}", 100),
        "a.json: is not valid JSON: config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x.config.x: nested deeper than 64 levels; flatten it, or send the inner part as a string",
    ),
    ("json", "a.json", Large, "a.json: is larger than 64 MiB; split it into several files"),
    ("json", "folder", Folder, "folder: holds no *.json file"),
    ("json", "missing.json", Missing, "missing.json: can't be opened: No such file or directory (os error 2)"),
    ("yaml", "a.yaml", Bytes(b"id: \xff\n"), "a.yaml: is not valid YAML: input is not valid UTF-8"),
    (
        "yaml",
        "a.yaml",
        Bytes(b"id: \"a\0\"\n"),
        "a.yaml: is not valid YAML: unexpected character: `\\u{0}' at line 1, column 7",
    ),
    ("yaml", "a.yaml", Text(""), "a.yaml: holds no document"),
    (
        "yaml",
        "a.yaml",
        Text("id: a\n\tdescription: x\n"),
        "a.yaml: is not valid YAML: while scanning a plain scalar, found a tab at line 1, column 5",
    ),
    (
        "yaml",
        "a.yaml",
        Text("id: !mine a\n"),
        "a.yaml: is not valid YAML: unsupported tag `!mine` at line 1, column 11",
    ),
    (
        "yaml",
        "a.yaml",
        Text("id: a\ndescription: x\nenabled: maybe\n"),
        "a.yaml.enabled: must be true or false, not a text",
    ),
    (
        "yaml",
        "a.yaml",
        Text("id: a\ndescription: x\nconfig: {x: .nan}\n"),
        "a.yaml: is not valid YAML: non-finite float `.nan` is no JSON number at line 3, column 13",
    ),
    ("yaml", "a.yaml", Text("content: x\nsupersedes: [1]\n"), "a.yaml: supersedes must be a list of ids"),
    (
        "yaml",
        "a.yaml",
        Deep("[", "]", 500),
        "a.yaml: is not valid YAML: recursion limit exceeded at line 1, column 256",
    ),
    ("yaml", "folder", Folder, "folder: holds no *.yaml or *.yml file"),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\""),
        "a.json: is not valid JSON: EOF while parsing an object at line 1 column 12",
    ),
    ("a2a-card", "a.json", Text("[]"), "a.json: holds no document"),
    ("a2a-card", "a.json", Text("[1]"), "a.json: is not an agent card: it is no JSON object"),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": 1, \"description\": \"y\", \"url\": \"https://h.example/\"}"),
        "a.json: is not an agent card: name is no text",
    ),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"name\": \"z\"}"),
        "a.json: is not valid JSON: name: the key stands twice in this object; send it once",
    ),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"description\": \"y\", \"url\": \"ftp://h.example/\"}"),
        "a.json: its endpoint \"ftp://h.example/\" is no http or https URL",
    ),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"description\": \"y\", \"url\": \"https://h.example/\", \"skills\": {}}"),
        "a.json: is not an agent card: skills is no list",
    ),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"description\": \"y\", \"url\": \"https://h.example/\", \"skills\": [{}]}"),
        "a.json: skills[0] has no id",
    ),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"description\": \"y\", \"url\": \"https://me:pw@h.example/\"}"),
        "a.json.executor.settings.url: holds a user name or password; keep credentials in the operator's configuration",
    ),
    (
        "a2a-card",
        "a.json",
        Text("{\"name\": \"x\", \"description\": \"y\", \"url\": \"https://h.example/\", \"version\": \"new\"}"),
        "a.json.version: is not a semantic version (unexpected character 'n' while parsing major version number); use one such as \"1.4.0\"",
    ),
    ("a2a-card", "a.json", Bytes(b"\xfe\xff{}"), "a.json: is not valid JSON: expected value at line 1 column 1"),
    ("claude-agents", "a.md", Bytes(b"---\nname: \xff\n---\n"), "a.md: is not UTF-8"),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: a\ndescription: |\n  x\n"),
        "a.md: the front matter has no end: a line of --- is missing",
    ),
    (
        "claude-agents",
        "a.md",
        Text("---\nname: a\ndescription: nul \\0\n---\n\0"),
        "a.md.instructions: holds a NUL character; remove it",
    ),
    ("claude-agents", "folder", Folder, "folder: holds no *.md file"),
    ("claude-agents", "missing.md", Missing, "missing.md: can't be opened: No such file or directory (os error 2)"),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"entity\", \"name\": \"x\""),
        "line 1: is not valid JSON: EOF while parsing an object at line 1 column 30",
    ),
    ("server-memory", "a.jsonl", Text("[]"), "line 1: is not a JSON object"),
    ("server-memory", "a.jsonl", Text("{\"type\": \"thing\"}"), "line 1: type must be entity or relation"),
    ("server-memory", "a.jsonl", Text("{\"type\": \"entity\", \"entityType\": \"y\"}"), "line 1: name is missing"),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"entity\", \"name\": 1, \"entityType\": \"y\"}"),
        "line 1: name must be a text",
    ),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"entity\", \"name\": \"x\", \"entityType\": \"y\", \"observations\": {}}"),
        "line 1: observations must be a list of texts",
    ),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"entity\", \"name\": \"x\", \"entityType\": \"y\", \"observations\": [1]}"),
        "line 1: observations[0] must be a text",
    ),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"relation\", \"from\": \"x\", \"to\": \"y\"}"),
        "line 1: relationType is missing",
    ),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"entity\", \"type\": \"relation\"}"),
        "line 1: is not valid JSON: type: the key stands twice in this object; send it once",
    ),
    (
        "server-memory",
        "a.jsonl",
        Bytes(b"{\"type\": \"\xff\"}"),
        "line 1: is not valid JSON: invalid unicode code point at line 1 column 11",
    ),
    (
        "server-memory",
        "a.jsonl",
        Text("{\"type\": \"entity\", \"name\": \"x\", \"entityType\": \"y\", \"observations\": [\"a\\u0000\"]}"),
        "line 1: is not valid JSON: observations[0]: the string holds the character NUL (\\u0000), which cannot be stored; remove it",
    ),
    ("server-memory", "a.jsonl", LongLine, "line 1: is longer than 4 MiB"),
    (
        "prisma",
        "a-memories.json",
        Text(""),
        "a-memories.json: is not valid JSON: EOF while parsing a value at line 1 column 0",
    ),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": ["),
        "a-memories.json: is not valid JSON: EOF while parsing a list at line 1 column 14",
    ),
    ("prisma", "a-memories.json", Text("[]"), "a-memories.json: must be an object with memories"),
    ("prisma", "a-memories.json", Text("{}"), "a-memories.json: memories must be a list"),
    ("prisma", "a-memories.json", Text("{\"memories\": {}}"), "a-memories.json: memories must be a list"),
    ("prisma", "a-memories.json", Text("{\"memories\": [7]}"), "a-memories.json.memories[0]: must be an object"),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": [{\"type\": \"semantic\"}]}"),
        "a-memories.json.memories[0]: has no content",
    ),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": [{\"content\": \"x\", \"context\": 1}]}"),
        "a-memories.json.memories[0]: context must be an object",
    ),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": [{\"content\": \"x\", \"metadata\": {\"importance\": \"high\"}}]}"),
        "a-memories.json.memories[0].importance: must be a number, not a text",
    ),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": [{\"content\": \"x\", \"context\": {\"timestamp\": \"soon\"}}]}"),
        "a-memories.json.memories[0]: created_at is not a time in RFC 3339",
    ),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": [], \"personality\": {\"traits\": 1}}"),
        "a-memories.json.personality: traits must be an object",
    ),
    (
        "prisma",
        "a-memories.json",
        Text("{\"memories\": [], \"memories\": []}"),
        "a-memories.json: is not valid JSON: memories: the key stands twice in this object; send it once",
    ),
    (
        "prisma",
        "a-memories.json",
        Bytes(b"{\"memories\": [\xff]}"),
        "a-memories.json: is not valid JSON: expected value at line 1 column 15",
    ),
    ("prisma", "folder", Folder, "folder: holds no *-memories.json file"),
];

/// The name of a good file of a format, and what it holds.
fn good(format: &str) -> (&'static str, &'static str) {
    match format {
        "json" => ("good.json", "{\"id\": \"good\", \"description\": \"x\"}"),
        "a2a-card" => ("good.json", "{\"name\": \"good\", \"description\": \"x\", \"url\": \"https://h.example/\"}"),
        "yaml" => ("good.yaml", "id: good\ndescription: x\n"),
        "prisma" => ("good-memories.json", "{\"memories\": [{\"content\": \"good\"}]}"),
        _ => ("good.md", "---\nname: good\ndescription: x\n---\n"),
    }
}

const GOOD_LINE: &[u8] = b"\n{\"type\": \"relation\", \"from\": \"a\", \"relationType\": \"b\", \"to\": \"c\"}\n";

/// Runs a case, and tells what is not as expected.
fn difference(index: usize, (format, name, input, expected): &Case) -> Option<String> {
    let home = Home::new();
    let path = home.path().join(name);
    let is_lines = *format == "server-memory";
    match input.bytes() {
        Some(bytes) if is_lines => std::fs::write(&path, [&bytes, GOOD_LINE].concat()).unwrap(),
        Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        None if matches!(input, Folder) => std::fs::create_dir(&path).unwrap(),
        None => {}
    }
    let ended = if is_lines {
        home.run(&["import", format, name])
    } else {
        let (good, text) = good(format);
        home.write(good, text);
        home.run(&["import", format, name, good])
    };
    let told: Vec<&str> = ended.err.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    let told = told.join("\n");
    let is_imported = ["created agent good", "1 migrated", "1 stored"].iter().any(|sign| ended.out.contains(sign));
    let is_right = told == *expected && ended.code == 1 && is_imported;
    (!is_right).then(|| format!("{index} {told:?} {} {}", ended.code, ended.out))
}

#[test]
fn each_broken_input_is_told_and_the_good_one_beside_it_is_imported() {
    const AT_ONCE: usize = 4;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let part = |first: usize| {
            move || {
                let cases = CASES.iter().enumerate().skip(first).step_by(AT_ONCE);
                cases.filter_map(|(index, case)| difference(index, case)).collect::<Vec<_>>()
            }
        };
        let parts: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(part(first))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
