//! The tasks extension of the protocol. A task is a run and has its id, so that it outlives this process and any process
//! can tell of it.

use a2a_core::ids::{Actor, Revision};
use a2a_core::workflow::run::{RunState, RunStatus};
use a2a_engine::error::HubError;
use a2a_engine::hub::{Hub, RunControl};
use rmcp::ErrorData;
use rmcp::model::{
    ClientCapabilities, DetailedTask, ElicitRequest, ElicitRequestParams, ElicitationSchema, InputRequest,
    InputRequests, InputResponses, JsonObject, Task, TaskPayload, TaskStatus,
};
use serde_json::{Value, json};

use crate::run_view::{self, Face};
use crate::tool_error::ToolError;
use crate::tools;

/// How often a client should ask; runs take seconds to days.
const POLL_INTERVAL_MS: u64 = 2_000;

/// The run as a task.
pub(crate) fn task(hub: &Hub, state: &RunState) -> Task {
    let run = &state.run;
    let status = match run.status {
        RunStatus::Completed | RunStatus::Failed => TaskStatus::Completed,
        RunStatus::Cancelled => TaskStatus::Cancelled,
        RunStatus::Pending | RunStatus::Running | RunStatus::Waiting => TaskStatus::Working,
    };
    let mut message = format!("run {} is {}", run.id, run.status);
    for line in run_view::waits_for(hub, state, Face::Tools) {
        message.push_str(&format!("; waits {line}"));
    }
    Task::new(run.id.as_str(), status, run.created_at.to_string(), run.updated_at.to_string())
        .with_status_message(message)
        .with_poll_interval_ms(POLL_INTERVAL_MS)
}

/// The task with what its client needs now: the result, or what is asked.
pub(super) async fn detailed(
    hub: &Hub,
    id: &str,
    client: Option<ClientCapabilities>,
) -> Result<DetailedTask, ErrorData> {
    let state = find(hub, id).await?;
    let task = task(hub, &state);
    let payload = match state.run.status {
        // A run that failed is the result of a call that failed; a task fails when there can be no result.
        RunStatus::Completed | RunStatus::Failed => TaskPayload::Completed { result: result(hub, &state)? },
        RunStatus::Cancelled => TaskPayload::Cancelled,
        RunStatus::Pending | RunStatus::Running | RunStatus::Waiting => {
            let requests = match client.and_then(|client| client.elicitation) {
                Some(_) => questions(&state),
                None => InputRequests::new(),
            };
            if requests.is_empty() {
                TaskPayload::Working
            } else {
                TaskPayload::InputRequired { input_requests: requests }
            }
        }
    };
    Ok(DetailedTask::new(task, payload))
}

/// Takes answers of the client to what the run asks. Keys that are not asked any more are ignored.
pub(super) async fn update(hub: &Hub, id: &str, responses: InputResponses, actor: &Actor) -> Result<(), ErrorData> {
    let state = find(hub, id).await?;
    for (key, response) in responses {
        let Some(asked) = asked(&state).find(|asked| asked.key == key) else { continue };
        let (answer, refuse) = match response.get("action").and_then(Value::as_str) {
            Some("accept") => {
                let content = response.get("content").cloned().unwrap_or(Value::Null);
                (if asked.is_text { content.get(TEXT_FIELD).cloned().unwrap_or(content) } else { content }, false)
            }
            Some("decline") => (Value::from("declined by the person who was asked"), true),
            // The form was put away: the question stays, for anybody to answer.
            _ => continue,
        };
        let (run, step, question) = (state.run.id.as_str(), Some(asked.step), Some(asked.number));
        hub.run_signal(run, step, question, &answer, refuse, actor).await.map_err(error)?;
    }
    Ok(())
}

/// Cancels the run. One that has ended stays as it is.
pub(super) async fn cancel(hub: &Hub, id: &str, actor: &Actor) -> Result<(), ErrorData> {
    let state = find(hub, id).await?;
    if state.run.status.is_finished() {
        return Ok(());
    }
    let control = RunControl::Cancel { reason: "cancelled by the client of its task".to_owned() };
    match hub.run_control(state.run.id.as_str(), control, actor).await {
        // It ended meanwhile.
        Ok(_) | Err(HubError::Refused { .. }) => Ok(()),
        Err(failed) => Err(error(failed)),
    }
}

/// A task is named by the whole id: a start of one is for people and models.
async fn find(hub: &Hub, id: &str) -> Result<std::sync::Arc<RunState>, ErrorData> {
    let state = hub.run_get(id, false).await.map_err(error)?;
    if state.run.id.as_str() == id {
        return Ok(state);
    }
    Err(ErrorData::invalid_params("there is no such task", None))
}

fn result(hub: &Hub, state: &RunState) -> Result<JsonObject, ErrorData> {
    let internal = || ErrorData::internal_error("the result could not be written", None);
    let result = tools::run_outcome(hub, state).unwrap_or_else(ToolError::into_result);
    match serde_json::to_value(&result) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(internal()),
    }
}

/// The field of the form for a question whose answer is any text.
const TEXT_FIELD: &str = "answer";

/// A question of a step.
struct Asked<'s> {
    /// Never used again: a later question of the same step has another number.
    key: String,
    step: &'s str,
    number: Revision,
    question: &'s str,
    schema: ElicitationSchema,
    is_text: bool,
}

/// What can be asked in a form. Other questions are told in the message of the task.
fn asked(state: &RunState) -> impl Iterator<Item = Asked<'_>> {
    (0..state.steps.len()).filter_map(|order| {
        let (spec, step) = state.step(order)?;
        let question = step.question()?;
        let text = json!({"type": "object", "properties": {TEXT_FIELD: {"type": "string"}}, "required": [TEXT_FIELD]});
        let form = match question.schema {
            None => text,
            Some(schema) => serde_json::from_str(schema).ok()?,
        };
        Some(Asked {
            key: format!("{}:{}", spec.name, question.number),
            step: spec.name.as_str(),
            number: question.number,
            question: question.text,
            schema: serde_json::from_value(form).ok()?,
            is_text: question.schema.is_none(),
        })
    })
}

fn questions(state: &RunState) -> InputRequests {
    asked(state)
        .map(|asked| {
            let params = ElicitRequestParams::FormElicitationParams {
                meta: None,
                message: asked.question.to_owned(),
                requested_schema: asked.schema,
            };
            (asked.key, InputRequest::Elicitation(ElicitRequest::new(params)))
        })
        .collect()
}

fn error(error: HubError) -> ErrorData {
    match &error {
        HubError::Invalid(_)
        | HubError::NotFound { .. }
        | HubError::Ambiguous { .. }
        | HubError::OtherQuestion { .. }
        | HubError::Refused { .. } => ErrorData::invalid_params(error.to_string(), None),
        _ => ErrorData::internal_error(
            error.to_string(),
            Some(json!({"code": error.code(), "retryable": error.is_retryable()})),
        ),
    }
}
