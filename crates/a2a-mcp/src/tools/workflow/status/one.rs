//! One run, one step of it, or one part of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use a2a_core::workflow::mermaid;
use a2a_core::workflow::run::{RunState, StepStatus};
use a2a_engine::error::HubError;
use a2a_engine::hub::workflow_name;
use serde_json::{Map, Value, json};

use super::{OneQuery, Part, StatusResult};
use crate::run_view::{self, Face, StepRow};
use crate::text::{fenced, fitted, part_of, quoted_line};
use crate::tool_error::ToolError;
use crate::tools::{Call, NOTICE, Reply, json_bytes};

/// What the table of steps may take of a result.
const TABLE_BYTES_MAX: usize = 12 * 1024;
/// What all outputs together may take, and each of them.
const OUTPUTS_BYTES_MAX: usize = 14 * 1024;
const OUTPUT_BYTES_MAX: usize = 3 * 1024;
/// What the input and the output of the one step that was asked for may take.
const PART_BYTES_MAX: usize = 9 * 1024;
/// What a part that is read as text may take.
const TEXT_BYTES_MAX: usize = 24 * 1024;

pub(super) async fn answer(call: &Call<'_>, query: OneQuery) -> Result<Reply<StatusResult>, ToolError> {
    let mut state = call.hub.run_get(&query.run, false).await?;
    if !query.wait.is_zero() && !state.run.status.is_finished() {
        let message = format!("{} is {}", state.run.id, state.run.status);
        state = call.progress.during(&message, call.hub.run_wait_change(&state, query.wait)).await?;
    }
    let mut reply = match (query.part, &query.step) {
        (Some(part), step) => part_text(call, &state, part, step.as_deref(), query.offset).await?,
        (None, Some(step)) => one_step(call, &state, step).await?,
        (None, None) => whole(call, &state, query.full).await?,
    };
    if query.mermaid {
        let graph = mermaid::of_run(&state);
        reply.text.push_str(&format!("\n```mermaid\n{}\n```", graph.trim_end()));
        reply.result.mermaid = Some(graph);
    }
    reply.result.stale_ms = call.hub.stale().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    Ok(reply)
}

fn head(state: &RunState) -> Map<String, Value> {
    let run = &state.run;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &state.steps {
        *counts.entry(step.status.as_str()).or_default() += 1;
    }
    let mut head = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            head.insert(name.to_owned(), value);
        }
    };
    set("run", json!(run.id));
    set("workflow", json!(workflow_name(run.workflow.as_ref())));
    set("revision", json!(run.workflow_revision));
    set("status", json!(run.status));
    set("paused", if run.paused { json!(true) } else { Value::Null });
    set("priority", json!(run.priority));
    set("steps", json!(counts));
    set("error", json!(run.error));
    set("created_at", json!(run.created_at));
    set("finished_at", json!(run.finished_at));
    set("times_out_at", json!(run.timeout_at.filter(|_| !run.status.is_finished())));
    set("forked_from", json!(run.forked_from));
    set("created_by", json!(run.created_by));
    set("changed_by", json!((run.updated_by != run.created_by).then_some(&run.updated_by)));
    head
}

/// The first line of every answer on a run.
fn first_line(state: &RunState) -> String {
    let run = &state.run;
    let (done, all) = run_view::steps_done(state);
    let paused = if run.paused { ", paused" } else { "" };
    let mut line = format!(
        "{} ({}) is {}{paused}: {done} of {all} steps ended",
        run.id,
        workflow_name(run.workflow.as_ref()),
        run.status
    );
    if let Some(error) = &run.error {
        line.push_str(&format!("; {}", quoted_line(error, 600)));
    }
    line
}

fn row_line(row: &StepRow) -> String {
    let attempt = if row.attempt > 1 { format!(" #{}", row.attempt) } else { String::new() };
    let why = row.why.as_ref().map_or_else(String::new, |why| format!(" - {why}"));
    format!("{} {} {}{attempt}{why}", row.step, row.status, row.agent)
}

/// As many rows as fit, those that matter first, in the order of the steps; and how many are left out.
fn rows_that_fit(rows: Vec<StepRow>) -> (Vec<StepRow>, usize) {
    let matters = |row: &StepRow| matches!(row.status, "READY" | "RUNNING" | "WAITING" | "FAILED");
    let all = rows.len();
    let mut left = TABLE_BYTES_MAX;
    let (first, second): (Vec<_>, Vec<_>) = rows.into_iter().enumerate().partition(|(_, row)| matters(row));
    let mut kept: Vec<(usize, StepRow)> = Vec::new();
    for (order, row) in first.into_iter().chain(second) {
        let bytes = json_bytes(&row);
        if bytes > left {
            break;
        }
        left -= bytes;
        kept.push((order, row));
    }
    kept.sort_by_key(|(order, _)| *order);
    let more = all - kept.len();
    (kept.into_iter().map(|(_, row)| row).collect(), more)
}

async fn whole(call: &Call<'_>, state: &RunState, full: bool) -> Result<Reply<StatusResult>, ToolError> {
    let (rows, more) = rows_that_fit(run_view::step_rows(call.hub, state, Face::Tools));
    let mut text = first_line(state);
    let mut head = head(state);
    for row in &rows {
        text.push('\n');
        text.push_str(&row_line(row));
    }
    if more > 0 {
        head.insert("steps_left_out".to_owned(), json!(more));
        text.push_str(&format!("\nand {more} more steps, which do not keep it; look at one with step="));
    }
    let mut budget = OUTPUTS_BYTES_MAX;
    if let Some(result) = state.run.result.as_ref().and_then(run_view::json) {
        let part = fitted(result, OUTPUT_BYTES_MAX.max(budget / 2));
        budget = budget.saturating_sub(json_bytes(&part.value));
        text.push('\n');
        text.push_str(&fenced("run-result", &[("run", state.run.id.as_str())], &part.value));
        if let Some(next) = part.next_offset {
            let note = cut_note(part.bytes, &format!("part=result offset={next}"));
            text.push_str(&format!("\n{note}"));
            head.insert("result_cut".to_owned(), json!(note));
        }
        head.insert("result".to_owned(), part.value);
    }
    if full {
        let mut outputs = Map::new();
        for (spec, step) in (0..state.steps.len()).filter_map(|order| state.step(order)) {
            if step.status != StepStatus::Completed {
                continue;
            }
            // One by one, because all together they may be larger than memory.
            let payloads = call.hub.step_payloads(&state.run.id, step.order).await?;
            let Some(output) = payloads.output.as_ref().and_then(run_view::json) else { continue };
            let part = fitted(output, OUTPUT_BYTES_MAX.min(budget));
            budget = budget.saturating_sub(json_bytes(&part.value) + spec.name.as_str().len() + 8);
            text.push('\n');
            text.push_str(&fenced(
                "step-output",
                &[("step", spec.name.as_str()), ("agent", spec.agent.as_str())],
                &part.value,
            ));
            if let Some(next) = part.next_offset {
                let more = format!("step={} part=output offset={next}", spec.name);
                text.push_str(&format!("\n{}", cut_note(part.bytes, &more)));
            }
            outputs.insert(spec.name.to_string(), part.value);
            if budget < 256 {
                head.insert("outputs_left_out".to_owned(), json!("read the others with step="));
                text.push_str("\nother outputs are left out; read them with step=");
                break;
            }
        }
        head.insert("outputs".to_owned(), Value::Object(outputs));
    }
    let notice = (full || head.contains_key("result")).then_some(NOTICE);
    Ok(Reply::new(StatusResult { run: Some(head), steps: Some(rows), notice, ..StatusResult::default() }, text))
}

fn cut_note(bytes: usize, how: &str) -> String {
    format!("cut: it has {bytes} bytes of JSON; read on with {how}")
}

fn find<'s>(
    state: &'s RunState,
    name: &str,
) -> Result<(&'s a2a_core::workflow::definition::StepSpec, &'s a2a_core::workflow::run::Step), ToolError> {
    let all = || (0..state.steps.len()).filter_map(|order| state.step(order));
    all().find(|(spec, _)| spec.name.as_str() == name).ok_or_else(|| {
        let nearest = all().take(8).map(|(spec, _)| spec.name.to_string()).collect();
        HubError::NotFound { entity: "step", id: name.to_owned(), nearest }.into()
    })
}

async fn one_step(call: &Call<'_>, state: &Arc<RunState>, name: &str) -> Result<Reply<StatusResult>, ToolError> {
    let (spec, step) = find(state, name)?;
    let payloads = call.hub.step_payloads(&state.run.id, step.order).await?;
    let rows = run_view::step_rows(call.hub, state, Face::Tools);
    let row = rows.into_iter().nth(step.order).ok_or_else(ToolError::internal)?;
    let mut text = format!("{}\n{}", row_line(&row), first_line(state));
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    set("step", json!(row.step));
    set("status", json!(row.status));
    set("agent", json!(row.agent));
    set("capability", json!(spec.capability));
    set("attempt", json!(step.attempt));
    set("failures", json!(step.failures));
    set("max_attempts", json!(spec.retry.max_attempts));
    set("why", json!(row.why));
    set("error", json!(step.error.as_deref().map(|error| crate::text::shortened(error, 2_000))));
    set("depends_on", json!(spec.depends_on));
    for (name, at) in [
        ("ready_at", step.ready_at),
        ("started_at", step.started_at),
        ("finished_at", step.finished_at),
        ("due_at", step.due_at),
    ] {
        set(name, json!(at));
    }
    if let Some(asked) = step.question() {
        set("question", json!(crate::text::shortened(asked.text, 2_000)));
        set("question_number", json!(asked.number));
        let schema = asked.schema.and_then(|schema| serde_json::from_str(schema).ok());
        set("answer_schema", schema.map_or(Value::Null, |schema| fitted(schema, OUTPUT_BYTES_MAX).value));
    }
    let parts = [
        ("input", payloads.input.as_ref().and_then(run_view::json), PART_BYTES_MAX),
        ("output", payloads.output.as_ref().and_then(run_view::json), PART_BYTES_MAX),
        ("answer", step.answer.as_ref().and_then(run_view::json), OUTPUT_BYTES_MAX),
        ("checkpoint", step.checkpoint.as_ref().and_then(run_view::json), OUTPUT_BYTES_MAX),
    ];
    for (part, value, bytes_max) in parts {
        let Some(value) = value else { continue };
        let fitted = fitted(value, bytes_max);
        let tag = format!("step-{part}");
        text.push('\n');
        text.push_str(&fenced(&tag, &[("step", spec.name.as_str()), ("agent", spec.agent.as_str())], &fitted.value));
        if let Some(next) = fitted.next_offset {
            let note = cut_note(fitted.bytes, &format!("step={} part={part} offset={next}", spec.name));
            text.push_str(&format!("\n{note}"));
            fields.insert(format!("{part}_cut"), json!(note));
        }
        fields.insert(part.to_owned(), fitted.value);
    }
    let result = StatusResult { step: Some(fields), notice: Some(NOTICE), ..StatusResult::default() };
    Ok(Reply::new(result, text))
}

async fn part_text(
    call: &Call<'_>,
    state: &RunState,
    part: Part,
    step: Option<&str>,
    offset: usize,
) -> Result<Reply<StatusResult>, ToolError> {
    let value = match step {
        Some(name) => {
            let (_, step) = find(state, name)?;
            match part {
                Part::Input | Part::Output => {
                    let payloads = call.hub.step_payloads(&state.run.id, step.order).await?;
                    let payload = if part == Part::Input { payloads.input } else { payloads.output };
                    payload.as_ref().and_then(run_view::json)
                }
                Part::Answer => step.answer.as_ref().and_then(run_view::json),
                Part::Checkpoint => step.checkpoint.as_ref().and_then(run_view::json),
                Part::Context => run_view::json(&state.run.context),
                Part::Result => state.run.result.as_ref().and_then(run_view::json),
            }
        }
        None if part == Part::Context => run_view::json(&state.run.context),
        None => state.run.result.as_ref().and_then(run_view::json),
    };
    let Some(value) = value else {
        let of = step.map_or_else(|| format!("run {}", state.run.id), |step| format!("step {step}"));
        let result = StatusResult { text: Some(String::new()), ..StatusResult::default() };
        return Ok(Reply::new(result, format!("{of} has no {}", part.as_str())));
    };
    let whole = value.to_string();
    let (shown, next_offset) = part_of(&whole, offset, TEXT_BYTES_MAX);
    let end = offset.min(whole.len()) + shown.len();
    let mut text = format!("bytes {} to {end} of {} of the {}", offset.min(whole.len()), whole.len(), part.as_str());
    if let Some(next) = next_offset {
        text.push_str(&format!("; go on with offset={next}"));
    }
    text.push('\n');
    text.push_str(&fenced("part", &[("of", part.as_str())], &Value::from(shown)));
    let result =
        StatusResult { text: Some(shown.to_owned()), next_offset, notice: Some(NOTICE), ..StatusResult::default() };
    Ok(Reply::new(result, text))
}
