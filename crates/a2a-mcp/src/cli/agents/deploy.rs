//! `agents deploy`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::{Agent, AgentSpec};
use a2a_core::error::{Problem, Problems};
use a2a_core::ids::{Actor, AgentKey, Namespace};
use a2a_core::limits::{BATCH_ITEMS_MAX, PAGE_ROWS_MAX, QUEUE_BYTES_MAX};
use a2a_core::registry::ListQuery;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{DeployOptions, DeployedAgent, Durability, Hub, WriteStatus};
use serde::Serialize;
use serde_json::Value;

use super::super::documents::{self, Source};
use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output};

/// Bytes of one call: a quarter of what may wait for the writer, which other callers use too.
const BATCH_BYTES_MAX: usize = QUEUE_BYTES_MAX / 4;
/// How often work that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often a call is repeated that the writer had no room for. It says each time when to come back.
const OVERLOADED_TRIES: u32 = 30;
/// Agents that are named one by one; of more, only the counts are told.
const NAMED_MAX: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders (*.yaml, *.yml, *.json); - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Deploy all agents or none; at most 1000 at once
    #[arg(long)]
    atomic: bool,
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
}

/// A document that is valid by itself.
struct Valid {
    index: usize,
    key: AgentKey,
    spec: AgentSpec,
    document: Value,
    bytes: usize,
}

#[derive(Serialize)]
struct Summary {
    created: usize,
    updated: usize,
    unchanged: usize,
    failed: usize,
    dry_run: bool,
    durability: Durability,
    agents: Vec<Item>,
}

/// The items of a deploy, in the order of the documents.
pub(in crate::cli) struct Report {
    pub(in crate::cli) items: Vec<Item>,
    pub(in crate::cli) exit: Exit,
}

/// Deploys each document for itself, or tells what a deploy would do.
pub(in crate::cli) async fn each(hub: &Hub, sources: Vec<Source>, dry_run: bool, actor: &Actor) -> Report {
    let (mut report, valid) = check(sources, hub.default_namespace());
    if dry_run {
        compare(hub, &valid, &mut report).await;
    } else {
        deploy(hub, valid, false, actor, &mut report).await;
    }
    report
}

impl Report {
    fn fail(&mut self, index: usize, code: &'static str, message: String, exit: Exit) {
        if let Some(item) = self.items.get_mut(index) {
            item.status = "failed";
            item.code = Some(code);
            item.message = Some(message);
        }
        if self.exit != Exit::Database {
            self.exit = exit;
        }
    }

    fn fail_with(&mut self, index: usize, error: &HubError) {
        self.fail(index, error.code(), error.to_string(), exit_of(error));
        if let (HubError::Invalid(Problems(problems)), Some(item)) = (error, self.items.get_mut(index)) {
            item.problems.clone_from(problems);
        }
    }

    fn done(&mut self, index: usize, status: WriteStatus, revision: Option<i64>) {
        if let Some(item) = self.items.get_mut(index) {
            item.status = match status {
                WriteStatus::Created => "created",
                WriteStatus::Updated => "updated",
                WriteStatus::Unchanged => "unchanged",
            };
            item.revision = revision;
        }
    }

    fn count(&self, status: &str) -> usize {
        self.items.iter().filter(|item| item.status == status).count()
    }
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let started = Instant::now();
    let (mut report, valid) = check(documents::read(&args.paths), &config.namespace);
    let invalid = report.items.len() - valid.len();
    if args.atomic && valid.len() > BATCH_ITEMS_MAX {
        let count = valid.len();
        let text =
            format!("--atomic takes at most {BATCH_ITEMS_MAX} agents and these are {count}; deploy them in parts");
        return Err(CliError::Usage(text));
    }
    if args.atomic && invalid > 0 {
        for valid in &valid {
            report.fail_with(valid.index, &HubError::Aborted);
        }
        return tell(report, &args, Durability::Accepted, "nothing", started);
    }
    if valid.is_empty() {
        return tell(report, &args, Durability::Accepted, "nothing", started);
    }
    let hub = open(config).await?;
    if args.dry_run {
        compare(&hub, &valid, &mut report).await;
    } else {
        deploy(&hub, valid, args.atomic, actor, &mut report).await;
    }
    let place = hub.config().location.to_string();
    let durability = hub.durability();
    hub.close().await;
    tell(report, &args, durability, &place, started)
}

/// Reads the documents before anything is written, so that all problems are known at once.
fn check(sources: Vec<Source>, namespace: &Namespace) -> (Report, Vec<Valid>) {
    let mut report = Report { items: Vec::with_capacity(sources.len()), exit: Exit::Done };
    let mut valid: Vec<Valid> = Vec::with_capacity(sources.len());
    let mut first: HashMap<AgentKey, usize> = HashMap::new();
    for (index, Source { place, document }) in sources.into_iter().enumerate() {
        let id = document.as_ref().ok().and_then(|document| document.get("id")).and_then(Value::as_str);
        let id = id.map(str::to_owned);
        report.items.push(Item {
            source: place.clone(),
            id,
            status: "waiting",
            revision: None,
            code: None,
            message: None,
            problems: Vec::new(),
        });
        let document = match document {
            Ok(document) => document,
            Err(reason) => {
                report.fail(index, "unreadable", reason, Exit::Failed);
                continue;
            }
        };
        let spec = match AgentSpec::from_document(&document, &place, namespace) {
            Ok(spec) => spec,
            Err(problems) => {
                report.fail_with(index, &problems.into());
                continue;
            }
        };
        let key = spec.key();
        if let Some(first) = first.get(&key) {
            let same = report.items.get(*first).map_or_else(String::new, |item| item.source.clone());
            let message = format!("{:?} stands in {same} too; give each agent its own id", key.to_string());
            report.fail_with(index, &Problems::one(format!("{place}.id"), message).into());
            continue;
        }
        first.insert(key.clone(), index);
        let bytes = document.to_string().len();
        valid.push(Valid { index, key, spec, document, bytes });
    }
    (report, valid)
}

/// What a deploy would do.
async fn compare(hub: &Hub, valid: &[Valid], report: &mut Report) {
    let mut by_namespace: BTreeMap<&Namespace, Vec<&Valid>> = BTreeMap::new();
    for valid in valid {
        by_namespace.entry(&valid.key.namespace).or_default().push(valid);
    }
    // Pages of a list and not one agent at a time, because for an id that is missing similar ones would be searched.
    for (namespace, valid) in by_namespace {
        for part in valid.chunks(PAGE_ROWS_MAX) {
            let query = ListQuery {
                namespace: namespace.clone(),
                ids: part.iter().map(|valid| valid.key.id.to_string()).collect(),
                limit: PAGE_ROWS_MAX,
                ..ListQuery::default()
            };
            let agents = match hub.agent_list(&query).await {
                Ok(page) => page.agents,
                Err(error) => {
                    part.iter().for_each(|valid| report.fail_with(valid.index, &error));
                    continue;
                }
            };
            let there: HashMap<&str, &Arc<Agent>> =
                agents.iter().map(|agent| (agent.spec.id.as_str(), agent)).collect();
            for Valid { index, key, spec, .. } in part {
                match there.get(key.id.as_str()) {
                    None => report.done(*index, WriteStatus::Created, None),
                    Some(agent) if agent.spec == *spec => {
                        report.done(*index, WriteStatus::Unchanged, Some(agent.revision));
                    }
                    Some(agent) => report.done(*index, WriteStatus::Updated, Some(agent.revision)),
                }
            }
        }
    }
}

async fn deploy(hub: &Hub, valid: Vec<Valid>, atomic: bool, actor: &Actor, report: &mut Report) {
    let total = valid.len();
    let mut progress = Instant::now();
    let mut done = 0;
    let mut waiting = valid.into_iter().peekable();
    while waiting.peek().is_some() {
        let mut indexes = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let fits = |bytes: usize, count: usize, next: &Valid| {
            atomic || count == 0 || (count < BATCH_ITEMS_MAX && bytes + next.bytes <= BATCH_BYTES_MAX)
        };
        while let Some(next) = waiting.next_if(|next| fits(bytes, batch.len(), next)) {
            bytes += next.bytes;
            indexes.push(next.index);
            batch.push(next.document);
        }
        done += batch.len();
        match deploy_batch(hub, &batch, atomic, actor).await {
            Ok(results) => {
                for (index, result) in indexes.into_iter().zip(results) {
                    match result {
                        Ok(deployed) => report.done(index, deployed.status, Some(deployed.revision)),
                        Err(error) => report.fail_with(index, &error),
                    }
                }
            }
            Err(error) => {
                indexes.into_iter().for_each(|index| report.fail_with(index, &error));
                // The database is away, so that each further call would wait in vain as well.
                for rest in waiting.by_ref() {
                    report.fail_with(rest.index, &HubError::Unavailable);
                }
            }
        }
        if done < total && progress.elapsed() > PROGRESS_INTERVAL {
            progress = Instant::now();
            output::note(&format!("{done} of {total} agents"));
        }
    }
}

async fn deploy_batch(
    hub: &Hub,
    batch: &[Value],
    atomic: bool,
    actor: &Actor,
) -> Result<Vec<Result<DeployedAgent, HubError>>, HubError> {
    let options = DeployOptions { atomic, ..DeployOptions::default() };
    let mut tries = 0;
    loop {
        tries += 1;
        match hub.agent_deploy(batch, "agents", &options, actor).await {
            Err(HubError::Overloaded { retry_after }) if tries < OVERLOADED_TRIES => {
                tokio::time::sleep(retry_after).await;
            }
            result => return result,
        }
    }
}

fn tell(report: Report, args: &Args, durability: Durability, place: &str, started: Instant) -> Result<Exit, CliError> {
    let exit = report.exit;
    let summary = Summary {
        created: report.count("created"),
        updated: report.count("updated"),
        unchanged: report.count("unchanged"),
        failed: report.count("failed"),
        dry_run: args.dry_run,
        durability,
        agents: report.items,
    };
    if args.json {
        output::json(&summary)?;
        return Ok(exit);
    }
    for item in summary.agents.iter().filter(|item| item.status == "failed") {
        let message = item.message.as_deref().unwrap_or_default();
        if item.problems.is_empty() {
            output::note(&format!("error: {}: {message}", item.source));
        }
        // These name the place themselves.
        for problem in &item.problems {
            output::note(&format!("error: {problem}"));
        }
    }
    let mut text = String::new();
    let changed = |item: &&Item| matches!(item.status, "created" | "updated");
    if summary.created + summary.updated <= NAMED_MAX {
        for item in summary.agents.iter().filter(changed) {
            text.push_str(&format!("{} {}\n", item.status, item.id.as_deref().unwrap_or_default()));
        }
    }
    let Summary { created, updated, unchanged, failed, .. } = summary;
    let written = created + updated;
    let end = match (args.dry_run, durability) {
        (true, _) => "; this was a dry run, nothing was written".to_owned(),
        _ if written == 0 => "; nothing was written".to_owned(),
        (_, Durability::Committed) => format!("; committed to {place} in {:.1} s", started.elapsed().as_secs_f64()),
        (_, Durability::Accepted) => "; in memory only".to_owned(),
    };
    text.push_str(&format!("{created} created, {updated} updated, {unchanged} unchanged, {failed} failed{end}\n"));
    output::text(&text)?;
    Ok(exit)
}
