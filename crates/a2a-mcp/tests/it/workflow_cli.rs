//! Workflows and runs on the command line, and the workflows of the examples.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take that another process does.
const SOON: Duration = Duration::from_secs(30);

fn examples(folder: &str) -> String {
    format!("{}/../../examples/{folder}", env!("CARGO_MANIFEST_DIR"))
}

struct Ended {
    code: i32,
    out: String,
    err: String,
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
    fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }
}

/// A data directory that nobody else uses.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_a2a-mcp"));
        command.env_clear().env("HOME", self.path()).env("A2A_DATA_DIR", self.path().join("data"));
        command.current_dir(self.path()).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Looks at a run until it stands somewhere.
    fn until(&self, run: &str, status: &str) -> Value {
        let started = Instant::now();
        loop {
            let shown = self.run(&["runs", "show", run, "--json"]).code(0).json();
            if shown["status"] == status {
                return shown;
            }
            assert!(started.elapsed() < SOON, "{run} is not {status}: {shown}");
        }
    }
}

/// A worker that is told to end when it goes out of scope.
struct Worker {
    child: Child,
    log: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Worker {
    /// Starts it and waits until it has said that it works.
    fn start(home: &Home) -> Self {
        let mut child = home.command(&["worker"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = lines.by_ref().map_while(Result::ok).any(|line| line.contains("working on what is due"));
        assert!(told, "the worker says when it works");
        // A full pipe must not stop it.
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { child, log: Some(log) }
    }

    /// Tells it to end; returns its exit code and what it has logged.
    fn end(mut self, signal: &str) -> (i32, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, self.log.take().unwrap().join().unwrap().join("\n"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
    }
}

#[test]
fn the_workflows_of_the_examples_are_valid_with_its_agents() {
    let home = Home::new();
    home.run(&["agents", "deploy", &examples("agents")]).code(0);
    let dry = home.run(&["workflows", "save", &examples("workflows"), "--dry-run", "--json"]).code(0).json();
    let saved = home.run(&["workflows", "save", &examples("workflows"), "--json"]).code(0).json();
    let count = saved["created"].as_u64().unwrap();
    assert!(count >= 5 && dry["created"] == count && saved["failed"] == 0, "{saved}");
    for item in saved["workflows"].as_array().unwrap() {
        assert_eq!(item.get("warnings"), None, "{item}");
    }
    let again = home.run(&["workflows", "save", &examples("workflows"), "--json"]).code(0).json();
    assert_eq!(again["unchanged"], count);
    let list = home.run(&["workflows", "list", "--json"]).code(0).json();
    for workflow in list["workflows"].as_array().unwrap() {
        let id = workflow["id"].as_str().unwrap();
        assert!(!workflow["description"].as_str().unwrap().is_empty(), "{id}");
        // What is shown can be saved again and is the same.
        let yaml = home.run(&["workflows", "show", id]).code(0).out;
        let file = home.write("shown.yaml", &yaml);
        let same = home.run(&["workflows", "save", &file, "--json"]).code(0).json();
        assert_eq!(same["unchanged"], 1, "{yaml}\n{same}");
        assert!(home.run(&["workflows", "show", id, "--mermaid"]).code(0).out.starts_with("flowchart"));
    }
    for entry in std::fs::read_dir(examples("workflows")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# "), "{} says at the top what it does", path.display());
        }
    }
}

#[test]
fn every_revision_of_a_workflow_can_be_shown_and_saved_again() {
    let home = Home::new();
    let document = |agent: &str| format!("id: w\nsteps: [{{name: a, agent: {agent}}}]\n");
    for agent in ["builtin:echo", "somebody"] {
        let file = home.write("w.yaml", &document(agent));
        home.run(&["workflows", "save", &file]).code(0);
    }
    home.run(&["workflows", "remove", "w"]).code(0);
    let listed = home.run(&["workflows", "show", "w", "--history", "--json"]).code(0).json();
    let found: Vec<(i64, &str)> = listed["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["revision"].as_i64().unwrap(), row["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [(3, "removed"), (2, "document"), (1, "document")], "{listed}");
    let table = home.run(&["workflows", "show", "w", "--history"]).code(0).out;
    assert!(table.starts_with("REVISION") && table.lines().count() == 4, "{table}");
    let first = home.run(&["workflows", "show", "w", "--revision", "1"]).code(0).out;
    assert!(first.starts_with("# revision 1,") && first.contains("builtin:echo"), "{first}");
    let file = home.write("first.yaml", &first);
    home.run(&["workflows", "save", &file]).code(0);
    assert!(home.run(&["workflows", "show", "w"]).code(0).out.contains("builtin:echo"));
    let removal = home.run(&["workflows", "show", "w", "--revision", "3"]).code(1).err;
    assert!(removal.contains("is its removal"), "{removal}");
    let none = home.run(&["workflows", "show", "w", "--revision", "9"]).code(1).err;
    assert!(none.contains("the newest is 4"), "{none}");
    let unknown = home.run(&["workflows", "show", "nothing", "--history"]).code(1).err;
    assert!(unknown.contains("there is no workflow"), "{unknown}");
}

#[test]
fn a_worker_carries_a_run_on_and_ends_when_told() {
    let home = Home::new();
    home.run(&["agents", "deploy", &examples("agents")]).code(0);
    home.run(&["workflows", "save", &examples("workflows/first-run.yaml")]).code(0);
    let input = ["--input", r#"{"message": "good morning"}"#, "--context", r#"{"pause_s": 0.2}"#];
    let mut start = vec!["runs", "start", "first-run", "--key", "once"];
    start.extend(input);
    let run = home.run(&start).code(0).out.trim().to_owned();
    assert_eq!(home.run(&start).code(0).out.trim(), run, "the same key is the same run");
    // Commands take no step themselves.
    let shown = home.run(&["runs", "show", &run]).code(0).out;
    assert!(shown.contains("READY") && shown.contains("a2a-mcp worker"), "{shown}");
    let worker = Worker::start(&home);
    let watched = home.run(&["runs", "watch", &run, "--timeout", "30"]).code(0);
    assert!(watched.out.contains(&format!("{run} is COMPLETED")), "{}", watched.out);
    let ended = home.until(&run, "COMPLETED");
    assert_eq!(ended["result"], json!({"said": "GOOD MORNING", "run": run}));
    assert_eq!(ended["steps"][0]["output"]["message"], "good morning");
    let followed = home.run(&["runs", "start", "first-run", "--context", r#"{"pause_s": 0}"#, "--watch"]).code(0).out;
    assert!(followed.contains("COMPLETED") && followed.contains("HELLO"), "{followed}");
    let list = home.run(&["runs", "list", "--status", "completed", "--json"]).code(0).json();
    assert_eq!((&list["total"], list["runs"].as_array().unwrap().len()), (&json!(2), 2));
    let page = home.run(&["runs", "list", "--limit", "1", "--json"]).code(0).json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = home.run(&["runs", "list", "--limit", "1", "--cursor", next, "--json"]).code(0).json();
    assert_eq!(rest["runs"][0]["run"], run);
    let (code, log) = worker.end("-TERM");
    assert_eq!(code, 0);
    assert!(log.contains(&format!("run={run} step=hello")) && log.contains("worker ended"), "{log}");
    assert_eq!(Worker::start(&home).end("-INT").0, 0);
}

#[test]
fn runs_are_controlled_and_answered() {
    let home = Home::new();
    let file = home.write(
        "gate.yaml",
        "id: gate\nsteps:\n  - name: ask\n    agent: builtin:gate\n    input: {question: 'Ship it?'}\n  - name: after\n    \
         agent: builtin:wait\n    depends_on: [ask]\n    input: {seconds: 3600}\n",
    );
    let start = || home.run(&["runs", "start", "--file", &file]).code(0).out.trim().to_owned();
    let run = start();
    let shown = home.run(&["runs", "show", &run]).code(0).out;
    assert!(shown.contains("Ship it?") && shown.contains(&format!("a2a-mcp runs answer {run}")), "{shown}");
    assert!(home.run(&["runs", "show", &run, "--mermaid"]).code(0).out.contains("ask"));
    home.run(&["runs", "watch", &run, "--timeout", "1"]).code(1);
    home.run(&["runs", "pause", &run]).code(0);
    let resumed = home.run(&["runs", "resume", &run, "--json"]).code(0).json();
    assert_eq!(resumed["runs"][0]["paused"], false);
    home.run(&["runs", "answer", &run, "yes"]).code(0);
    let step = home.run(&["runs", "show", &run, "--step", "ask", "--json"]).code(0).json();
    assert_eq!((&step["status"], &step["output"]), (&json!("COMPLETED"), &json!("yes")));
    let ended = home.run(&["runs", "cancel", &run, "run-none", "--reason", "enough"]);
    assert!(ended.err.contains("there is no run"), "{}", ended.err);
    assert!(ended.code(1).out.contains("CANCELLED"));
    assert!(home.run(&["runs", "retry", &run]).code(1).err.contains("cannot be retried"));
    let forked = home.run(&["runs", "fork", &run, "--from", "after"]).code(0).out.trim().to_owned();
    assert_eq!(home.until(&forked, "WAITING")["steps"][0]["output"], "yes");

    let refused = start();
    home.run(&["runs", "answer", &refused, "--refuse", "not before Monday"]).code(0);
    let failed = home.until(&refused, "FAILED");
    assert!(failed["error"].as_str().unwrap().contains("not before Monday"), "{failed}");
    home.run(&["runs", "retry", &refused]).code(0);
    home.until(&refused, "WAITING");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let home = Home::new();
    let file = home.write("bad.yaml", "- id: a\n  steps: [{name: x, agent: builtin:echo, depends_on: [y]}]\n- id: b\n");
    let ended = home.run(&["workflows", "save", &file]).code(1);
    assert!(ended.err.contains("bad.yaml[0]") && ended.err.contains("bad.yaml[1].steps"), "{}", ended.err);
    assert!(home.run(&["workflows", "show", "nothing"]).code(1).err.contains("there is no workflow"));
    assert!(home.run(&["runs", "start", "x", "--input", "{"]).code(2).err.contains("--input is not valid JSON"));
    assert!(home.run(&["runs", "start", "x", "--context", "[]"]).code(2).err.contains("--context"));
    assert!(home.run(&["runs", "list", "--cursor", "zzz"]).code(2).err.contains("cursor"));
    home.run(&["runs", "list", "--status", "done"]).code(2);
    let settings = [("A2A_STEPS_MAX", "many"), ("A2A_LEASE_MS", "5"), ("A2A_CONFIG", "relative.yaml")];
    let ended: Ended = home.command(&["runs", "list"]).envs(settings).output().unwrap().into();
    let ended = ended.code(2);
    for (variable, _) in settings {
        assert!(ended.err.contains(variable), "{variable}: {}", ended.err);
    }
    let idle: Ended = home.command(&["worker"]).env("A2A_STEPS_MAX", "0").output().unwrap().into();
    assert!(idle.code(2).err.contains("A2A_STEPS_MAX"));
    let memory: Ended = home.command(&["worker"]).env("A2A_STORAGE", "memory").output().unwrap().into();
    assert!(memory.code(2).err.contains("A2A_STORAGE"));
    for args in [
        &["runs", "--help"][..],
        &["runs", "list", "--help"],
        &["runs", "show", "--help"],
        &["runs", "start", "--help"],
        &["runs", "watch", "--help"],
        &["runs", "cancel", "--help"],
        &["runs", "pause", "--help"],
        &["runs", "resume", "--help"],
        &["runs", "retry", "--help"],
        &["runs", "fork", "--help"],
        &["runs", "answer", "--help"],
        &["workflows", "--help"],
        &["workflows", "save", "--help"],
        &["workflows", "list", "--help"],
        &["workflows", "show", "--help"],
        &["workflows", "remove", "--help"],
        &["worker", "--help"],
    ] {
        let help = home.run(args).code(0).out;
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{args:?}:\n{help}");
    }
}
