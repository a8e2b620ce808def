//! `runs show`.

use a2a_core::workflow::definition::StepSpec;
use a2a_core::workflow::mermaid;
use a2a_core::workflow::run::{RunState, Step};
use a2a_engine::config::Config;
use a2a_engine::hub::{Hub, workflow_name};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};
use crate::run_view::{self, Face};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run's id, or the unique beginning of it
    run: String,
    /// Show this step only, with what it got and gave
    #[arg(long, value_name = "NAME", conflicts_with = "mermaid")]
    step: Option<String>,
    /// Show what each step got and gave
    #[arg(long, conflicts_with = "mermaid")]
    outputs: bool,
    /// Print the graph as Mermaid text
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let state = hub.run_get(&args.run, args.outputs || args.step.is_some() || args.json).await;
    let shown = state.map_err(CliError::from).and_then(|state| show(&hub, &state, &args));
    hub.close().await;
    shown?;
    Ok(Exit::Done)
}

fn show(hub: &Hub, state: &RunState, args: &Args) -> Result<(), CliError> {
    if args.mermaid {
        return Ok(output::text(&format!("{}\n", mermaid::of_run(state).trim_end()))?);
    }
    if let Some(name) = &args.step {
        let found = steps(state).find(|(spec, _)| spec.name.as_str() == name);
        let Some((spec, step)) = found else {
            let known: Vec<&str> = steps(state).map(|(spec, _)| spec.name.as_str()).collect();
            return Err(CliError::Failed(format!("the run has no step {name:?}; it has: {}", known.join(", "))));
        };
        return if args.json {
            Ok(output::json(&step_document(hub, state, spec, step))?)
        } else {
            step_text(hub, state, spec, step)
        };
    }
    if args.json {
        return Ok(output::json(&document(hub, state))?);
    }
    output::text(&text(hub, state))?;
    if args.outputs {
        for (spec, step) in steps(state) {
            output::text(&payloads(spec, step))?;
        }
    }
    Ok(())
}

fn steps(state: &RunState) -> impl Iterator<Item = (&StepSpec, &Step)> {
    (0..state.steps.len()).filter_map(|order| state.step(order))
}

/// The run and the table of its steps.
pub(super) fn text(hub: &Hub, state: &RunState) -> String {
    let run = &state.run;
    let (done, all) = run_view::steps_done(state);
    let paused = if run.paused { ", paused" } else { "" };
    let mut text = format!(
        "{}: {} is {}{paused}, {done} of {all} steps ended\nstarted {} by {}, last changed by {}\n",
        run.id,
        workflow_name(run.workflow.as_ref()),
        run.status,
        run.created_at,
        table::one_line(run.created_by.as_str()),
        table::one_line(run.updated_by.as_str()),
    );
    if let Some(finished) = run.finished_at {
        text.push_str(&format!("ended {finished}\n"));
    }
    if let Some(error) = &run.error {
        text.push_str(&format!("error: {}\n", table::one_line(error)));
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = run_view::step_rows(hub, state, Face::Terminal)
        .into_iter()
        .map(|row| {
            let attempt = if row.attempt == 0 { "-".to_owned() } else { row.attempt.to_string() };
            vec![row.step, row.status.to_owned(), row.agent, attempt, row.why.unwrap_or_default()]
        })
        .collect();
    text.push_str(&table::render(&["STEP", "STATUS", "AGENT", "ATTEMPT", "WHY"], &rows, table::width()));
    text.push_str(&result(state));
    text
}

/// What came of a run, when there is something.
pub(super) fn result(state: &RunState) -> String {
    state.run.result.as_ref().map_or_else(String::new, |result| format!("\nresult: {}\n", pretty(result.as_str())))
}

fn pretty(json: &str) -> String {
    let value: Result<Value, _> = serde_json::from_str(json);
    let text = value.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_else(|_| json.to_owned());
    clean_lines(&text)
}

/// JSON escapes most of what steers a terminal; the rest is taken out, line by line.
fn clean_lines(text: &str) -> String {
    text.lines().map(|line| output::clean(line).into_owned()).collect::<Vec<_>>().join("\n")
}

fn payloads(spec: &StepSpec, step: &Step) -> String {
    let parts = [
        ("input", run_view::loaded(&step.input)),
        ("output", run_view::loaded(&step.output)),
        ("answer", step.answer.as_ref().and_then(run_view::json)),
        ("checkpoint", step.checkpoint.as_ref().and_then(run_view::json)),
    ];
    let mut text = String::new();
    for (name, value) in parts {
        if let Some(value) = value {
            text.push_str(&format!("\n{} {name}: {}\n", spec.name, pretty(&value.to_string())));
        }
    }
    text
}

fn step_text(hub: &Hub, state: &RunState, spec: &StepSpec, step: &Step) -> Result<(), CliError> {
    let document = step_document(hub, state, spec, step);
    let mut text = format!("{} of {}: {}\n", spec.name, state.run.id, step.status);
    for field in ["agent", "capability", "attempt", "why", "error", "started_at", "finished_at"] {
        match document.get(field) {
            Some(Value::String(value)) => text.push_str(&format!("{field}: {}\n", table::one_line(value))),
            Some(Value::Null) | None => {}
            Some(other) => text.push_str(&format!("{field}: {other}\n")),
        }
    }
    text.push_str(&payloads(spec, step));
    Ok(output::text(&text)?)
}

fn step_document(hub: &Hub, state: &RunState, spec: &StepSpec, step: &Step) -> Value {
    let why = run_view::step_rows(hub, state, Face::Terminal).into_iter().nth(step.order).and_then(|row| row.why);
    json!({
        "step": spec.name,
        "status": step.status,
        "agent": spec.agent,
        "capability": spec.capability,
        "depends_on": spec.depends_on,
        "attempt": step.attempt,
        "failures": step.failures,
        "max_attempts": spec.retry.max_attempts,
        "why": why,
        "wait": step.wait,
        "error": step.error,
        "progress": step.progress,
        "input": run_view::loaded(&step.input),
        "output": run_view::loaded(&step.output),
        "answer": step.answer.as_ref().and_then(run_view::json),
        "checkpoint": step.checkpoint.as_ref().and_then(run_view::json),
        "ready_at": step.ready_at,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "due_at": step.due_at,
    })
}

pub(super) fn document(hub: &Hub, state: &RunState) -> Value {
    let run = &state.run;
    json!({
        "run": run.id,
        "namespace": run.namespace,
        "workflow": run.workflow,
        "workflow_revision": run.workflow_revision,
        "status": run.status,
        "paused": run.paused,
        "priority": run.priority,
        "context": run_view::json(&run.context),
        "input": run_view::json(&run.input),
        "result": run.result.as_ref().and_then(run_view::json),
        "error": run.error,
        "idempotency_key": run.idempotency_key,
        "forked_from": run.forked_from,
        "created_at": run.created_at,
        "created_by": run.created_by,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "updated_at": run.updated_at,
        "updated_by": run.updated_by,
        "steps": steps(state).map(|(spec, step)| step_document(hub, state, spec, step)).collect::<Vec<_>>(),
    })
}
