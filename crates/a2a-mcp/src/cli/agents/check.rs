//! `agents check`.

use std::time::SystemTime;

use a2a_core::agent_check::{AgentStatus, ago};
use a2a_core::ids::Actor;
use a2a_core::time::Timestamp;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{CheckOutcome, CheckedAgent, Hub};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output, table};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ids of agents, or unique beginnings of ids [default: all that are enabled and can be contacted]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let mut ids = args.ids;
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    let hub = open(config).await?;
    let checked = hub.agent_check(None, &ids, actor).await;
    let checked: Vec<Result<Shown, HubError>> =
        checked?.into_iter().map(|item| item.map(|checked| Shown::new(&hub, &checked))).collect();
    // What was found out is written before the end.
    hub.close().await;
    let mut exit = Exit::Done;
    for (n, item) in checked.iter().enumerate() {
        let end = match item {
            Ok(shown) if shown.checked && shown.status == AgentStatus::Unreachable => Exit::Failed,
            Ok(_) => continue,
            Err(error) => {
                let id = ids.get(n).map_or("", String::as_str);
                output::note(&format!("error: {id}: {error}"));
                exit_of(error)
            }
        };
        if exit == Exit::Done || end == Exit::Database {
            exit = end;
        }
    }
    let shown: Vec<&Shown> = checked.iter().flatten().collect();
    if args.json {
        let count = |status| shown.iter().filter(|shown| shown.checked && shown.status == status).count();
        output::json(&json!({
            "reachable": count(AgentStatus::Reachable),
            "unreachable": count(AgentStatus::Unreachable),
            "not_checked": shown.iter().filter(|shown| !shown.checked).count(),
            "agents": shown.iter().map(|shown| shown.row()).collect::<Vec<Value>>(),
        }))?;
        return Ok(exit);
    }
    if checked.is_empty() {
        output::note(
            "no enabled agent here can be contacted; pull agents are reached when a session asks for their work",
        );
        return Ok(exit);
    }
    let now = Timestamp::from_system_time(SystemTime::now());
    let rows: Vec<Vec<String>> = shown.iter().map(|shown| shown.cells(now)).collect();
    if !rows.is_empty() {
        output::text(&table::render(&["ID", "EXECUTOR", "RESULT", "DETAIL"], &rows, table::width()))?;
    }
    Ok(exit)
}

/// One agent with what came of the contact.
struct Shown {
    id: String,
    namespace: String,
    executor: &'static str,
    /// Whether a contact was made now.
    checked: bool,
    /// What came of it, or else what was known before.
    status: AgentStatus,
    last_checked: Option<Timestamp>,
    detail: Option<String>,
}

impl Shown {
    fn new(hub: &Hub, checked: &CheckedAgent) -> Self {
        let spec = &checked.agent.spec;
        let now = Timestamp::from_system_time(SystemTime::now());
        let shown = Self {
            id: spec.id.to_string(),
            namespace: spec.namespace.to_string(),
            executor: spec.executor.kind.as_str(),
            checked: true,
            status: AgentStatus::Reachable,
            last_checked: (spec.executor.kind.as_str() != "builtin").then_some(now),
            detail: None,
        };
        match &checked.outcome {
            CheckOutcome::Reachable { remark } => Self { detail: remark.clone(), ..shown },
            CheckOutcome::Unreachable { reason } => {
                Self { status: AgentStatus::Unreachable, detail: Some(reason.clone()), ..shown }
            }
            CheckOutcome::NotChecked { reason } => {
                let known = hub.agent_contact(&checked.agent);
                let last_checked = known.last_checked();
                Self { checked: false, status: known.status, last_checked, detail: Some(reason.clone()), ..shown }
            }
        }
    }

    fn row(&self) -> Value {
        json!({
            "id": self.id,
            "namespace": self.namespace,
            "executor": self.executor,
            "checked": self.checked,
            "status": self.status,
            "last_checked": self.last_checked,
            "detail": self.detail,
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let result = match (self.checked, self.last_checked) {
            (true, _) => self.status.to_string(),
            (false, Some(at)) => format!("not checked ({} {})", self.status, ago(at, now)),
            (false, None) => "not checked".to_owned(),
        };
        vec![self.id.clone(), self.executor.to_owned(), result, self.detail.clone().unwrap_or_default()]
    }
}
