//! From workflows and steps of the older system to ours.

use std::collections::HashSet;

use a2a_core::limits::{ATTEMPTS_MAX, STEP_NAME_CHARS_MAX};
use a2a_engine::prisma::Row;
use serde_json::{Map, Value, json};

use super::super::super::claude_agent::id_of;
use super::expression::{self, StepNames};
use super::rows::Fields;

/// What a workflow has no place for.
#[derive(Default)]
pub(super) struct Left {
    /// It was started there.
    pub(super) has_run: bool,
    pub(super) has_priority: bool,
    /// Columns that are not known here.
    pub(super) columns: Vec<String>,
}

/// What the run of a workflow or of a step was, which becomes none here, and what is said of the row itself.
const RUN: [&str; 9] =
    ["status", "startedAt", "completedAt", "error", "result", "retries", "createdAt", "updatedAt", "workflowId"];

/// A step, as far as it is read.
struct Step {
    old_id: String,
    old_name: String,
    name: String,
    fields: Fields,
}

pub(super) fn document(row: &Row, steps: &[&Row], left: &mut Left) -> Result<Value, String> {
    let mut fields = Fields::read(row)?;
    let id = fields.text("id")?.ok_or("has no id")?;
    let id = id_of(&id).ok_or_else(|| format!("the id {id:?} has nothing that an id may hold"))?;
    let agent = fields.id("agentId")?;
    let mut document = Map::new();
    document.insert("id".to_owned(), id.into());
    for name in ["name", "description", "context"] {
        let value = fields.take(name).filter(|value| value.as_str() != Some(""));
        document.extend(value.map(|value| (name.to_owned(), value)));
    }
    left.has_priority = fields.take("priority").is_some_and(|priority| priority != json!(0));
    let status = fields.take("status");
    let started = fields.take("startedAt").or_else(|| fields.take("completedAt"));
    left.has_run = started.is_some() || status.is_some_and(|status| status != json!("PENDING"));
    RUN.iter().for_each(|name| drop(fields.take(name)));
    left.columns.extend(fields.rest().into_iter().map(|(name, _)| format!("Workflow.{name}")));
    let steps = read(steps)?;
    let by_name: StepNames = steps.iter().map(|step| (step.old_name.clone(), step.name.clone())).collect();
    let by_id: StepNames = steps.iter().map(|step| (step.old_id.clone(), step.name.clone())).collect();
    let mut written = Vec::with_capacity(steps.len());
    for step in steps {
        let place = format!("step {:?}", step.old_name);
        let step = self::step(step, agent.as_deref(), &by_id, &by_name, left);
        written.push(step.map_err(|reason| format!("{place}: {reason}"))?);
    }
    document.insert("steps".to_owned(), written.into());
    Ok(document.into())
}

/// Gives each step a name that it can have here, and that no other has.
fn read(rows: &[&Row]) -> Result<Vec<Step>, String> {
    let mut names: HashSet<String> = HashSet::new();
    let mut steps = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let mut fields = Fields::read(row).map_err(|reason| format!("step {} {reason}", index + 1))?;
        let old_id = fields.text("id")?.unwrap_or_default();
        let old_name = fields.text("name")?.unwrap_or_default();
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let fit: String = old_name.trim().chars().map(|c| if is_fit(c) { c } else { '_' }).collect();
        let fit = if fit.is_empty() { format!("step_{}", index + 1) } else { fit };
        let numbered = |number: usize| {
            let end = if number == 1 { String::new() } else { format!("_{number}") };
            let start: String = fit.chars().take(STEP_NAME_CHARS_MAX - end.len()).collect();
            format!("{start}{end}")
        };
        // As many numbers as there are names: one of them is free.
        let name = (1..=names.len() + 1).map(numbered).find(|name| !names.contains(name)).unwrap_or(fit.clone());
        names.insert(name.clone());
        steps.push(Step { old_id, old_name, name, fields });
    }
    Ok(steps)
}

fn step(
    step: Step,
    default_agent: Option<&str>,
    by_id: &StepNames,
    by_name: &StepNames,
    left: &mut Left,
) -> Result<Value, String> {
    let Step { name, mut fields, .. } = step;
    let agent = fields.id("agentId")?.or_else(|| default_agent.map(str::to_owned));
    let agent = agent.ok_or("neither it nor its workflow has an agent")?;
    let mut document = Map::from_iter([("name".to_owned(), name.into()), ("agent".to_owned(), agent.into())]);
    let mut put = |name: &str, value: Option<Value>| {
        document.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("capability", fields.first(&["capability", "action"]).filter(|value| value.as_str() != Some("")));
    put("input", fields.take("input").map(|input| expression::template(input, by_name)));
    for (name, old) in [("run_if", "runIf"), ("skip_if", "skipIf")] {
        let condition = fields.text(old)?.filter(|text| !text.trim().is_empty());
        put(name, condition.map(|text| expression::condition(&text, by_name).into()));
    }
    let mut depends_on = Vec::new();
    for old in fields.take("dependsOn").as_ref().and_then(Value::as_array).into_iter().flatten() {
        let old = old.as_str().unwrap_or_default();
        // Ids are what was meant, names what was written just as often.
        let known = by_id.get(old).or_else(|| by_name.get(old));
        let known = known.ok_or_else(|| format!("dependsOn names {old:?}, which is no step of its workflow"))?;
        if !depends_on.contains(known) {
            depends_on.push(known.clone());
        }
    }
    put("depends_on", (!depends_on.is_empty()).then(|| depends_on.into()));
    let retries = fields.take("maxRetries").as_ref().and_then(Value::as_u64);
    let attempts = retries.map(|retries| retries.saturating_add(1).min(u64::from(ATTEMPTS_MAX)));
    put("retry", attempts.map(|attempts| json!({"max_attempts": attempts})));
    let timeout_ms = fields.first(&["timeout", "timeoutMs"]).as_ref().and_then(Value::as_u64);
    put("timeout_s", timeout_ms.map(|ms| ms.div_ceil(1_000).into()));
    RUN.iter().for_each(|name| drop(fields.take(name)));
    fields.take("order");
    left.columns.extend(fields.rest().into_iter().map(|(name, _)| format!("WorkflowStep.{name}")));
    Ok(document.into())
}
