//! One attempt: from its note, or from the beginning, to the end of the agent's task.

use std::time::Duration;

use serde_json::Value;

use super::A2a;
use super::card::CardError;
use super::checkpoint::{Checkpoint, Phase};
use super::client::{CallError, Remote, TASK_NOT_FOUND, text};
use super::message;
use crate::egress::Egress;
use crate::executors::{ClaimLost, Done, StepContext, StepWork, seconds, text_setting};

/// The pause before a task is asked for again grows from the first to the second.
const POLL_MIN: Duration = Duration::from_millis(200);
const POLL_MAX: Duration = Duration::from_secs(5);
/// The same while the agent does not answer.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// How much longer each pause is.
const GROWTH: f64 = 1.6;
/// How often a message is looked for at an agent that answers: it may still be on its way.
const SEARCHES: usize = 4;
/// How many tasks are looked through for a message: those that have changed last.
const SEARCH_PAGES: usize = 20;
/// How many tasks are asked for at once; fewer when so many do not fit into a response.
const PAGE_SIZES: [u32; 3] = [50, 5, 1];
/// How many messages of a task are looked through.
const HISTORY: u32 = 100;
/// Whoever ends an attempt waits a few seconds for it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(4);

/// Why an exchange does not go on.
pub(super) enum End {
    Done(Done),
    /// The claim is over.
    Unwanted,
}

impl From<ClaimLost> for End {
    fn from(_: ClaimLost) -> Self {
        Self::Unwanted
    }
}

fn failed(error: impl Into<String>) -> End {
    End::Done(Done::failed(error))
}

/// One attempt.
pub(super) struct Exchange<'a> {
    a2a: &'a A2a,
    work: &'a StepWork,
    context: &'a dyn StepContext,
    /// Absent before anything could have been sent.
    state: Option<Checkpoint>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(a2a: &'a A2a, work: &'a StepWork, context: &'a dyn StepContext) -> Self {
        Self { a2a, work, context, state: None }
    }

    /// Goes on from the note of an earlier attempt, or begins.
    pub(super) async fn run(&mut self) -> Result<Done, End> {
        let Some(stored) = &self.work.checkpoint else { return self.begin().await };
        let state = Checkpoint::read(stored).map_err(failed)?;
        self.state = Some(state.clone());
        match (state.phase, &self.work.answer) {
            (Phase::Sending, _) => {
                let lost = "an earlier attempt has ended before it was known".to_owned();
                self.search(state, lost).await
            }
            (Phase::Asked, Some(answer)) => {
                let state = Checkpoint { phase: Phase::Sending, message_id: self.message_id(), ..state };
                self.note(&state).await?;
                self.send(answer, state).await
            }
            (Phase::Waiting | Phase::Asked, _) => self.wait(state, None).await,
        }
    }

    async fn begin(&mut self) -> Result<Done, End> {
        let settings = self.work.settings();
        let url = text_setting(&settings, "url").map_err(|missing| End::Done(missing.into()))?;
        let interface = self.a2a.interface(url).await.map_err(|error| {
            self.heard(error.reached(), &error);
            let retryable = matches!(&error, CardError::Call(call) if call.is_transient());
            End::Done(Done::Failed { error: error.to_string(), retryable })
        })?;
        let state = Checkpoint::new(self.message_id(), interface);
        // Ordering: before the message is sent. Whoever reads this later knows that it may have been.
        self.note(&state).await?;
        self.send(&self.work.input, state).await
    }

    /// The same for as long as the note of it lasts. Each attempt sends one message at most, and an attempt that begins
    /// anew after a failure does not find the task of the one before.
    fn message_id(&self) -> String {
        format!("{}:{}", self.work.idempotency_key(), self.work.attempt)
    }

    async fn note(&mut self, state: &Checkpoint) -> Result<(), ClaimLost> {
        self.state = Some(state.clone());
        self.context.checkpoint(state.to_value()).await
    }

    fn remote<'s>(&'s self, state: &'s Checkpoint) -> Remote<'s> {
        Remote { egress: &self.a2a.egress, interface: &state.interface }
    }

    /// Sends the message that was noted.
    async fn send(&mut self, content: &Value, state: Checkpoint) -> Result<Done, End> {
        let message = message::message(self.work, content, &state);
        let mut pause = Pause::new(AWAY_MAX);
        loop {
            let error = match self.remote(&state).send_message(message.clone()).await {
                Ok(answer) => {
                    self.context.contact(Ok(()));
                    return self.answered(answer, state).await;
                }
                Err(error) => error,
            };
            self.heard(error.reached(), &error);
            if error.may_have_acted() {
                return self.search(state, error.to_string()).await;
            }
            if !error.is_transient() {
                return Err(failed(error.to_string()));
            }
            if state.task_id.is_none() {
                return Ok(Done::retryable(error.to_string()));
            }
            // The agent surely does not have the answer. Another attempt would begin with another task, so this one
            // goes on.
            self.away(&state, &error);
            pause.wait().await;
        }
    }

    /// The agent has the message.
    async fn answered(&mut self, mut answer: Value, state: Checkpoint) -> Result<Done, End> {
        if let Some(message) = answer.get("message").filter(|message| message.is_object()) {
            return Ok(completed(message::output_of_message(message)));
        }
        let task = answer.get_mut("task").map(Value::take).unwrap_or_default();
        if text(&task, "id").is_none() && state.task_id.is_none() {
            return Err(failed("the agent has taken the message, but answered with neither a task nor a message"));
        }
        self.wait(state, Some(task)).await
    }

    /// Looks for the message at the agent, because nobody knows whether it has arrived.
    async fn search(&mut self, state: Checkpoint, why: String) -> Result<Done, End> {
        let mut pause = Pause::new(AWAY_MAX);
        let mut searches = 0;
        loop {
            let found = match &state.task_id {
                Some(task) => self.find_answer(&state, task).await,
                None => find_message(self.remote(&state), &state).await,
            };
            let missing = match found {
                Ok(Some(task)) => return self.wait(state, Some(task)).await,
                Ok(None) => "the agent has no task with it".to_owned(),
                Err(error) if error.is_transient() => {
                    self.heard(error.reached(), &error);
                    self.away(&state, &error);
                    pause.wait().await;
                    continue;
                }
                Err(error) => format!("it could not be looked for ({error})"),
            };
            searches += 1;
            if searches == SEARCHES {
                let what = if state.task_id.is_some() { "answer" } else { "message" };
                return Err(failed(format!(
                    "the agent may or may not have received the {what} {}: {why}, and {missing}; it is not sent again",
                    state.message_id
                )));
            }
            pause.wait().await;
        }
    }

    /// The task when it has gone on after its question.
    async fn find_answer(&self, state: &Checkpoint, task: &str) -> Result<Option<Value>, CallError> {
        let task = self.remote(state).get_task(task, HISTORY).await?;
        let waits = TaskState::of(&task) == TaskState::InputRequired;
        let asks_the_same = waits && state.asked.as_ref() == Some(&message::question_of(&task));
        Ok((!asks_the_same || has_message(&task, &state.message_id)).then_some(task))
    }

    /// Waits for the end of the task; `task` is what is known of it.
    async fn wait(&mut self, mut state: Checkpoint, task: Option<Value>) -> Result<Done, End> {
        if let Some(task) = &task {
            state.phase = Phase::Waiting;
            state.task_id = text(task, "id").map(str::to_owned).or(state.task_id);
            state.context_id = text(task, "contextId").map(str::to_owned).or(state.context_id);
            // Ordering: before waiting, so that whoever goes on only asks for the task.
            self.note(&state).await?;
        }
        let Some(id) = state.task_id.clone() else {
            return Err(failed("internal error: nobody noted which task of the agent it is"));
        };
        let mut pause = Pause::new(POLL_MAX);
        let mut away = Pause::new(AWAY_MAX);
        let mut known = task;
        loop {
            if let Some(task) = known {
                if let Some(done) = self.outcome(&state, &task) {
                    return Ok(done);
                }
                if let Some(said) = message::progress(&task) {
                    self.context.progress(&said, None);
                }
            }
            pause.wait().await;
            known = match self.remote(&state).get_task(&id, 0).await {
                Ok(task) => {
                    self.context.contact(Ok(()));
                    away = Pause::new(AWAY_MAX);
                    Some(task)
                }
                Err(error) if error.is_transient() => {
                    self.heard(error.reached(), &error);
                    self.away(&state, &error);
                    away.wait().await;
                    None
                }
                Err(CallError::Rpc { code: TASK_NOT_FOUND, .. }) => {
                    return Err(failed(format!("the agent no longer knows its task {id}")));
                }
                Err(error) => return Err(failed(format!("the agent's task {id} can't be asked for: {error}"))),
            };
        }
    }

    /// What becomes of the step; nothing while the agent works.
    fn outcome(&self, state: &Checkpoint, task: &Value) -> Option<Done> {
        let id = state.task_id.as_deref().unwrap_or_default();
        let ended =
            |how: &str| Some(Done::failed(format!("the agent's task {id} {how}{}", message::explanation(task))));
        match TaskState::of(task) {
            TaskState::Working => None,
            TaskState::Completed => Some(completed(message::output_of_task(task))),
            TaskState::Failed => ended("has failed"),
            TaskState::Rejected => ended("was rejected"),
            TaskState::Canceled => ended("was cancelled at the agent"),
            TaskState::AuthRequired => ended("needs an authorisation that this server can't give"),
            TaskState::InputRequired => {
                let question = message::question_of(task);
                // The agent has the answer, and shows what was before it.
                if question.is_some_question() && state.asked.as_ref() == Some(&question) {
                    return None;
                }
                let checkpoint = Checkpoint { phase: Phase::Asked, asked: Some(question), ..state.clone() };
                Some(Done::Ask {
                    question: message::question(task),
                    schema: None,
                    checkpoint: Some(checkpoint.to_value()),
                })
            }
        }
    }

    /// Tells whether the agent was reached, as far as an error shows it.
    fn heard(&self, reached: Option<bool>, error: &dyn std::fmt::Display) {
        match reached {
            Some(true) => self.context.contact(Ok(())),
            Some(false) => self.context.contact(Err(&error.to_string())),
            None => {}
        }
    }

    /// Tells people why nothing happens.
    fn away(&self, state: &Checkpoint, error: &CallError) {
        let what = state.task_id.as_deref().unwrap_or("not known yet");
        self.context.progress(&format!("{error}; it is tried again (task {what})"), None);
    }

    /// The step is no longer wanted, or no longer this attempt's.
    pub(super) async fn unwanted(&self) -> Done {
        if !self.context.goes_on().await && self.cancel().await.is_some() {
            self.context.closed().await;
        }
        Done::failed("the step is no longer wanted")
    }

    /// The step takes too long.
    pub(super) async fn too_long(&self, limit: Duration) -> Done {
        let what = format!("the agent took longer than {}", seconds(limit));
        match (&self.state, self.cancel().await) {
            (None, _) => Done::retryable(what),
            (Some(_), Some(Some(TaskState::Canceled))) => Done::retryable(format!("{what}; its task was cancelled")),
            // It may go on, and another attempt would have the work done twice.
            (Some(_), _) => Done::failed(format!("{what}, and did not confirm that its task was cancelled")),
        }
    }

    /// Asks the agent to cancel. `None` when there is no answer, else the state of the task if it has one.
    async fn cancel(&self) -> Option<Option<TaskState>> {
        let state = self.state.as_ref()?;
        let error = match tokio::time::timeout(CANCEL_TIMEOUT, cancel(&self.a2a.egress, state)).await {
            Ok(Ok(task)) => return Some(task.as_ref().map(TaskState::of)),
            Ok(Err(error)) => error,
            Err(_) => return None,
        };
        let (run, step, said) = (&self.work.run, &self.work.step, error.to_string());
        let said = self.a2a.egress.redaction().text(&said);
        tracing::info!(%run, %step, error = %said, "the agent could not be told to cancel its task");
        (!error.is_transient()).then_some(None)
    }
}

/// Asks the agent to cancel the task that a note tells of. `None` when it has no task with the message.
pub(super) async fn cancel(egress: &Egress, state: &Checkpoint) -> Result<Option<Value>, CallError> {
    let remote = Remote { egress, interface: &state.interface };
    let id = match &state.task_id {
        Some(id) => Some(id.clone()),
        None => find_message(remote, state).await?.as_ref().and_then(|task| text(task, "id")).map(str::to_owned),
    };
    match id {
        Some(id) => remote.cancel_task(&id).await.map(Some),
        None => Ok(None),
    }
}

/// The task that has the message in its history.
async fn find_message(remote: Remote<'_>, state: &Checkpoint) -> Result<Option<Value>, CallError> {
    let mut sizes = PAGE_SIZES.iter().copied();
    let mut size = sizes.next().unwrap_or(1);
    let mut token: Option<String> = None;
    for _ in 0..SEARCH_PAGES {
        let page = match remote.list_tasks(size, HISTORY, token.as_deref()).await {
            Ok(page) => page,
            Err(CallError::TooLong(error)) => {
                size = sizes.next().ok_or(CallError::TooLong(error))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let tasks = page.get("tasks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if let Some(task) = tasks.iter().find(|task| has_message(task, &state.message_id)) {
            return match text(task, "id") {
                // In whole: a list leaves things out.
                Some(id) => remote.get_task(id, 0).await.map(Some),
                None => Ok(None),
            };
        }
        match text(&page, "nextPageToken") {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(None),
        }
    }
    Ok(None)
}

fn completed(output: Result<Value, String>) -> Done {
    match output {
        Ok(output) => Done::Completed(output),
        Err(error) => Done::failed(error),
    }
}

fn has_message(task: &Value, id: &str) -> bool {
    let history = task.get("history").and_then(Value::as_array).into_iter().flatten();
    history.into_iter().any(|message| text(message, "messageId") == Some(id))
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskState {
    /// Or any state that is not known here: the agent has not ended yet.
    Working,
    Completed,
    Failed,
    Canceled,
    Rejected,
    InputRequired,
    AuthRequired,
}

impl TaskState {
    fn of(task: &Value) -> Self {
        match task.get("status").and_then(|status| text(status, "state")) {
            Some("TASK_STATE_COMPLETED") => Self::Completed,
            Some("TASK_STATE_FAILED") => Self::Failed,
            Some("TASK_STATE_CANCELED") => Self::Canceled,
            Some("TASK_STATE_REJECTED") => Self::Rejected,
            Some("TASK_STATE_INPUT_REQUIRED") => Self::InputRequired,
            Some("TASK_STATE_AUTH_REQUIRED") => Self::AuthRequired,
            _ => Self::Working,
        }
    }
}

/// Pauses that grow.
struct Pause {
    next: Duration,
    max: Duration,
}

impl Pause {
    fn new(max: Duration) -> Self {
        Self { next: POLL_MIN, max }
    }

    async fn wait(&mut self) {
        // Steps that were started together do not ask together for ever.
        tokio::time::sleep(self.next.mul_f64(rand::random_range(0.8..1.2))).await;
        self.next = self.next.mul_f64(GROWTH).min(self.max);
    }
}
