//! `agents show`.

use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::agent_check::{AgentContact, ago};
use a2a_core::ids::Revision;
use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::time::Timestamp;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{AgentHistoryEntry, Hub};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit};
use super::super::{open, output, table, yaml};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The agent's id, or the unique beginning of it
    id: String,
    /// Show this earlier revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..), conflicts_with = "history")]
    revision: Option<Revision>,
    /// List the revisions, the newest first
    #[arg(long)]
    history: bool,
    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let found = find(&hub, &args).await;
    hub.close().await;
    match found? {
        Found::Agent(agent, contact) => document(&agent, contact.as_ref(), args.json)?,
        Found::History(entries) => history(&entries, args.json)?,
    }
    Ok(Exit::Done)
}

enum Found {
    /// With what is known of whether it can be reached, unless it is an earlier revision.
    Agent(Arc<Agent>, Option<AgentContact>),
    History(Vec<AgentHistoryEntry>),
}

async fn find(hub: &Hub, args: &Args) -> Result<Found, CliError> {
    let current = hub.agent_get(None, &args.id).await;
    if !args.history && args.revision.is_none() {
        let agent = current?;
        let contact = hub.agent_contact(&agent);
        return Ok(Found::Agent(agent, Some(contact)));
    }
    // A removed agent still has a history, under its whole id.
    let id = match current {
        Ok(agent) => agent.spec.id.to_string(),
        Err(HubError::NotFound { .. }) => args.id.clone(),
        Err(error) => return Err(error.into()),
    };
    let Some(revision) = args.revision else {
        let mut entries: Vec<AgentHistoryEntry> = Vec::new();
        loop {
            let before = entries.last().map(|entry| entry.agent.revision);
            let mut page = hub.agent_history(None, &id, before, PAGE_ROWS_MAX).await?;
            let is_last = page.len() < PAGE_ROWS_MAX;
            entries.append(&mut page);
            if is_last {
                return Ok(Found::History(entries));
            }
        }
    };
    let newest = hub.agent_history(None, &id, None, 1).await?;
    let page = hub.agent_history(None, &id, Some(revision.saturating_add(1)), 1).await?;
    match page.into_iter().find(|entry| entry.agent.revision == revision) {
        Some(entry) if entry.removed => Err(CliError::Failed(format!(
            "revision {revision} of {id:?} is its removal and has no document; see `a2a-mcp agents show {id} --history`"
        ))),
        Some(entry) => Ok(Found::Agent(entry.agent, None)),
        None => {
            let newest = newest.first().map_or(0, |entry| entry.agent.revision);
            Err(CliError::Failed(format!(
                "there is no revision {revision} of {id:?}, the newest is {newest}; see `a2a-mcp agents show {id} --history`"
            )))
        }
    }
}

fn document(agent: &Agent, contact: Option<&AgentContact>, as_json: bool) -> Result<(), CliError> {
    let document = serde_json::to_value(&agent.spec)
        .map_err(|error| CliError::Failed(format!("{:?} can't be shown: {error}", agent.spec.id)))?;
    match document {
        Value::Object(fields) if !as_json => {
            let mut head = format!(
                "# revision {}, changed {} by {}\n",
                agent.revision,
                agent.updated_at,
                table::one_line(agent.updated_by.as_str())
            );
            if let Some(contact) = contact {
                head.push_str(&format!("# {}\n", status(contact)));
            }
            output::text(&(head + &yaml::agent(&fields)))?;
        }
        document => output::json(&document)?,
    }
    Ok(())
}

/// What is known of whether it can be reached, in one line. JSON has no comments: there the document stands alone.
fn status(contact: &AgentContact) -> String {
    let mut text = contact.status.to_string();
    if let Some(at) = contact.last_checked() {
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        text.push_str(&format!(", last checked {} ({at})", ago(at, now)));
    }
    if let Some(detail) = contact.detail() {
        text.push_str(&format!(": {}", table::one_line(detail)));
    }
    text
}

fn history(entries: &[AgentHistoryEntry], as_json: bool) -> Result<(), CliError> {
    let what = |entry: &AgentHistoryEntry| if entry.removed { "removed" } else { "document" };
    if as_json {
        let rows: Vec<Value> = entries
            .iter()
            .map(|entry| {
                json!({
                    "revision": entry.agent.revision,
                    "kind": what(entry),
                    "version": entry.agent.spec.version,
                    "updated_at": entry.agent.updated_at,
                    "updated_by": entry.agent.updated_by,
                })
            })
            .collect();
        output::json(&json!({"revisions": rows}))?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.agent.revision.to_string(),
                what(entry).to_owned(),
                entry.agent.spec.version.to_string(),
                entry.agent.updated_at.to_string(),
                entry.agent.updated_by.to_string(),
            ]
        })
        .collect();
    output::text(&table::render(&["REVISION", "KIND", "VERSION", "WHEN", "BY"], &rows, table::width()))?;
    Ok(())
}
