//! Rows of workflows, runs and steps as either database returns them, and their way to the domain and back.

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::agent::{ContentHash, Executor, ExecutorKind};
use a2a_core::ids::{Actor, Namespace, RunId, WorkflowId};
use a2a_core::json_text::JsonText;
use a2a_core::time::Timestamp;
use a2a_core::workflow::definition::{Definition, Workflow};
use a2a_core::workflow::run::{Payload, Progress, Run, RunState, RunStatus, Step, StepStatus, Wait};
use diesel::deserialize::Queryable;
use diesel::pg::Pg;
use diesel::pg::data_types::PgTimestamp;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamptz;
use serde::{Deserialize, Serialize};

use crate::agent_row::{StoredJson, StoredTime};
use crate::error::StoreError;
use crate::store::WorkflowVersion;
use crate::workflow_definition::{Found, stored_spec};

impl ToSql<Timestamptz, Pg> for StoredTime {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        /// Milliseconds from 1970-01-01 to 2000-01-01, where Postgres starts to count.
        const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
        let micros = self.0.0.saturating_sub(POSTGRES_EPOCH_MS).saturating_mul(1_000);
        ToSql::<Timestamptz, Pg>::to_sql(&PgTimestamp(micros), &mut out.reborrow())
    }
}

/// The columns of a [`WorkflowRow`].
macro_rules! workflow_columns {
    () => {
        "namespace, id, revision, document, created_at, updated_at, updated_by, removed_at"
    };
}
pub(crate) use workflow_columns;

/// The columns of a [`RunRow`], of the table `r`.
macro_rules! run_columns {
    () => {
        "r.id, r.namespace, r.workflow_id, r.workflow_revision, r.definition_hash, r.status, r.paused, r.priority, \
         r.context, r.input, r.result, r.error, r.idempotency_key, r.forked_from, r.revision, r.created_at, \
         r.created_by, r.started_at, r.finished_at, r.timeout_at, r.updated_at, r.updated_by"
    };
}
pub(crate) use run_columns;

/// The columns of a [`StepRow`], of the table `s`. Payloads are given as `light`, which leaves them in the database,
/// `input`, or `whole`.
macro_rules! step_columns {
    (light) => {
        step_columns!("NULL", "NULL")
    };
    (light json) => {
        step_columns!("NULL::json", "NULL::json")
    };
    (input) => {
        step_columns!("s.input", "NULL")
    };
    (input json) => {
        step_columns!("s.input", "NULL::json")
    };
    (whole) => {
        step_columns!("s.input", "s.output")
    };
    ($input:literal, $output:literal) => {
        concat!(
            "s.run_id, s.ord, s.executor_kind, s.executor_settings, s.status, s.attempt, s.failures, \
             s.input IS NOT NULL, s.output IS NOT NULL, ",
            $input,
            ", ",
            $output,
            ", s.error, s.wait, s.answer, s.checkpoint, s.progress, s.lease_owner, s.lease_until, s.progress_until, \
             s.timeout_at, s.due_at, s.ready_at, s.started_at, s.finished_at, s.revision"
        )
    };
}
pub(crate) use step_columns;

/// One row of `workflows` or `workflow_history`, in the order of [`workflow_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct WorkflowRow {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) revision: i64,
    document: StoredJson,
    created_at: StoredTime,
    updated_at: StoredTime,
    updated_by: String,
    removed_at: Option<StoredTime>,
}

impl WorkflowRow {
    pub(crate) fn into_version(self) -> Result<WorkflowVersion, StoreError> {
        let spec = stored_spec(&self.document.0).map_err(|error| StoreError::Row {
            table: "workflows",
            key: format!("{}/{}", self.namespace, self.id),
            reason: format!("document: {error}"),
        })?;
        let workflow = Workflow {
            spec,
            revision: self.revision,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            updated_by: Actor::new(&self.updated_by),
        };
        Ok(WorkflowVersion { workflow: Arc::new(workflow), removed_at: self.removed_at.map(|time| time.0) })
    }
}

/// One row of `runs` without its definition, in the order of [`run_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct RunRow {
    pub(crate) id: String,
    namespace: String,
    workflow_id: Option<String>,
    workflow_revision: Option<i64>,
    definition_hash: Vec<u8>,
    status: String,
    paused: bool,
    priority: i64,
    context: StoredJson,
    input: StoredJson,
    result: Option<StoredJson>,
    error: Option<String>,
    idempotency_key: Option<String>,
    forked_from: Option<String>,
    pub(crate) revision: i64,
    created_at: StoredTime,
    created_by: String,
    started_at: Option<StoredTime>,
    finished_at: Option<StoredTime>,
    timeout_at: Option<StoredTime>,
    updated_at: StoredTime,
    updated_by: String,
}

/// The hash that a column holds; one of a wrong length equals none that there is.
pub(crate) fn stored_hash(bytes: &[u8]) -> ContentHash {
    bytes.try_into().unwrap_or_default()
}

impl RunRow {
    pub(crate) fn definition_hash(&self) -> ContentHash {
        stored_hash(&self.definition_hash)
    }

    pub(crate) fn into_run(self, definition: Arc<Definition>) -> Result<Run, StoreError> {
        let unreadable = |reason: String| StoreError::Row { table: "runs", key: self.id.clone(), reason };
        let status = RunStatus::from_name(&self.status)
            .ok_or_else(|| unreadable(format!("status: {:?} is not known", self.status)))?;
        let priority = i16::try_from(self.priority).map_err(|error| unreadable(format!("priority: {error}")))?;
        Ok(Run {
            id: RunId::from_stored(self.id),
            namespace: Namespace::from_stored(self.namespace),
            workflow: self.workflow_id.map(WorkflowId::from_stored),
            workflow_revision: self.workflow_revision,
            definition,
            status,
            paused: self.paused,
            priority,
            context: JsonText::from_stored(self.context.0),
            input: JsonText::from_stored(self.input.0),
            result: self.result.map(|json| JsonText::from_stored(json.0)),
            error: self.error.map(Into::into),
            idempotency_key: self.idempotency_key.map(Into::into),
            forked_from: self.forked_from.map(RunId::from_stored),
            revision: self.revision,
            created_at: self.created_at.0,
            created_by: Actor::new(&self.created_by),
            started_at: time(self.started_at),
            finished_at: time(self.finished_at),
            timeout_at: time(self.timeout_at),
            updated_at: self.updated_at.0,
            updated_by: Actor::new(&self.updated_by),
        })
    }
}

fn time(stored: Option<StoredTime>) -> Option<Timestamp> {
    stored.map(|time| time.0)
}

/// One row of `steps`, in the order of [`step_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct StepRow {
    pub(crate) run_id: String,
    pub(crate) ord: i64,
    executor_kind: String,
    executor_settings: StoredJson,
    status: String,
    attempt: i64,
    failures: i64,
    has_input: bool,
    has_output: bool,
    input: Option<StoredJson>,
    output: Option<StoredJson>,
    error: Option<String>,
    wait: Option<StoredJson>,
    answer: Option<StoredJson>,
    checkpoint: Option<StoredJson>,
    progress: Option<StoredJson>,
    lease_owner: Option<String>,
    lease_until: Option<StoredTime>,
    progress_until: Option<StoredTime>,
    timeout_at: Option<StoredTime>,
    due_at: Option<StoredTime>,
    ready_at: Option<StoredTime>,
    started_at: Option<StoredTime>,
    finished_at: Option<StoredTime>,
    pub(crate) revision: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredProgress {
    message: Box<str>,
    percent: Option<u8>,
    at: i64,
}

impl StepRow {
    pub(crate) fn into_step(self) -> Result<Step, StoreError> {
        let (run, ord) = (self.run_id.clone(), self.ord);
        self.try_into_step().map_err(|reason| StoreError::Row { table: "steps", key: format!("{run}/{ord}"), reason })
    }

    fn try_into_step(self) -> Result<Step, String> {
        let in_column = |column: &'static str| move |error: serde_json::Error| format!("{column}: {error}");
        let count = |number: i64| i32::try_from(number).map_err(|error| error.to_string());
        let kind = ExecutorKind::from_name(&self.executor_kind)
            .ok_or_else(|| format!("executor_kind: {:?} is not known", self.executor_kind))?;
        let status =
            StepStatus::from_name(&self.status).ok_or_else(|| format!("status: {:?} is not known", self.status))?;
        let wait: Option<Wait> =
            self.wait.map(|json| serde_json::from_str(&json.0)).transpose().map_err(in_column("wait"))?;
        let progress: Option<StoredProgress> =
            self.progress.map(|json| serde_json::from_str(&json.0)).transpose().map_err(in_column("progress"))?;
        Ok(Step {
            order: usize::try_from(self.ord).map_err(|error| error.to_string())?,
            executor: Executor { kind, settings: JsonText::from_stored(self.executor_settings.0) },
            status,
            attempt: count(self.attempt)?,
            failures: count(self.failures)?,
            input: payload(self.has_input, self.input),
            output: payload(self.has_output, self.output),
            error: self.error.map(Into::into),
            wait,
            answer: self.answer.map(|json| JsonText::from_stored(json.0)),
            checkpoint: self.checkpoint.map(|json| JsonText::from_stored(json.0)),
            progress: progress.map(|p| Progress { message: p.message, percent: p.percent, at: Timestamp(p.at) }),
            lease_owner: self.lease_owner.map(Into::into),
            lease_until: time(self.lease_until),
            progress_until: time(self.progress_until),
            timeout_at: time(self.timeout_at),
            due_at: time(self.due_at),
            ready_at: time(self.ready_at),
            started_at: time(self.started_at),
            finished_at: time(self.finished_at),
            revision: self.revision,
        })
    }
}

fn payload(there: bool, text: Option<StoredJson>) -> Payload {
    match (there, text) {
        (_, Some(json)) => Payload::Loaded(JsonText::from_stored(json.0)),
        (true, None) => Payload::Stored,
        (false, None) => Payload::None,
    }
}

/// A payload as it is written: the text, and whether the one that is stored stays.
pub(crate) fn written_payload(payload: &Payload) -> (Option<&str>, bool) {
    match payload {
        Payload::None => (None, false),
        Payload::Stored => (None, true),
        Payload::Loaded(json) => (Some(json.as_str()), false),
    }
}

/// The columns of a step that hold JSON of our own making, as text.
pub(crate) struct StepJson {
    pub(crate) wait: Option<String>,
    pub(crate) progress: Option<String>,
}

impl StepJson {
    pub(crate) fn of(step: &Step) -> Result<Self, StoreError> {
        let in_row = |error: serde_json::Error| StoreError::Row {
            table: "steps",
            key: step.order.to_string(),
            reason: error.to_string(),
        };
        let progress = step.progress.as_ref().map(|p| StoredProgress {
            message: p.message.clone(),
            percent: p.percent,
            at: p.at.0,
        });
        Ok(Self {
            wait: step.wait.as_ref().map(serde_json::to_string).transpose().map_err(in_row)?,
            progress: progress.map(|p| serde_json::to_string(&p)).transpose().map_err(in_row)?,
        })
    }
}

/// The id of a step in the change log.
pub(crate) fn step_log_id(run: &RunId, order: usize) -> String {
    format!("{run}/{order}")
}

/// Reads what [`step_log_id`] wrote.
pub(crate) fn read_step_log_id(id: &str) -> Option<(RunId, usize)> {
    let (run, order) = id.rsplit_once('/')?;
    Some((RunId::from_stored(run), order.parse().ok()?))
}

/// What the change log says of a run: that it has ended is a removal, for those who hold live runs only.
pub(crate) fn run_log_op(run: &Run) -> &'static str {
    if run.status.is_finished() { "remove" } else { "put" }
}

/// A run that was read, or its id with the reason why it can't be.
pub(crate) type ReadRun = Result<RunState, (RunId, StoreError)>;

/// Puts runs together from their rows and those of their steps, in the order of the runs.
pub(crate) fn assemble(runs: Vec<RunRow>, steps: Vec<StepRow>, found: &Found) -> Vec<ReadRun> {
    let mut by_run: HashMap<String, Vec<StepRow>> = HashMap::with_capacity(runs.len());
    for step in steps {
        match by_run.get_mut(&step.run_id) {
            Some(rows) => rows.push(step),
            None => {
                by_run.insert(step.run_id.clone(), vec![step]);
            }
        }
    }
    runs.into_iter()
        .map(|row| {
            let id = RunId::from_stored(row.id.as_str());
            let steps = by_run.remove(&row.id).unwrap_or_default();
            state_of(row, steps, found).map_err(|error| (id, error))
        })
        .collect()
}

fn state_of(row: RunRow, mut steps: Vec<StepRow>, found: &Found) -> Result<RunState, StoreError> {
    let id = row.id.clone();
    let unreadable = |reason: &str| StoreError::Row { table: "runs", key: id.clone(), reason: reason.to_owned() };
    let definition =
        found.by_hash.get(&row.definition_hash()).cloned().ok_or_else(|| unreadable("its definition can't be read"))?;
    steps.sort_unstable_by_key(|step| step.ord);
    let steps = steps.into_iter().map(StepRow::into_step).collect::<Result<Vec<Step>, _>>()?;
    let in_order = steps.iter().enumerate().all(|(order, step)| step.order == order);
    if !in_order || steps.len() != definition.spec.steps.len() {
        return Err(unreadable("its steps are not those of its definition"));
    }
    Ok(RunState { run: row.into_run(definition)?, steps })
}
