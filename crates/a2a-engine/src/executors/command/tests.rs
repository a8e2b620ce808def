//! Commands as real programs.
#![cfg(unix)]

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::egress::tests::operator;
use crate::executors::tests::{Watched, execute, work};

/// A file whose command `test` is this script; scripts are the operator's own doing.
fn script(text: &str, rest: &Value) -> Arc<OperatorFile> {
    let mut entry = json!({"argv": ["/bin/sh", "-c", text]});
    for (name, value) in rest.as_object().unwrap() {
        entry[name] = value.clone();
    }
    // YAML reads JSON too.
    operator(&json!({"commands": {"test": entry}}).to_string())
}

async fn run(text: &str, rest: Value, input: Value) -> Done {
    execute(script(text, &rest), work("command", json!({"name": "test"}), input), Watched::new()).await
}

fn failure(done: Done, expected_retryable: bool) -> String {
    let Done::Failed { error, retryable } = done else { panic!("{done:?}") };
    assert_eq!(retryable, expected_retryable, "{error}");
    error
}

#[tokio::test]
async fn the_step_comes_in_as_json_and_the_output_goes_out_as_json() {
    let done = run("exec /bin/cat", json!({}), json!({"n": 1})).await;
    let expected = json!({"run": "run-1", "step": "draw", "attempt": 2, "idempotency_key": "run-1:draw",
        "namespace": "default", "agent": "artist", "capability": "paint", "input": {"n": 1}});
    assert_eq!(done, Done::Completed(expected));
}

#[tokio::test]
async fn text_and_nothing_are_outputs_too() {
    assert_eq!(run("echo hello world", json!({}), json!(1)).await, Done::Completed(json!({"text": "hello world"})));
    assert_eq!(run("exit 0", json!({}), json!(1)).await, Done::Completed(Value::Null));
    assert!(failure(run(r"printf '\377\376'", json!({}), json!(1)).await, false).contains("UTF-8"));
    assert!(failure(run(r"printf 'a\0b'", json!({}), json!(1)).await, false).contains("UTF-8"));
    assert!(failure(run(r#"echo '{"a":1,"a":2}'"#, json!({}), json!(1)).await, false).contains("can't be kept"));
}

#[tokio::test]
async fn exit_codes_mean_what_the_table_says() {
    let error = failure(run("echo why >&2; exit 3", json!({}), json!(1)).await, false);
    assert_eq!(error, "the command exited with 3: why");
    failure(run("exit 75", json!({}), json!(1)).await, true);
    assert!(failure(run("kill -9 $$", json!({}), json!(1)).await, true).contains("signal 9"));
}

#[tokio::test]
async fn the_end_of_the_standard_error_is_told() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; echo the end >&2; exit 1";
    let error = failure(run(script, json!({}), json!(1)).await, false);
    assert!(error.ends_with("the end") && error.chars().count() < 1_100, "{error}");
}

#[tokio::test]
async fn the_environment_and_the_folder_are_those_of_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let rest = json!({"env": {"GREETING": "hello"}, "cwd": folder});
    let done = run("/usr/bin/env; pwd", rest, json!(1)).await;
    let Done::Completed(output) = done else { panic!("{done:?}") };
    let lines: Vec<&str> = output["text"].as_str().unwrap().lines().collect();
    assert!(lines.contains(&"GREETING=hello"), "{lines:?}");
    assert_eq!(lines.last(), Some(&folder.to_str().unwrap()));
    for inherited in ["PATH=", "HOME=", "CARGO", "USER="] {
        // The shell itself may make up a PATH, but does not export it.
        assert!(!lines.iter().any(|line| line.starts_with(inherited)), "{lines:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_step_reaches_a_shell_or_the_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let input = json!({"x": format!("$(touch {0}) `touch {0}`; touch {0}", canary.display())});
    let settings = json!({"name": "test", "argv": ["/usr/bin/touch", canary], "args": [canary], "env": {"A": "b"}});
    let file = operator(&json!({"commands": {"test": {"argv": ["/bin/cat"]}}}).to_string());
    let done = execute(file, work("command", settings, input.clone()), Watched::new()).await;
    let Done::Completed(output) = done else { panic!("{done:?}") };
    assert_eq!(output["input"], input);
    assert!(!canary.exists());
}

#[tokio::test]
async fn output_up_to_its_limit_is_taken_and_more_kills_the_command() {
    let rest = json!({"output_bytes_max": 10});
    assert_eq!(run("printf 1234567890", rest.clone(), json!(1)).await, Done::Completed(json!(1_234_567_890)));
    let begun = Instant::now();
    let error = failure(run("while :; do echo 12345; done", rest, json!(1)).await, false);
    assert!(error.contains("more than 10 bytes") && begun.elapsed() < Duration::from_secs(10), "{error}");
}

#[tokio::test]
async fn input_that_is_not_read_does_no_harm() {
    let input = json!("x".repeat(900_000));
    assert_eq!(run("echo 1", json!({}), input.clone()).await, Done::Completed(json!(1)));
    assert_eq!(run("exec <&-; echo 2", json!({}), input).await, Done::Completed(json!(2)));
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_for_good() {
    let file = operator("commands: {test: {argv: [/nonexistent/program]}}");
    let done = execute(file, work("command", json!({"name": "test"}), json!(1)), Watched::new()).await;
    assert!(failure(done, false).contains("/nonexistent/program"));
}

/// A script with a child of its own; both hold a pipe open as long as they live.
struct Family {
    _folder: tempfile::TempDir,
    script: String,
    up: tokio::sync::oneshot::Receiver<()>,
    /// Ends when nobody holds the pipe any more.
    gone: tokio::task::JoinHandle<()>,
}

fn family(then: &str) -> Family {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("alive");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (tell, up) = tokio::sync::oneshot::channel();
    let script = format!("exec 9>'{}'; /bin/sleep 40 & echo up >&9; {then}", pipe.display());
    let gone = tokio::task::spawn_blocking(move || watch(&pipe, tell));
    Family { _folder: folder, script, up, gone }
}

fn watch(pipe: &Path, tell: tokio::sync::oneshot::Sender<()>) {
    let mut pipe = std::fs::File::open(pipe).unwrap();
    let mut up = [0; 3];
    pipe.read_exact(&mut up).unwrap();
    let _nobody_waits = tell.send(());
    assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
}

async fn all_gone(gone: tokio::task::JoinHandle<()>) {
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the group lives on").unwrap();
}

#[tokio::test]
async fn taking_too_long_kills_the_whole_group() {
    let family = family("wait");
    let mut step = work("command", json!({"name": "test"}), json!(1));
    step.timeout = Some(Duration::from_millis(500));
    let done = execute(script(&family.script, &json!({})), step, Watched::new()).await;
    assert!(failure(done, true).contains("took longer than 0.5 s"));
    all_gone(family.gone).await;
}

#[tokio::test]
async fn cancelling_the_step_kills_the_whole_group() {
    let family = family("wait");
    let context = Watched::new();
    let step = execute(
        script(&family.script, &json!({})),
        work("command", json!({"name": "test"}), json!(1)),
        context.clone(),
    );
    let cancel = async {
        family.up.await.unwrap();
        context.cancelled.cancel();
    };
    let (done, ()) = tokio::join!(step, cancel);
    assert!(matches!(done, Done::Failed { .. }), "{done:?}");
    all_gone(family.gone).await;
}

#[tokio::test]
async fn dropping_the_attempt_kills_the_whole_group() {
    let family = family("wait");
    let step =
        execute(script(&family.script, &json!({})), work("command", json!({"name": "test"}), json!(1)), Watched::new());
    tokio::select! {
        done = step => panic!("{done:?}"),
        up = family.up => up.unwrap(),
    }
    all_gone(family.gone).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_at_its_end() {
    // The child has the output open, which must not hold up the result.
    let family = family("echo 7; exit 0");
    let done =
        execute(script(&family.script, &json!({})), work("command", json!({"name": "test"}), json!(1)), Watched::new());
    assert_eq!(done.await, Done::Completed(json!(7)));
    all_gone(family.gone).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_has_left_the_group_does_not_hold_up_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("left").display().to_string();
    let script = format!(
        "/usr/bin/mkfifo {pipe}; /usr/bin/setsid /bin/sh -c 'echo > {pipe}; exec /bin/sleep 20' & read left < {pipe}; echo 1"
    );
    let begun = Instant::now();
    let error = failure(run(&script, json!({}), json!(1)).await, false);
    assert!(error.contains("holds its output open") && begun.elapsed() < Duration::from_secs(10), "{error}");
}

#[tokio::test]
async fn many_commands_at_once_end_each_with_its_own_output() {
    let file = script("exec /bin/cat", &json!({}));
    let executors = Arc::new(crate::executors::Executors::new(file));
    let steps = (0..40).map(|n| {
        let executors = executors.clone();
        tokio::spawn(async move {
            executors.execute(work("command", json!({"name": "test"}), json!(n)), Watched::new()).await
        })
    });
    for (n, step) in steps.collect::<Vec<_>>().into_iter().enumerate() {
        let Done::Completed(output) = step.await.unwrap() else { panic!("{n}") };
        assert_eq!(output["input"], n);
    }
}
