//! `agents list` and `agents search`.

use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::agent_check::{AgentContact, AgentStatus, ago};
use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::registry::{Hit, ListQuery, SearchQuery};
use a2a_core::time::Timestamp;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};
use super::FilterArgs;

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Only agents in which each of these words occurs
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// Agents to show at most
    #[arg(
        long,
        default_value_t = 50,
        value_parser = clap::value_parser!(u64).range(1..=PAGE_ROWS_MAX as u64),
        conflicts_with = "all"
    )]
    limit: u64,
    /// Go on after an earlier list, with the cursor it ended with and the same conditions
    #[arg(long, conflicts_with = "all")]
    cursor: Option<String>,
    /// Show all agents
    #[arg(long)]
    all: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct SearchArgs {
    /// An id, a name, or words that say what is needed
    #[arg(required = true, value_name = "QUERY")]
    query: Vec<String>,
    #[command(flatten)]
    filters: FilterArgs,
    /// Find disabled agents too
    #[arg(long)]
    any_state: bool,
    /// Agents to show at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=PAGE_ROWS_MAX as u64))]
    limit: u64,
    /// Go on after an earlier search, with the cursor it ended with and the same query
    #[arg(long)]
    cursor: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// An agent in a list, for programs.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    namespace: &'a str,
    name: &'a str,
    version: &'a str,
    category: &'a str,
    tags: Vec<&'a str>,
    capabilities: Vec<&'a str>,
    description: &'a str,
    enabled: bool,
    deprecated: bool,
    revision: i64,
    updated_at: String,
    updated_by: &'a str,
    status: AgentStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_checked: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn new(agent: &'a Agent, contact: &'a AgentContact) -> Self {
        let spec = &agent.spec;
        Self {
            id: spec.id.as_str(),
            namespace: spec.namespace.as_str(),
            name: &spec.name,
            version: &spec.version,
            category: &spec.category,
            tags: spec.tags.iter().map(|tag| &**tag).collect(),
            capabilities: spec.capabilities.iter().map(|capability| &*capability.name).collect(),
            description: &spec.description,
            enabled: spec.enabled,
            deprecated: spec.deprecated.is_some(),
            revision: agent.revision,
            updated_at: agent.updated_at.to_string(),
            updated_by: agent.updated_by.as_str(),
            status: contact.status,
            last_checked: contact.last_checked(),
            status_detail: contact.detail(),
            score: None,
            reason: None,
        }
    }

    fn of_hit(hit: &'a Hit, contact: &'a AgentContact) -> Self {
        Self { score: Some(hit.score), reason: Some(&hit.reason), ..Self::new(&hit.agent, contact) }
    }
}

fn state(agent: &Agent) -> String {
    match (agent.spec.enabled, &agent.spec.deprecated) {
        (false, _) => "disabled".to_owned(),
        (true, None) => "enabled".to_owned(),
        (true, Some(_)) => "deprecated".to_owned(),
    }
}

/// What is known of whether an agent can be reached, and how old that is.
fn status(contact: &AgentContact, now: Timestamp) -> String {
    match contact.last_checked() {
        Some(at) => format!("{} {}", contact.status, ago(at, now)),
        None => contact.status.to_string(),
    }
}

/// A cursor or a condition that is not valid is a matter of the command line.
fn usage(error: HubError) -> CliError {
    match error {
        HubError::Invalid(problems) => CliError::Usage(problems.to_string()),
        other => other.into(),
    }
}

pub(super) async fn list(args: ListArgs, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let mut query = ListQuery {
        namespace: hub.default_namespace().clone(),
        filters: args.filters.into(),
        text: args.text,
        limit: if args.all { PAGE_ROWS_MAX } else { usize::try_from(args.limit).unwrap_or(PAGE_ROWS_MAX) },
        cursor: args.cursor,
        ..ListQuery::default()
    };
    let mut page = hub.agent_list(&query).await.map_err(usage)?;
    let mut agents = std::mem::take(&mut page.agents);
    while args.all && page.next_cursor.is_some() {
        query.cursor = page.next_cursor.take();
        page = hub.agent_list(&query).await.map_err(usage)?;
        agents.append(&mut page.agents);
    }
    let contacts = hub.agent_contacts(&agents);
    hub.close().await;
    if args.json {
        let rows: Vec<Row<'_>> =
            agents.iter().zip(&contacts).map(|(agent, contact)| Row::new(agent, contact)).collect();
        output::json(&serde_json::json!({"total": page.total, "next_cursor": page.next_cursor, "agents": rows}))?;
        return Ok(Exit::Done);
    }
    if agents.is_empty() {
        output::note(if page.total > 0 {
            "there are no more agents"
        } else {
            "there are no such agents; load some with `a2a-mcp agents deploy PATH`, or ask for less"
        });
        return Ok(Exit::Done);
    }
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let rows: Vec<Vec<String>> = agents
        .iter()
        .zip(&contacts)
        .map(|(agent, contact)| {
            let spec = &agent.spec;
            vec![
                spec.id.to_string(),
                spec.version.to_string(),
                spec.category.to_string(),
                state(agent),
                status(contact, now),
                agent.revision.to_string(),
                spec.description.to_string(),
            ]
        })
        .collect();
    let heads = ["ID", "VERSION", "CATEGORY", "STATE", "STATUS", "REVISION", "DESCRIPTION"];
    output::text(&table::render(&heads, &rows, table::width()))?;
    if let Some(cursor) = page.next_cursor {
        output::note(&format!(
            "{} of {} agents; go on with --cursor {cursor}, or take --all",
            agents.len(),
            page.total
        ));
    }
    Ok(Exit::Done)
}

pub(super) async fn search(args: SearchArgs, config: Config) -> Result<Exit, CliError> {
    let text = args.query.join(" ");
    if text.trim().is_empty() {
        return Err(CliError::Usage("the query is empty; say what is needed, such as \"slow query\"".to_owned()));
    }
    let hub = open(config).await?;
    let query = SearchQuery {
        namespace: hub.default_namespace().clone(),
        query: text,
        filters: args.filters.into(),
        include_disabled: args.any_state,
        limit: usize::try_from(args.limit).unwrap_or(PAGE_ROWS_MAX),
        cursor: args.cursor,
        ..SearchQuery::default()
    };
    let page = hub.agent_search(&query).await.map_err(usage)?;
    let found: Vec<Arc<Agent>> = page.hits.iter().map(|hit| hit.agent.clone()).collect();
    let contacts = hub.agent_contacts(&found);
    hub.close().await;
    if args.json {
        let rows: Vec<Row<'_>> =
            page.hits.iter().zip(&contacts).map(|(hit, contact)| Row::of_hit(hit, contact)).collect();
        output::json(&serde_json::json!({"total": page.total, "next_cursor": page.next_cursor, "hits": rows}))?;
        return Ok(Exit::Done);
    }
    if page.hits.is_empty() {
        output::note("no agent fits; use other or fewer words, or see them all with `a2a-mcp agents list`");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = page
        .hits
        .iter()
        .map(|hit| {
            let spec = &hit.agent.spec;
            vec![format!("{:.2}", hit.score), spec.id.to_string(), spec.description.to_string()]
        })
        .collect();
    let width = table::width();
    let table = table::render(&["SCORE", "ID", "DESCRIPTION, AND WHY IT WAS FOUND"], &rows, width);
    let mut lines = table.lines();
    let mut text = lines.next().map_or_else(String::new, |heads| format!("{heads}\n"));
    for (line, hit) in lines.zip(&page.hits) {
        let why = table::cut(&format!("       {}", table::one_line(&hit.reason)), width);
        text.push_str(&format!("{line}\n{why}\n"));
    }
    output::text(&text)?;
    if let Some(cursor) = page.next_cursor {
        output::note(&format!("{} of {} agents; go on with --cursor {cursor}", rows.len(), page.total));
    }
    Ok(Exit::Done)
}
