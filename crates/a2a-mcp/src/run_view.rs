//! A run as people and models are shown it: where each step stands, and what keeps one that does not go on.

use a2a_core::agent::ExecutorKind;
use a2a_core::json_text::JsonText;
use a2a_core::workflow::definition::{OnFailure, StepSpec};
use a2a_core::workflow::run::{Payload, Question, RunState, Step, StepStatus, Wait};
use a2a_engine::hub::{Hub, RunSummary, workflow_name};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::text::{one_line, quoted_line};

/// Longest text of others in a reason.
const TEXT_CHARS: usize = 200;
/// Names of steps in one reason.
const NAMES_SHOWN: usize = 5;

/// Who reads, and so how things are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// A model, with tools.
    Tools,
    /// A person at a terminal.
    Terminal,
}

/// One step in a table.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline, description = "")]
pub(crate) struct StepRow {
    pub(crate) step: String,
    pub(crate) status: &'static str,
    pub(crate) agent: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) attempt: i32,
    /// What keeps it, or what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// One run in a list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline, description = "")]
pub(crate) struct RunRow {
    pub(crate) run: String,
    pub(crate) workflow: String,
    pub(crate) status: &'static str,
    /// Ended and all.
    pub(crate) steps: String,
    pub(crate) created_at: String,
    pub(crate) created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl RunRow {
    pub(crate) fn of(run: &RunSummary) -> Self {
        Self {
            run: run.id.to_string(),
            workflow: workflow_name(run.workflow.as_ref()).to_owned(),
            status: run.status.as_str(),
            steps: format!("{}/{}", run.steps_ended, run.steps),
            created_at: run.created_at.to_string(),
            created_by: run.created_by.to_string(),
            finished_at: run.finished_at.map(|at| at.to_string()),
            error: run.error.as_deref().map(|error| quoted_line(error, TEXT_CHARS)),
        }
    }

    /// One line for readers of text.
    pub(crate) fn line(&self) -> String {
        let mut line =
            format!("{} {} {} {} steps, {}", self.run, self.status, self.workflow, self.steps, self.created_at);
        if let Some(error) = &self.error {
            line.push_str(": ");
            line.push_str(error);
        }
        line
    }
}

/// All steps of a run, in the order of the definition.
pub(crate) fn step_rows(hub: &Hub, state: &RunState, face: Face) -> Vec<StepRow> {
    rows(state, face, &|step| hub.step_hindrance(step))
}

fn rows(state: &RunState, face: Face, hindrance: &dyn Fn(&Step) -> Option<String>) -> Vec<StepRow> {
    let steps = 0..state.steps.len();
    steps
        .filter_map(|order| {
            let (spec, step) = state.step(order)?;
            Some(StepRow {
                step: spec.name.to_string(),
                status: step.status.as_str(),
                agent: spec.agent.to_string(),
                attempt: step.attempt,
                why: Reason { state, spec, step, face }.text(hindrance),
            })
        })
        .collect()
}

/// What a run that goes on waits for, in a few lines.
pub(crate) fn waits_for(hub: &Hub, state: &RunState, face: Face) -> Vec<String> {
    waiting_lines(&step_rows(hub, state, face))
}

fn waiting_lines(rows: &[StepRow]) -> Vec<String> {
    let open = |row: &&StepRow| matches!(row.status, "READY" | "RUNNING" | "WAITING");
    let mut lines: Vec<String> = rows
        .iter()
        .filter(open)
        .map(|row| match &row.why {
            Some(why) => format!("{}: {why}", row.step),
            None => format!("{}: {}", row.step, row.status),
        })
        .collect();
    let more = lines.len().saturating_sub(NAMES_SHOWN);
    if more > 0 {
        lines.truncate(NAMES_SHOWN);
        lines.push(format!("and {more} more steps"));
    }
    lines
}

/// How many steps of a run have ended, and how many there are.
pub(crate) fn steps_done(state: &RunState) -> (usize, usize) {
    (state.steps.iter().filter(|step| step.status.is_finished()).count(), state.steps.len())
}

/// A payload that was read.
pub(crate) fn loaded(payload: &Payload) -> Option<Value> {
    match payload {
        Payload::Loaded(text) => json(text),
        Payload::None | Payload::Stored => None,
    }
}

/// JSON that is kept as text.
pub(crate) fn json(text: &JsonText) -> Option<Value> {
    text.value().ok()
}

/// Why a step stands where it stands.
struct Reason<'s> {
    state: &'s RunState,
    spec: &'s StepSpec,
    step: &'s Step,
    face: Face,
}

impl Reason<'_> {
    fn text(&self, hindrance: &dyn Fn(&Step) -> Option<String>) -> Option<String> {
        match self.step.status {
            StepStatus::Pending => Some(self.pending()),
            StepStatus::Ready => Some(self.ready(hindrance(self.step))),
            StepStatus::Running => Some(self.running()),
            StepStatus::Waiting => Some(self.waiting()),
            StepStatus::Failed => Some(self.error()),
            StepStatus::Completed | StepStatus::Skipped | StepStatus::Cancelled => None,
        }
    }

    fn pending(&self) -> String {
        let run = &self.state.run;
        if run.paused {
            return match self.face {
                Face::Tools => "the run is paused: workflow_control action=resume".to_owned(),
                Face::Terminal => format!("the run is paused: a2a-mcp runs resume {}", run.id),
            };
        }
        let compiled = run.definition.steps.get(self.step.order);
        if compiled.is_some_and(|step| step.is_compensation) && run.error.is_none() {
            return "runs only as a compensation".to_owned();
        }
        let open: Vec<&str> = compiled
            .into_iter()
            .flat_map(|step| step.depends_on.iter())
            .filter_map(|(order, _)| self.state.step(*order))
            .filter(|(_, step)| !step.status.is_finished())
            .map(|(spec, _)| spec.name.as_str())
            .collect();
        if !open.is_empty() {
            let more = open.len().saturating_sub(NAMES_SHOWN);
            let names = open.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
            return if more > 0 { format!("after {names} and {more} more") } else { format!("after {names}") };
        }
        match run.definition.spec.max_parallel {
            Some(max) => format!("for a free place: max_parallel is {max}"),
            None => "about to be looked at".to_owned(),
        }
    }

    fn ready(&self, missing: Option<String>) -> String {
        if self.step.executor.kind == ExecutorKind::Pull {
            let agent = &self.spec.agent;
            return match self.face {
                Face::Tools => format!("for a session that works as {agent}: call work_next"),
                Face::Terminal => format!("for an MCP client that works as {agent} (its model calls work_next)"),
            };
        }
        match missing {
            Some(missing) => format!("for a process that can run it; this one can't: {}", one_line(&missing)),
            None => "for a process to take it; a2a-mcp serve and a2a-mcp worker do".to_owned(),
        }
    }

    fn running(&self) -> String {
        let owner = self.step.lease_owner.as_deref().unwrap_or("a process");
        // What follows the last slash tells claims of one process apart.
        let owner = owner.rsplit_once('/').map_or(owner, |(who, _)| who);
        let mut text = format!("with {}", quoted_line(owner, TEXT_CHARS));
        if let Some(progress) = &self.step.progress {
            if let Some(percent) = progress.percent {
                text.push_str(&format!(", {percent} %"));
            }
            if !progress.message.is_empty() {
                text.push_str(&format!(", says {}", quoted_line(&progress.message, TEXT_CHARS)));
            }
        }
        if self.step.failures > 0 {
            text.push_str(&format!("; {}", self.failures()));
        }
        text
    }

    fn waiting(&self) -> String {
        let due = self.step.due_at.or(self.step.timeout_at).map(|at| at.to_string());
        if let Some(asked) = self.step.question() {
            return self.asking(asked);
        }
        match (&self.step.wait, due) {
            (Some(Wait::Retry), Some(due)) => format!("tries again at {due}; {}", self.error()),
            (Some(Wait::Retry), None) => format!("tries again soon; {}", self.error()),
            (Some(Wait::Timer), Some(due)) => format!("until {due}"),
            (Some(Wait::Timer | Wait::Answer { .. }) | None, _) => "for a time".to_owned(),
        }
    }

    fn asking(&self, asked: Question<'_>) -> String {
        let text = quoted_line(asked.text, 2 * TEXT_CHARS);
        let (run, step, number) = (&self.state.run.id, &self.spec.name, asked.number);
        let how = match self.face {
            Face::Tools => {
                format!("workflow_signal run={run} step={step} question={number} answer=... (or refuse=true)")
            }
            Face::Terminal => {
                format!("a2a-mcp runs answer {run} --step {step} --question {number} JSON (or --refuse)")
            }
        };
        let fits =
            asked.schema.map_or_else(String::new, |schema| format!(", an answer that fits {}", shortened_line(schema)));
        format!("asks {text}: {how}{fits}")
    }

    fn error(&self) -> String {
        let error = self.step.error.as_deref().unwrap_or("no reason was given");
        let mut text = format!("{}: {}", self.failures(), quoted_line(error, 2 * TEXT_CHARS));
        match &self.spec.on_failure {
            OnFailure::Continue if self.step.status == StepStatus::Failed => text.push_str("; the run goes on"),
            OnFailure::Compensate(step) if self.step.status == StepStatus::Failed => {
                text.push_str(&format!("; {step} makes up for it"));
            }
            _ => {}
        }
        text
    }

    fn failures(&self) -> String {
        format!("failure {} of {}", self.step.failures.max(1), self.spec.retry.max_attempts.max(1))
    }
}

/// A schema in one line, cut where nobody would read on.
fn shortened_line(schema: &str) -> String {
    crate::text::shortened(&one_line(schema), 2 * TEXT_CHARS)
}
