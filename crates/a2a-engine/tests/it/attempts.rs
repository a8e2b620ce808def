//! Attempts at a step as the runner makes them, with the death of its process wherever a test wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use a2a_core::agent::{Executor, ExecutorKind};
use a2a_core::ids::{AgentId, Namespace, RunId, StepName};
use a2a_core::json_text::JsonText;
use a2a_engine::executors::{ClaimLost, Done, Executors, StepContext, StepWork};
use a2a_engine::operator::OperatorFile;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// When this note is about to be committed, counted over all attempts from 0.
    Before(usize),
    /// When it just was.
    After(usize),
}

/// What the run keeps between attempts.
pub(crate) struct Context {
    pub(crate) checkpoint: Mutex<Option<Value>>,
    pub(crate) progress: Mutex<Vec<(String, Option<u8>)>>,
    pub(crate) cancelled: CancellationToken,
    /// What the run says after the claim was lost.
    goes_on: bool,
    notes: AtomicUsize,
    death: Option<Death>,
    pub(crate) dead: CancellationToken,
}

impl Context {
    pub(crate) fn new(death: Option<Death>) -> Self {
        Self {
            checkpoint: Mutex::default(),
            progress: Mutex::default(),
            cancelled: CancellationToken::new(),
            goes_on: false,
            notes: AtomicUsize::new(0),
            death,
            dead: CancellationToken::new(),
        }
    }

    /// A run that says so after the claim was lost.
    pub(crate) fn going_on(goes_on: bool) -> Self {
        Self { goes_on, ..Self::new(None) }
    }

    fn die(&self) -> BoxFuture<'_, Result<(), ClaimLost>> {
        self.dead.cancel();
        std::future::pending().boxed()
    }
}

impl StepContext for Context {
    fn checkpoint(&self, value: Value) -> BoxFuture<'_, Result<(), ClaimLost>> {
        let number = self.notes.fetch_add(1, Ordering::SeqCst);
        if self.death == Some(Death::Before(number)) {
            return self.die();
        }
        *self.checkpoint.lock() = Some(value);
        if self.death == Some(Death::After(number)) {
            return self.die();
        }
        std::future::ready(Ok(())).boxed()
    }

    fn progress(&self, message: &str, percent: Option<u8>) {
        self.progress.lock().push((message.to_owned(), percent));
    }

    fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    fn goes_on(&self) -> BoxFuture<'_, bool> {
        std::future::ready(self.goes_on).boxed()
    }
}

/// A step of a run, with everything that its attempts need.
pub(crate) struct Step {
    pub(crate) work: StepWork,
    pub(crate) operator: Arc<OperatorFile>,
    pub(crate) context: Arc<Context>,
}

impl Step {
    pub(crate) fn new(operator: &Arc<OperatorFile>, kind: ExecutorKind, settings: &Value, input: Value) -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        let work = StepWork {
            run: RunId::from_stored(run),
            step: StepName::from_stored("step"),
            attempt: 1,
            namespace: Namespace::default(),
            agent: AgentId::from_stored("agent"),
            capability: None,
            executor: Executor { kind, settings: JsonText::new(settings) },
            input,
            answer: None,
            checkpoint: None,
            timeout: None,
        };
        Self { work, operator: operator.clone(), context: Arc::new(Context::new(None)) }
    }

    pub(crate) fn dying(mut self, death: Death) -> Self {
        self.context = Arc::new(Context::new(Some(death)));
        self
    }

    /// One attempt in a process of its own, as far as executors can tell. `None` when the process died.
    pub(crate) async fn attempt(&mut self) -> Option<Done> {
        let executors = Executors::new(self.operator.clone());
        self.attempt_of(&executors).await
    }

    pub(crate) async fn attempt_of(&mut self, executors: &Executors) -> Option<Done> {
        self.work.checkpoint = self.context.checkpoint.lock().clone();
        let context = self.context.clone();
        let done = tokio::select! {
            done = executors.execute(self.work.clone(), context.clone()) => Some(done),
            () = context.dead.cancelled() => None,
        };
        self.work.attempt += 1;
        done
    }

    /// Attempts until the step has ended, each one after the death of the one before; questions are answered.
    pub(crate) async fn until_done(&mut self, answers: &[&str]) -> Done {
        let mut answers = answers.iter();
        for _ in 0..10 {
            match self.attempt().await {
                None => self.revive(),
                Some(Done::Ask { checkpoint, .. }) => {
                    self.work.answer = Some(Value::from(*answers.next().expect("a question more than expected")));
                    if checkpoint.is_some() {
                        *self.context.checkpoint.lock() = checkpoint;
                    }
                }
                Some(Done::Failed { retryable: true, .. }) => {
                    *self.context.checkpoint.lock() = None;
                    self.work.answer = None;
                }
                Some(done) => return done,
            }
        }
        panic!("the step does not end");
    }

    /// The next process does not die.
    fn revive(&mut self) {
        let next = Context::new(None);
        *next.checkpoint.lock() = self.context.checkpoint.lock().clone();
        self.context = Arc::new(next);
    }
}

pub(crate) fn operator(yaml: &str) -> Arc<OperatorFile> {
    Arc::new(OperatorFile::parse(yaml.as_bytes(), &|_| None).unwrap())
}

pub(crate) fn failure(done: Option<Done>, expected_retryable: bool) -> String {
    let Some(Done::Failed { error, retryable }) = done else { panic!("{done:?}") };
    assert_eq!(retryable, expected_retryable, "{error}");
    error
}
