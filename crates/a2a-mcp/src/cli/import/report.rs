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
/// Items that a JSON document holds of an import in parts.
const ITEMS_MAX: usize = 1_000;

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
    /// Items that are not among these, because there were too many; those that failed were told on standard error.
    #[serde(skip_serializing_if = "is_zero")]
    items_left_out: usize,
    /// What has no place here, in rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
}

/// What has no place here.
#[derive(Serialize)]
struct LeftOut {
    what: String,
    rows: u64,
    reason: &'static str,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Summary {
    /// Whether anything came in, or failed.
    pub(super) fn is_news(&self) -> bool {
        self.migrated + self.failed > 0
    }
}

/// An import under way, of which the parts come one after the other.
pub(super) struct Loading<'a> {
    pub(super) hub: &'a Hub,
    pub(super) actor: &'a Actor,
    pub(super) options: Options,
    pub(super) summary: Summary,
    pub(super) exit: Exit,
}

impl<'a> Loading<'a> {
    pub(super) fn new(hub: &'a Hub, format: &'static str, options: Options, actor: &'a Actor) -> Self {
        let summary = Summary {
            format,
            migrated: 0,
            skipped: 0,
            failed: 0,
            dry_run: options.dry_run,
            durability: hub.durability(),
            items: Vec::new(),
            items_left_out: 0,
            left_out: Vec::new(),
        };
        Self { hub, actor, options, summary, exit: Exit::Done }
    }

    /// Brings in what was found: agents first, because workflows name them.
    ///
    /// # Errors
    /// When the database is away in the middle of the memories; the command can be repeated.
    pub(super) async fn add(&mut self, found: Found) -> Result<(), HubError> {
        let (hub, dry_run, actor) = (self.hub, self.options.dry_run, self.actor);
        found.skipped.into_iter().for_each(|(source, reason)| self.item(skipped(source, reason)));
        let agents = deploy::each(hub, found.agents, dry_run, actor).await;
        self.worst(agents.exit);
        agents.items.into_iter().for_each(|item| self.item(agent(item)));
        let (workflows, ended) = save::each(hub, found.workflows, dry_run, actor).await;
        self.worst(ended);
        workflows.into_iter().for_each(|item| self.item(workflow(item)));
        let places: Vec<String> = found.memories.iter().map(|source| source.place.clone()).collect();
        let (memories, ended) = memories::each(hub, found.memories, dry_run, actor).await?;
        self.worst(ended);
        self.summary.migrated += memories.stored;
        self.summary.skipped += memories.known + memories.skipped;
        self.summary.failed += memories.failed;
        self.summary.items.extend(memories.not_stored.into_iter().map(|memory| not_stored(memory, &places)));
        Ok(())
    }

    /// Takes in what came of one thing.
    pub(super) fn item(&mut self, item: Item) {
        match item.status {
            "created" | "updated" => self.summary.migrated += 1,
            "failed" => {
                self.worst(Exit::Failed);
                self.summary.failed += 1;
            }
            _ => self.summary.skipped += 1,
        }
        self.summary.items.push(item);
    }

    /// Takes in that rows have no place here, or that something of them has none.
    pub(super) fn left_out(&mut self, what: &str, rows: u64, reason: &'static str) {
        match self.summary.left_out.iter_mut().find(|left| left.what == what) {
            Some(left) => left.rows += rows,
            None if rows > 0 => self.summary.left_out.push(LeftOut { what: what.to_owned(), rows, reason }),
            None => {}
        }
    }

    /// Counts whole rows as skipped that have no place here.
    pub(super) fn skip(&mut self, what: &str, rows: u64, reason: &'static str) {
        self.summary.skipped += usize::try_from(rows).unwrap_or(usize::MAX);
        self.left_out(what, rows, reason);
    }

    /// Tells what came of a part, so that no more is kept of it than can be shown at the end.
    pub(super) fn tell_part(&mut self) {
        let summary = &mut self.summary;
        if self.options.json {
            let more = summary.items.split_off(summary.items.len().min(ITEMS_MAX));
            summary.items_left_out += more.len();
            tell_items(&more);
            return;
        }
        tell_items(&summary.items);
        summary.items.retain(Item::is_change);
        summary.items.truncate(NAMED_MAX + 1);
        summary.items.iter_mut().for_each(|item| item.warnings.clear());
    }

    fn worst(&mut self, other: Exit) {
        if self.exit != Exit::Database && other != Exit::Done {
            self.exit = other;
        }
    }
}

/// Brings in all that was found.
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
    let mut loading = Loading::new(hub, format, options, actor);
    loading.add(found).await?;
    Ok((loading.summary, loading.exit))
}

impl Item {
    /// What came of something that is neither agent nor workflow nor memory.
    pub(super) fn new(source: String, kind: &'static str, status: &'static str, message: Option<String>) -> Self {
        let (problems, warnings) = (Vec::new(), Vec::new());
        Self { source, kind, id: None, status, revision: None, code: None, message, problems, warnings }
    }

    fn is_change(&self) -> bool {
        matches!(self.status, "created" | "updated")
    }
}

fn skipped(source: String, reason: String) -> Item {
    Item::new(source, "file", "skipped", Some(reason))
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

fn tell_items(items: &[Item]) {
    for item in items {
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
}

/// Tells it.
///
/// # Errors
/// When standard output can't be written.
pub(super) fn tell(summary: &Summary, options: Options, place: &str, started: Instant) -> Result<(), CliError> {
    if options.json {
        return Ok(output::json(summary)?);
    }
    tell_items(&summary.items);
    for LeftOut { what, rows, reason } in &summary.left_out {
        output::note(&format!("left out: {what}, {rows} rows: {reason}"));
    }
    let changed: Vec<&Item> = summary.items.iter().filter(|item| item.is_change()).collect();
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
