//! `workflows save`.

use std::collections::HashMap;
use std::path::PathBuf;

use a2a_core::error::{Problem, Problems};
use a2a_core::ids::{Actor, Namespace, WorkflowKey};
use a2a_core::workflow::definition::Definition;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{Durability, Hub, SaveOptions, WriteStatus};
use serde::Serialize;
use serde_json::Value;

use super::super::documents::{self, Source};
use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output};
use crate::workflow_preview;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders (*.yaml, *.yml, *.json); - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Check the documents and tell what would happen, without writing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What came of one document.
#[derive(Serialize)]
pub(in crate::cli) struct Item {
    pub(in crate::cli) source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) id: Option<String>,
    pub(in crate::cli) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) message: Option<String>,
    /// What is wrong with the document, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) problems: Vec<Problem>,
    /// What would keep a run from starting now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) warnings: Vec<String>,
}

impl Item {
    fn new(source: String, document: &Result<Value, String>) -> Self {
        let id = document.as_ref().ok().and_then(|document| document.get("id")).and_then(Value::as_str);
        Self {
            source,
            id: id.map(str::to_owned),
            status: "failed",
            revision: None,
            code: None,
            message: None,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn fail(&mut self, error: HubError) -> Exit {
        self.status = "failed";
        self.code = Some(error.code());
        self.message = Some(error.to_string());
        let exit = exit_of(&error);
        if let HubError::Invalid(problems) = error {
            self.problems = problems.0;
        }
        exit
    }

    fn done(&mut self, status: WriteStatus, revision: Option<i64>, warnings: Vec<String>) {
        self.status = match status {
            WriteStatus::Created => "created",
            WriteStatus::Updated => "updated",
            WriteStatus::Unchanged => "unchanged",
        };
        self.revision = revision;
        self.warnings = warnings;
    }
}

#[derive(Serialize)]
struct Summary {
    created: usize,
    updated: usize,
    unchanged: usize,
    failed: usize,
    dry_run: bool,
    durability: Durability,
    workflows: Vec<Item>,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let namespace = config.namespace.clone();
    let (mut items, valid, mut exit) = check(documents::read(&args.paths), &namespace);
    let mut durability = Durability::Accepted;
    if !valid.is_empty() {
        let hub = open(config).await?;
        durability = hub.durability();
        save_all(&hub, valid, args.dry_run, &mut items, &mut exit, actor).await;
        hub.close().await;
    }
    tell(items, &args, durability, exit)
}

/// Saves each document for itself, or tells what saving would do.
pub(in crate::cli) async fn each(hub: &Hub, sources: Vec<Source>, dry_run: bool, actor: &Actor) -> (Vec<Item>, Exit) {
    let (mut items, valid, mut exit) = check(sources, hub.default_namespace());
    save_all(hub, valid, dry_run, &mut items, &mut exit, actor).await;
    (items, exit)
}

async fn save_all(
    hub: &Hub,
    valid: Vec<(usize, Value)>,
    dry_run: bool,
    items: &mut [Item],
    exit: &mut Exit,
    actor: &Actor,
) {
    for (index, document) in valid {
        let Some(item) = items.get_mut(index) else { continue };
        let failed = save(hub, dry_run, &document, item, actor).await;
        if *exit != Exit::Database {
            *exit = failed.unwrap_or(*exit);
        }
    }
}

/// Reads the documents before anything is written, so that all problems are known at once.
fn check(sources: Vec<Source>, namespace: &Namespace) -> (Vec<Item>, Vec<(usize, Value)>, Exit) {
    let mut items: Vec<Item> = Vec::with_capacity(sources.len());
    let mut valid = Vec::new();
    let mut first: HashMap<WorkflowKey, String> = HashMap::new();
    let mut exit = Exit::Done;
    for (index, Source { place, document }) in sources.into_iter().enumerate() {
        let mut item = Item::new(place.clone(), &document);
        let checked = match document {
            Err(reason) => {
                item.code = Some("unreadable");
                item.message = Some(reason);
                None
            }
            Ok(document) => {
                let definition = Definition::from_document(&document, &place, namespace);
                let key = definition.map(|definition| definition.spec.key()).and_then(|key| match first.get(&key) {
                    None => Ok(key),
                    Some(same) => {
                        let message = format!("{:?} stands in {same} too; give each its own id", key.id);
                        Err(Problems::one(format!("{place}.id"), message))
                    }
                });
                match key {
                    Ok(key) => {
                        first.insert(key, place);
                        Some(document)
                    }
                    Err(problems) => {
                        item.fail(problems.into());
                        None
                    }
                }
            }
        };
        match checked {
            Some(document) => valid.push((index, document)),
            None => exit = Exit::Failed,
        }
        items.push(item);
    }
    (items, valid, exit)
}

/// Saves one; says how the command ends when it failed.
async fn save(hub: &Hub, dry_run: bool, document: &Value, item: &mut Item, actor: &Actor) -> Option<Exit> {
    let place = item.source.clone();
    if dry_run {
        return match workflow_preview::preview(hub, document, &place, None).await {
            Ok(preview) => {
                item.done(preview.status, preview.revision, preview.warnings);
                None
            }
            Err(error) => Some(item.fail(error)),
        };
    }
    match hub.workflow_save(document, &place, &SaveOptions::default(), actor).await {
        Ok(saved) => {
            item.done(saved.status, Some(saved.revision), saved.warnings);
            None
        }
        Err(error) => Some(item.fail(error)),
    }
}

fn tell(items: Vec<Item>, args: &Args, durability: Durability, exit: Exit) -> Result<Exit, CliError> {
    let count = |status: &str| items.iter().filter(|item| item.status == status).count();
    let summary = Summary {
        created: count("created"),
        updated: count("updated"),
        unchanged: count("unchanged"),
        failed: count("failed"),
        dry_run: args.dry_run,
        durability,
        workflows: items,
    };
    if args.json {
        output::json(&summary)?;
        return Ok(exit);
    }
    let mut text = String::new();
    for item in &summary.workflows {
        if item.status == "failed" && item.problems.is_empty() {
            output::note(&format!("error: {}: {}", item.source, item.message.as_deref().unwrap_or_default()));
        }
        // These name the place themselves.
        for problem in &item.problems {
            output::note(&format!("error: {problem}"));
        }
        for warning in &item.warnings {
            output::note(&format!("warning: {warning}"));
        }
        if matches!(item.status, "created" | "updated") {
            text.push_str(&format!("{} {}\n", item.status, item.id.as_deref().unwrap_or_default()));
        }
    }
    let Summary { created, updated, unchanged, failed, .. } = summary;
    let end = match (args.dry_run, durability) {
        (true, _) => "; this was a dry run, nothing was written",
        _ if created + updated == 0 => "; nothing was written",
        (_, Durability::Committed) => "; committed",
        (_, Durability::Accepted) => "; in memory only",
    };
    text.push_str(&format!("{created} created, {updated} updated, {unchanged} unchanged, {failed} failed{end}\n"));
    output::text(&text)?;
    Ok(exit)
}
