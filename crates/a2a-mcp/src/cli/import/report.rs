//! What came of an import: the same for every format.

use std::time::Instant;

use a2a_core::error::Problem;
use a2a_core::ids::Actor;
use a2a_engine::error::HubError;
use a2a_engine::hub::{Durability, Hub};
use serde::Serialize;

use super::super::agents::deploy;
use super::super::documents::Source;
use super::super::error::{CliError, Exit};
use super::super::memory::import as memories;
use super::super::output;
use super::super::workflows::save;
use super::Options;

/// Items that are named one by one on a terminal; of more, only the counts are told. Failures are always named.
const NAMED_MAX: usize = 20;

/// What was found where the import reads, sorted by what it is.
#[derive(Default)]
pub(super) struct Found {
    pub(super) agents: Vec<Source>,
    pub(super) workflows: Vec<Source>,
    pub(super) memories: Vec<Source>,
    /// What is left out for a reason that is no error: its place and the reason.
    pub(super) skipped: Vec<(String, String)>,
}

/// What came of one thing.
#[derive(Serialize)]
pub(super) struct Item {
    source: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// created, updated, unchanged, skipped, failed or removed.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What is wrong, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Summary {
    format: &'static str,
    /// Created or updated.
    migrated: usize,
    /// Known already, or left out for a reason that is no error.
    skipped: usize,
    failed: usize,
    dry_run: bool,
    durability: Durability,
    /// All agents and workflows, and the memories that were not stored.
    items: Vec<Item>,
}

impl Summary {
    /// Whether anything came in, or failed.
    pub(super) fn is_news(&self) -> bool {
        self.migrated + self.failed > 0
    }
}

/// Brings in what was found: agents first, because workflows name them.
///
/// # Errors
/// When the database is away in the middle of the memories; the command can be repeated.
pub(super) async fn load(
    hub: &Hub,
    format: &'static str,
    found: Found,
    options: Options,
    actor: &Actor,
) -> Result<(Summary, Exit), HubError> {
    let mut exit = Exit::Done;
    let mut items: Vec<Item> = found.skipped.into_iter().map(|(source, reason)| skipped(source, reason)).collect();
    let agents = deploy::each(hub, found.agents, options.dry_run, actor).await;
    worst(&mut exit, agents.exit);
    items.extend(agents.items.into_iter().map(agent));
    let (workflows, ended) = save::each(hub, found.workflows, options.dry_run, actor).await;
    worst(&mut exit, ended);
    items.extend(workflows.into_iter().map(workflow));
    let places: Vec<String> = found.memories.iter().map(|source| source.place.clone()).collect();
    let (memories, ended) = memories::each(hub, found.memories, options.dry_run, actor).await?;
    worst(&mut exit, ended);
    items.extend(memories.not_stored.into_iter().map(|memory| not_stored(memory, &places)));
    let count = |wanted: &[&str]| items.iter().filter(|i| i.kind != "memory" && wanted.contains(&i.status)).count();
    let summary = Summary {
        format,
        migrated: count(&["created", "updated"]) + memories.stored,
        skipped: count(&["unchanged", "skipped"]) + memories.known + memories.skipped,
        failed: count(&["failed"]) + memories.failed,
        dry_run: options.dry_run,
        durability: hub.durability(),
        items,
    };
    Ok((summary, exit))
}

fn worst(exit: &mut Exit, other: Exit) {
    if *exit != Exit::Database && other != Exit::Done {
        *exit = other;
    }
}

fn skipped(source: String, reason: String) -> Item {
    Item {
        source,
        kind: "file",
        id: None,
        status: "skipped",
        revision: None,
        code: None,
        message: Some(reason),
        problems: Vec::new(),
        warnings: Vec::new(),
    }
}

fn agent(item: deploy::Item) -> Item {
    let deploy::Item { source, id, status, revision, code, message, problems } = item;
    Item { source, kind: "agent", id, status, revision, code, message, problems, warnings: Vec::new() }
}

fn workflow(item: save::Item) -> Item {
    let save::Item { source, id, status, revision, code, message, problems, warnings } = item;
    Item { source, kind: "workflow", id, status, revision, code, message, problems, warnings }
}

fn not_stored(memory: memories::NotStored, places: &[String]) -> Item {
    let memories::NotStored { line, status, code, message, problems } = memory;
    let source = line.checked_sub(1).and_then(|index| places.get(index)).cloned().unwrap_or_default();
    Item {
        source,
        kind: "memory",
        id: None,
        status,
        revision: None,
        code: Some(code),
        message: Some(message),
        problems,
        warnings: Vec::new(),
    }
}

/// Tells it.
///
/// # Errors
/// When standard output can't be written.
pub(super) fn tell(summary: &Summary, options: Options, place: &str, started: Instant) -> Result<(), CliError> {
    if options.json {
        return Ok(output::json(summary)?);
    }
    for item in &summary.items {
        let reason = item.message.as_deref().unwrap_or_default();
        match item.status {
            // Problems name the place themselves.
            "failed" if item.problems.is_empty() => output::note(&format!("error: {}: {reason}", item.source)),
            "skipped" => output::note(&format!("skipped: {}: {reason}", item.source)),
            _ => {}
        }
        item.problems.iter().for_each(|problem| output::note(&format!("error: {problem}")));
        item.warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    }
    let changed: Vec<&Item> = summary.items.iter().filter(|i| matches!(i.status, "created" | "updated")).collect();
    let mut text = String::new();
    if changed.len() <= NAMED_MAX {
        for item in changed {
            let id = item.id.as_deref().unwrap_or_default();
            text.push_str(&format!("{} {} {id}\n", item.status, item.kind));
        }
    }
    let Summary { migrated, skipped, failed, .. } = summary;
    let end = match (summary.dry_run, summary.durability) {
        (true, _) => "; this was a dry run, nothing was written".to_owned(),
        _ if *migrated == 0 => "; nothing was written".to_owned(),
        (_, Durability::Committed) => format!("; committed to {place} in {:.1} s", started.elapsed().as_secs_f64()),
        (_, Durability::Accepted) => "; in memory only".to_owned(),
    };
    text.push_str(&format!("{migrated} migrated, {skipped} skipped, {failed} failed{end}\n"));
    Ok(output::text(&text)?)
}
