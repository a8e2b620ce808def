//! Agents of the A2A protocol, against a server made with the reference SDK.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::ExecutorKind;
use a2a_engine::executors::Done;
use a2a_engine::operator::OperatorFile;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::attempts::{Context, Death, Step, failure, operator};
use crate::external;

/// A running agent.
pub(crate) struct Agent {
    process: Child,
    pub(crate) port: u16,
    /// A file that allows it.
    pub(crate) operator: Arc<OperatorFile>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself, which a test has noticed then.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Agent {
    /// `None` when there is no Python to run it with.
    pub(crate) fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/a2a_agent.py");
        let mut process = external::python()?.arg(script).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("the agent tells its port");
        let file = format!("egress: {{allow: [{{origin: 'http://127.0.0.1:{port}', private: true}}]}}");
        Some(Self { process, port, operator: operator(&file) })
    }

    fn step(&self, input: Value) -> Step {
        let settings = json!({"url": format!("http://127.0.0.1:{}", self.port)});
        Step::new(&self.operator, ExecutorKind::A2a, &settings, input)
    }

    /// Tells the agent something, and hears what it has seen.
    pub(crate) async fn control(&self, body: Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let body = body.to_string();
        let head = format!(
            "POST /control HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (_, body) = response.split_once("\r\n\r\n").expect("a response");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {response}"))
    }

    /// How many messages of a step have come over the wire, and on how many of them the agent has worked.
    async fn messages(&self, step: &Step) -> (u64, u64) {
        self.messages_of(&step.work.idempotency_key()).await
    }

    pub(crate) async fn messages_of(&self, prefix: &str) -> (u64, u64) {
        let told = self.control(json!({})).await;
        let of_step = |counter: &Value| {
            let counts = counter.as_object().unwrap().iter();
            counts.filter(|(id, _)| id.starts_with(prefix)).map(|(_, count)| count.as_u64().unwrap()).sum()
        };
        (of_step(&told["received"]), of_step(&told["executed"]))
    }
}

fn output(done: Option<Done>) -> Value {
    let Some(Done::Completed(mut output)) = done else { panic!("{done:?}") };
    output.as_object_mut().unwrap().remove("task_id");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_a_step() {
    let Some(agent) = Agent::start() else { return };
    let long = "x".repeat(300_000);
    for (input, expected) in [
        (json!("echo hello there"), json!({"text": "hello there"})),
        (json!({"text": "echo both", "data": {"n": [1, null]}}), json!({"text": "both", "data": {"n": [1.0, null]}})),
        (json!({"n": 1, "m": "x"}), json!({"data": {"n": 1.0, "m": "x"}})),
        (json!("message in short"), json!({"text": "in short"})),
        (json!("big 300000"), json!({"text": long})),
        (
            json!("files"),
            json!({"text": "a chart", "artifacts": [{"name": "summary", "text": "a chart"},
                {"files": [{"url": "https://files.example/chart.png", "mediaType": "image/png"}]}]}),
        ),
    ] {
        let mut step = agent.step(input.clone());
        let mut output = output(step.attempt().await);
        for artifact in output.get_mut("artifacts").and_then(Value::as_array_mut).into_iter().flatten() {
            assert!(artifact.as_object_mut().unwrap().remove("id").is_some());
        }
        assert_eq!(output, expected, "{input}");
        assert_eq!(agent.messages(&step).await, (1, 1), "{input}");
    }
    for (input, said) in [
        ("fail", "has failed: no such file"),
        ("reject", "was rejected: not my work"),
        ("auth", "needs an authorisation that this server can't give: log in first"),
        ("crash", "has failed"),
        ("big 1100000", "at most 1048576 are taken"),
    ] {
        let mut step = agent.step(json!(input));
        let error = failure(step.attempt().await, false);
        assert!(error.contains(said), "{error}");
        assert_eq!(agent.messages(&step).await, (1, 1), "{input}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_asked_and_its_answer_goes_to_the_same_task_once() {
    let Some(agent) = Agent::start() else { return };
    let mut step = agent.step(json!("ask"));
    let Some(Done::Ask { question, checkpoint, .. }) = step.attempt().await else { panic!("no question") };
    assert_eq!(question, "which colour?");
    *step.context.checkpoint.lock() = checkpoint;
    step.work.answer = Some(json!("blue"));
    assert_eq!(output(step.attempt().await), json!({"text": "you said blue"}));
    assert_eq!(agent.messages(&step).await, (2, 2));

    let mut twice = agent.step(json!("ask-twice"));
    assert_eq!(output(Some(twice.until_done(&["blue", "sure"]).await)), json!({"text": "you said sure"}));
    assert_eq!(agent.messages(&twice).await, (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_is_never_sent_twice_wherever_the_process_dies() {
    let Some(agent) = Agent::start() else { return };
    let mut unknown = 0;
    // An exchange with two questions has six notes of its own, and two that come with the questions.
    for (input, answers, notes, messages) in [("echo x", &[][..], 2, 1), ("ask-twice", &["blue", "sure"][..], 6, 3)] {
        for death in (0..notes).flat_map(|number| [Death::Before(number), Death::After(number)]) {
            let mut step = agent.step(json!(input)).dying(death);
            let done = step.until_done(answers).await;
            let (received, executed) = agent.messages(&step).await;
            assert!(step.context.dead.is_cancelled() || step.work.attempt > 2, "{death:?} has happened");
            match &done {
                Done::Completed(_) => assert_eq!((received, executed), (messages, messages), "{input} {death:?}"),
                // The process died between the note and the message, which nobody can know afterwards.
                Done::Failed { error, retryable: false } => {
                    assert!(error.contains("may or may not have received"), "{error}");
                    assert!(matches!(death, Death::After(number) if number % 2 == 0), "{input} {death:?}: {error}");
                    assert!(received < messages, "{input} {death:?}");
                    unknown += 1;
                }
                other => panic!("{input} {death:?}: {other:?}"),
            }
        }
    }
    assert_eq!(unknown, 4, "one for each message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_was_lost_is_found_and_not_sent_again() {
    let Some(agent) = Agent::start() else { return };
    // The response is lost, and the process lives on.
    agent.control(json!({"break": {"SendMessage": 1}})).await;
    let mut step = agent.step(json!("echo lost"));
    assert_eq!(output(step.attempt().await), json!({"text": "lost"}));
    assert_eq!(agent.messages(&step).await, (1, 1));
    // That of an answer to a question.
    let mut step = agent.step(json!("ask"));
    let Some(Done::Ask { checkpoint, .. }) = step.attempt().await else { panic!("no question") };
    *step.context.checkpoint.lock() = checkpoint;
    step.work.answer = Some(json!("blue"));
    agent.control(json!({"break": {"SendMessage": 1}})).await;
    assert_eq!(output(step.attempt().await), json!({"text": "you said blue"}));
    assert_eq!(agent.messages(&step).await, (2, 2));
    // The process dies while the agent has the message and has not answered.
    for (word, completes) in [("late", true), ("mute", false)] {
        let mut step = agent.step(json!(format!("{word} {word}")));
        tokio::select! {
            done = step.attempt() => panic!("{done:?}"),
            _ = agent.control(json!({"reached": word})) => {}
        }
        step.work.attempt += 1;
        agent.control(json!({"release": word})).await;
        let done = step.attempt().await;
        if completes {
            assert_eq!(output(done), json!({"text": "late"}));
        } else {
            // An agent that answers without a task leaves nothing to be found.
            assert!(failure(done, false).contains("the agent has no task with it"));
        }
        assert_eq!(agent.messages(&step).await, (1, 1), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_away_is_waited_for() {
    let Some(agent) = Agent::start() else { return };
    agent.control(json!({"away": {"GetTask": 3}})).await;
    let mut step = agent.step(json!("echo back again"));
    assert_eq!(output(step.attempt().await), json!({"text": "back again"}));
    let told = step.context.progress.lock().clone();
    assert!(told.iter().any(|(message, _)| message.contains("503") && message.contains("tried again")), "{told:?}");
    // Nobody knows of this message either, so that it is not sent again.
    agent.control(json!({"away": {"SendMessage": 1}})).await;
    let mut step = agent.step(json!("echo never"));
    assert!(failure(step.attempt().await, false).contains("503"));
    assert_eq!(agent.messages(&step).await, (0, 0));
    // Nobody is there at all.
    let (port, file) = (agent.port, agent.operator.clone());
    drop(agent);
    let settings = json!({"url": format!("http://127.0.0.1:{port}")});
    let mut step = Step::new(&file, ExecutorKind::A2a, &settings, json!("echo"));
    assert!(failure(step.attempt().await, true).contains("can't be reached"));
    assert!(step.context.checkpoint.lock().is_none(), "nothing was about to be sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_step_cancels_the_task_unless_somebody_goes_on_with_it() {
    let Some(agent) = Agent::start() else { return };
    for (name, goes_on) in [("one", false), ("two", true)] {
        let mut step = agent.step(json!(format!("slow {name}")));
        step.context = Arc::new(Context::going_on(goes_on));
        let context = step.context.clone();
        let before = agent.control(json!({})).await["cancelled"].as_object().unwrap().len();
        let cancelling = async {
            agent.control(json!({"reached": name})).await;
            // Ordering: the task is known when the agent has been asked for it.
            while context.progress.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            context.cancelled.cancel();
            Instant::now()
        };
        let (done, since) = tokio::join!(step.attempt(), cancelling);
        assert!(since.elapsed() < Duration::from_secs(5), "it ends soon");
        assert!(matches!(done, Some(Done::Failed { retryable: false, .. })), "{done:?}");
        let cancelled = agent.control(json!({})).await["cancelled"].as_object().unwrap().len() - before;
        assert_eq!(cancelled, usize::from(!goes_on), "{name}");
    }
    // A step that takes too long is undone, so that another attempt does no harm.
    let mut step = agent.step(json!("slow three"));
    step.work.timeout = Some(Duration::from_secs(3));
    assert!(failure(step.attempt().await, true).contains("its task was cancelled"));
    assert_eq!(agent.messages(&step).await, (1, 1));
}
