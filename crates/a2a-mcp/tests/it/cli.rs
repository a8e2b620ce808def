//! The command line, run as a user runs it, each test with a home of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

mod checks;
mod postgres;

const VARIABLES: [&str; 19] = [
    "DATABASE_URL",
    "DATABASE_REPLICA_URL",
    "A2A_STORAGE",
    "A2A_BACKUP_INTERVAL",
    "USE_PERSISTED_REGISTRY",
    "A2A_DATA_DIR",
    "A2A_NAMESPACE",
    "A2A_WRITE_TIMEOUT_MS",
    "A2A_CONFIG",
    "A2A_STEPS_MAX",
    "A2A_LEASE_MS",
    "A2A_LEARN",
    "A2A_SLOW_QUERY_MS",
    "A2A_EMBEDDINGS_URL",
    "A2A_EMBEDDINGS_MODEL",
    "A2A_EMBEDDINGS_DIR",
    "A2A_TOOLS",
    "A2A_ACTOR",
    "A2A_LOG",
];

/// A working directory and a data directory that nobody else uses.
pub(crate) struct Home {
    folder: TempDir,
    /// Instead of the embedded file.
    database_url: Option<String>,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database_url: None }
    }

    pub(crate) fn with_database(url: String) -> Self {
        Self { database_url: Some(url), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_a2a-mcp"));
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        // Nothing of the user who runs the tests is looked at.
        command.env("HOME", self.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command.env_remove("COLUMNS").env("A2A_DATA_DIR", self.data()).current_dir(self.path());
        command.envs(self.database_url.iter().map(|url| ("DATABASE_URL", url)));
        command.args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Ended {
        self.command(args).envs(variables.iter().copied()).output().unwrap().into()
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Ended {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Everything in the folder, to see what a command has left.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                files.push(path.display().to_string());
                if path.is_dir() {
                    walk(&path, files);
                }
            }
        }
        let mut files = Vec::new();
        walk(self.path(), &mut files);
        files
    }
}

fn examples() -> String {
    format!("{}/../../examples/agents", env!("CARGO_MANIFEST_DIR"))
}

fn closed_port() -> u16 {
    // Bound and given back: nobody listens there in the next moment.
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_roster_of_the_examples_is_deployed_found_shown_and_removed() {
    let home = Home::new();
    let deployed = home.run(&["agents", "deploy", &examples(), "--json"]).code(0).json();
    let created = deployed["created"].as_u64().unwrap();
    assert!(created >= 40, "{created}");
    assert_eq!(deployed["failed"], 0);
    assert_eq!(deployed["durability"], "committed");
    let again = home.run(&["agents", "deploy", &examples()]).code(0);
    assert!(again.out.contains(&format!("0 created, 0 updated, {created} unchanged, 0 failed")), "{}", again.out);

    let all = home.run(&["agents", "list", "--all", "--json"]).code(0).json();
    assert_eq!(all["total"].as_u64().unwrap(), created);
    assert_eq!(all["agents"].as_array().unwrap().len() as u64, created);
    let page = home.run(&["agents", "list", "--limit", "5", "--json"]).code(0).json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = home.run(&["agents", "list", "--limit", "5", "--cursor", cursor, "--json"]).code(0).json();
    assert_eq!(next["agents"][0]["id"], all["agents"][5]["id"]);
    let data = home.run(&["agents", "list", "--category", "data", "--json"]).code(0).json();
    assert!(data["total"].as_u64().unwrap() > 0 && data["total"].as_u64().unwrap() < created);

    let found = home.run(&["agents", "search", "why", "is", "this", "query", "slow", "--json"]).code(0).json();
    assert_eq!(found["hits"][0]["id"], "postgres-tuner", "{found}");
    assert!(!found["hits"][0]["reason"].as_str().unwrap().is_empty());

    let removed = home.run(&["agents", "remove", "postgres-tuner"]).code(0);
    assert!(removed.out.contains("removed postgres-tuner at revision 2"), "{}", removed.out);
    let gone = home.run(&["agents", "show", "postgres-tuner"]).code(1);
    assert!(gone.err.contains("there is no agent \"postgres-tuner\""), "{}", gone.err);
    let history = home.run(&["agents", "show", "postgres-tuner", "--history"]).code(0);
    assert!(history.out.contains("removed") && history.out.contains("document"), "{}", history.out);
    home.run(&["agents", "show", "postgres-tuner", "--revision", "1"]).code(0);
}

#[test]
fn what_is_shown_can_be_deployed_again() {
    let home = Home::new();
    home.run(&["agents", "deploy", &examples()]).code(0);
    let dry = home.run(&["agents", "deploy", &examples(), "--dry-run"]).code(0);
    assert!(dry.out.starts_with("0 created, 0 updated, "), "{}", dry.out);
    let all = home.run(&["agents", "list", "--all", "--json"]).code(0).json();
    let yaml: String = all["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| home.run(&["agents", "show", agent["id"].as_str().unwrap()]).code(0).out)
        .flat_map(|shown| ["---\n".to_owned(), shown])
        .collect();
    let count = all["total"].as_u64().unwrap();
    let again = home.run_with_input(&["agents", "deploy", "-"], &yaml).code(0);
    assert!(again.out.contains(&format!("0 created, 0 updated, {count} unchanged")), "{}", again.out);
    let json = home.run(&["agents", "show", "contract-reader", "--json"]).code(0).out;
    let again = home.run_with_input(&["agents", "deploy", "-"], &json).code(0);
    assert!(again.out.contains("1 unchanged"), "{}", again.out);
}

#[test]
fn lists_are_aligned_and_fit_the_terminal() {
    let home = Home::new();
    home.run(&["agents", "deploy", &examples()]).code(0);
    let listed = home.run_with(&[("COLUMNS", "100")], &["agents", "list", "--limit", "10"]).code(0);
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(lines.len(), 11);
    let column = lines[0].find("DESCRIPTION").unwrap();
    for line in &lines {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line.chars().nth(column - 1), Some(' '), "{line}");
    }
    assert!(listed.err.contains("--cursor"), "{}", listed.err);
    let piped = home.run(&["agents", "list", "--limit", "10"]).code(0);
    assert!(!piped.out.contains('…'));
}

#[test]
fn a_bad_document_fails_alone_and_all_problems_are_told() {
    let home = Home::new();
    let file = home.write(
        "team/mixed.yaml",
        "- id: good\n  description: Works.\n- id: 'bad id'\n  tags: 7\n- id: good\n  description: Twice.\n",
    );
    home.write("team/broken.json", "{\"id\": \"x\", \"id\": \"y\"}");
    home.write("team/notes.txt", "not an agent");
    home.write("team/.hidden.yaml", "id: hidden\ndescription: x\n");
    let dry = home.run(&["agents", "deploy", "team", "--dry-run", "--json"]).code(1).json();
    assert_eq!((&dry["created"], &dry["failed"]), (&1.into(), &3.into()), "{dry}");
    assert_eq!(home.run(&["agents", "list", "--json"]).code(0).json()["total"], 0);

    let atomic = home.run(&["agents", "deploy", "--atomic", &file]).code(1);
    assert!(atomic.out.contains("0 created, 0 updated, 0 unchanged, 3 failed; nothing was written"), "{}", atomic.out);
    assert_eq!(home.run(&["agents", "list", "--json"]).code(0).json()["total"], 0);

    let deployed = home.run(&["agents", "deploy", "team"]).code(1);
    for part in
        ["mixed.yaml[1].id", "mixed.yaml[1].tags", "mixed.yaml[1].description", "mixed.yaml[2].id", "broken.json"]
    {
        assert!(deployed.err.contains(part), "{part} is not in:\n{}", deployed.err);
    }
    assert!(deployed.out.contains("created good") && deployed.out.contains("1 created"), "{}", deployed.out);
    assert_eq!(home.run(&["agents", "list", "--json"]).code(0).json()["total"], 1);

    let missing = home.run(&["agents", "deploy", "nowhere.yaml"]).code(1);
    assert!(missing.err.contains("nowhere.yaml: can't be opened"), "{}", missing.err);
}

#[test]
fn more_agents_than_one_call_takes_are_deployed_in_parts() {
    let home = Home::new();
    let agents: Vec<Value> =
        (0..2500).map(|i| serde_json::json!({"id": format!("a-{i:04}"), "description": "One of many."})).collect();
    let file = home.write("many.json", &Value::from(agents).to_string());
    let deployed = home.run(&["agents", "deploy", &file]).code(0);
    assert!(
        deployed.out.starts_with("2500 created, 0 updated, 0 unchanged, 0 failed; committed to sqlite:"),
        "{}",
        deployed.out
    );
    let atomic = home.run(&["agents", "deploy", &file, "--atomic"]).code(2);
    assert!(atomic.err.contains("at most 1000"), "{}", atomic.err);
    let all = home.run(&["agents", "list", "--all", "--json"]).code(0).json();
    assert_eq!(all["agents"].as_array().unwrap().len(), 2500);
}

#[test]
fn purging_asks_first() {
    let home = Home::new();
    home.run_with_input(&["agents", "deploy", "-"], r#"{"id": "a", "description": "x"}"#).code(0);
    let asked = home.run(&["agents", "remove", "a", "--purge"]).code(2);
    assert!(asked.err.contains("--yes"), "{}", asked.err);
    let mixed = home.run(&["agents", "remove", "a", "b", "--purge", "--yes", "--json"]).code(1).json();
    assert_eq!(mixed["agents"][0]["status"], "purged");
    assert_eq!(mixed["agents"][1]["code"], "not_found");
    home.run(&["agents", "show", "a", "--history"]).code(1);
}

#[test]
fn stored_text_can_not_steer_the_terminal() {
    let home = Home::new();
    let text = "\\u001b[2J\\u009b31m\\u202eevil";
    let document =
        format!(r#"{{"id": "a", "name": "{text}", "description": "{text}", "instructions": "{text}\n{text}"}}"#);
    home.run_with_input(&["agents", "deploy", "-"], &document).code(0);
    for args in [
        &["agents", "list"][..],
        &["agents", "show", "a"],
        &["agents", "list", "--json"],
        &["agents", "search", "evil"],
    ] {
        let shown = home.run(args).code(0).out;
        assert!(shown.contains("evil"), "{args:?}: {shown}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{args:?}: {shown:?}");
    }
    let again = home.run_with_input(&["agents", "deploy", "-"], &home.run(&["agents", "show", "a"]).out).code(0);
    assert!(again.out.contains("1 unchanged"), "{}", again.out);
}

#[test]
fn all_wrong_settings_are_named_at_once_and_nothing_is_made() {
    let home = Home::new();
    let wrong = [
        ("DATABASE_URL", "postgress://user:hunter2@localhost/a2a"),
        ("A2A_STORAGE", "disk"),
        ("USE_PERSISTED_REGISTRY", "maybe"),
        ("A2A_NAMESPACE", "a b"),
        ("A2A_WRITE_TIMEOUT_MS", "soon"),
        ("A2A_LOG", "a2a_store=loud"),
    ];
    for args in [&["agents", "list"][..], &["serve"], &["migrate", "run"]] {
        let ended = home.run_with(&wrong, args).code(2);
        for (variable, _) in wrong {
            assert!(ended.err.contains(variable), "{variable} is not in:\n{}", ended.err);
        }
        assert!(!ended.err.contains("hunter2") && ended.out.is_empty());
    }
    let doctor = home.run_with(&wrong, &["doctor"]).code(2);
    assert!(doctor.out.contains("did you mean postgres://?") && !doctor.out.contains("hunter2"), "{}", doctor.out);
    assert!(home.files().is_empty(), "{:?}", home.files());
}

#[test]
fn a_mistyped_url_makes_no_file() {
    let home = Home::new();
    for url in ["agents.db", "sqlte:agents.db", "sqlite:", "sqlite::memory:", "mysql://localhost/x", "\"sqlite:a.db\""]
    {
        home.run(&["--database-url", url, "agents", "list"]).code(2);
        assert!(home.files().is_empty(), "{url}: {:?}", home.files());
    }
    home.run(&["agents", "list", "--database-url", "sqlite:agents.db"]).code(0);
    assert!(home.path().join("agents.db").exists());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let home = Home::new();
    home.write(".env", "# settings\nA2A_NAMESPACE=of-file\nexport A2A_ACTOR='file \"x\" $y'\nOTHER_PROGRAM=1\n");
    let deploy = |variables: &[(&str, &str)], args: &[&str]| {
        let file = home.write("agent.json", r#"{"id": "a", "description": "x"}"#);
        home.run_with(variables, &[&["agents", "deploy", &file], args].concat()).code(0);
    };
    deploy(&[], &[]);
    deploy(&[("A2A_NAMESPACE", "of-environment")], &[]);
    deploy(&[("A2A_NAMESPACE", "of-environment")], &["--namespace", "of-flag"]);
    for namespace in ["of-file", "of-environment", "of-flag"] {
        let listed = home.run(&["agents", "list", "--namespace", namespace, "--json"]).code(0).json();
        assert_eq!(listed["agents"][0]["namespace"], namespace);
        assert_eq!(listed["agents"][0]["updated_by"], "file \"x\" $y");
    }
    let sources = |variables: &[(&str, &str)], args: &[&str]| {
        let doctor = home.run_with(variables, &[&["doctor", "--json"], args].concat()).code(0).json();
        let find = |name: &str| {
            let all = doctor["settings"].as_array().unwrap();
            all.iter().find(|setting| setting["variable"] == name).unwrap()["source"].as_str().unwrap().to_owned()
        };
        (find("A2A_NAMESPACE"), find("A2A_DATA_DIR"), find("A2A_STORAGE"))
    };
    let of = |namespace: &str| (namespace.to_owned(), "environment".to_owned(), "default".to_owned());
    assert_eq!(sources(&[], &[]), of(".env"));
    assert_eq!(sources(&[("A2A_NAMESPACE", "x")], &[]), of("environment"));
    assert_eq!(sources(&[], &["--namespace", "x"]), of("flag"));
    // Set to nothing is set: the file does not win over it.
    let emptied = home.run_with(&[("A2A_NAMESPACE", "")], &["agents", "list", "--json"]).code(0).json();
    assert_eq!(emptied["total"], 0);
}

#[test]
fn a_setting_that_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::new();
    let broken = std::ffi::OsStr::from_bytes(b"\xff");
    let ended: Ended = home.command(&["agents", "list"]).env("A2A_ACTOR", broken).output().unwrap().into();
    assert!(ended.code(2).err.contains("A2A_ACTOR: is not UTF-8"));
}

#[test]
fn a_broken_env_file_is_an_error_with_its_line() {
    let home = Home::new();
    home.write(".env", "A2A_ACTOR=me\nDATABASE_URL='hunter2\n");
    let ended = home.run(&["agents", "list"]).code(2);
    assert!(ended.err.contains(".env: line 2") && !ended.err.contains("hunter2"), "{}", ended.err);
    home.run(&["--help"]).code(0);
}

#[test]
fn doctor_approves_of_a_fresh_directory() {
    let home = Home::new();
    let report = home.run(&["doctor", "--json"]).code(0).json();
    let checks = report["checks"].as_array().unwrap();
    let status = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name} is not in {report}"))["status"].as_str().unwrap().to_owned()
    };
    for name in ["connect", "permissions", "disk", "schema", "write", "load", "freshness"] {
        assert_eq!(status(name), "ok", "{report}");
    }
    // What was deployed to measure freshness is gone again.
    assert_eq!(home.run(&["agents", "list", "--namespace", "a2a-doctor", "--json"]).code(0).json()["total"], 0);
    let text = home.run(&["doctor"]).code(0);
    assert!(text.out.contains("everything is as it should be"), "{}", text.out);
}

#[test]
fn doctor_names_what_is_wrong_with_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.run(&["agents", "list"]).code(0);
    let file = home.data().join("a2a.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warned = home.run(&["doctor"]).code(0);
    assert!(warned.out.contains("chmod 600") && warned.out.contains("it works"), "{}", warned.out);

    home.run(&["migrate", "revert", "--yes"]).code(0);
    let older = home.run(&["doctor"]).code(0);
    assert!(older.out.contains("a2a-mcp migrate run") && older.out.contains("skip"), "{}", older.out);

    std::fs::write(&file, "this is not a database, and longer than its header of a hundred bytes ".repeat(9)).unwrap();
    let broken = home.run(&["doctor"]).code(3);
    assert!(broken.out.contains("FAIL"), "{}", broken.out);
    home.run(&["agents", "list"]).code(3);
}

#[test]
fn a_closed_port_is_told_at_once_with_what_to_do() {
    let home = Home::new();
    let port = closed_port();
    let url = format!("postgres://a2a:hunter2@127.0.0.1:{port}/a2a");
    let variables = [("DATABASE_URL", url.as_str())];
    let report = home.run_with(&variables, &["doctor", "--json"]).code(3).json();
    let check = &report["checks"][0];
    assert_eq!((&check["status"], &check["code"]), (&"fail".into(), &"refused".into()), "{report}");
    assert_eq!(check["next"], format!("pg_isready -h 127.0.0.1 -p {port}"));
    let listed = home.run_with(&variables, &["agents", "list"]).code(3);
    assert!(listed.err.contains(&format!("127.0.0.1:{port}")) && listed.err.contains("doctor"), "{}", listed.err);
    assert!(!listed.err.contains("hunter2") && !report.to_string().contains("hunter2"));
}

#[test]
fn migrations_are_run_shown_and_undone() {
    let home = Home::new();
    let before = home.run(&["migrate", "status", "--json"]).code(0).json();
    assert!(before["steps"].as_array().unwrap().iter().all(|step| step["applied"] == false));
    assert!(home.files().is_empty(), "looking makes nothing: {:?}", home.files());
    assert!(home.run(&["migrate", "run"]).code(0).out.contains("ran "));
    assert!(home.run(&["migrate", "run"]).code(0).out.contains("up to date"));
    assert!(home.run(&["migrate", "status"]).code(0).out.contains("up to date"));
    assert!(home.run(&["migrate", "revert"]).code(2).err.contains("--yes"));
    assert!(home.run(&["migrate", "revert", "--yes"]).code(0).out.contains("undid "));
    home.run(&["agents", "list"]).code(0);
}

#[test]
fn memory_mode_keeps_nothing_and_says_so() {
    let home = Home::new();
    let ended = home.run_with(&[("USE_PERSISTED_REGISTRY", "false")], &["agents", "deploy", &examples()]).code(0);
    assert!(ended.out.contains("in memory only") && ended.err.contains("nothing of this command is kept"));
    assert!(home.files().is_empty(), "{:?}", home.files());
}

#[test]
fn help_teaches_every_setting_and_the_exit_codes() {
    let home = Home::new();
    let help = home.run(&["--help"]).code(0).out;
    for variable in VARIABLES {
        assert!(help.contains(variable), "{variable} is not in the help");
    }
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["agents", "--help"],
        &["agents", "deploy", "--help"],
        &["agents", "list", "--help"],
        &["agents", "search", "--help"],
        &["agents", "show", "--help"],
        &["agents", "check", "--help"],
        &["agents", "remove", "--help"],
        &["migrate", "--help"],
        &["migrate", "run", "--help"],
        &["migrate", "status", "--help"],
        &["migrate", "revert", "--help"],
        &["doctor", "--help"],
        &["completions", "--help"],
    ] {
        let help = home.run_with(&[("DATABASE_URL", "hunter2")], args).code(0).out;
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{args:?}:\n{help}");
        assert!(!help.contains("hunter2"));
    }
    assert!(home.run(&["--version"]).code(0).out.starts_with("a2a-mcp "));
    let unknown = home.run(&["agents", "lst"]).code(2);
    assert!(unknown.err.contains("list") && unknown.out.is_empty(), "{}", unknown.err);
    assert!(home.run(&["completions", "bash"]).code(0).out.contains("a2a-mcp"));
}

#[test]
fn an_unread_pipe_ends_a_command_quietly() {
    let home = Home::new();
    home.run(&["agents", "deploy", &examples()]).code(0);
    let mut child = home
        .command(&["agents", "list", "--all", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

#[test]
fn without_a_command_it_serves_and_ends_with_its_input() {
    let home = Home::new();
    let ended = home.run(&[]).code(0);
    assert_eq!(ended.out, "");
    let toolset = home.run(&["--tools", "everything"]).code(2);
    assert!(toolset.err.contains("A2A_TOOLS"), "{}", toolset.err);
}
