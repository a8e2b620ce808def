//! `a2a-mcp seed`: fills a new installation, and never takes back what somebody has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use a2a_core::agent::{Agent, AgentSpec};
use a2a_core::ids::{Actor, Namespace};
use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::memory::Trust;
use a2a_core::registry::ListQuery;
use a2a_core::time::Timestamp;
use a2a_core::workflow::definition::Definition;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{
    DeployOptions, Durability, Hub, MemoryInput, MemoryStoreOptions, SaveOptions, StoredStatus, Told,
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::Value;

use super::error::{CliError, Exit, exit_of};
use super::{open, output, shipped, table};

/// Who makes the changes: what has another author since was changed by somebody, and is left alone.
const ACTOR: &str = "a2a-mcp seed";
/// As many agents as a large team has a thousand times.
const SCALE_MAX: usize = 100_000;
/// Writes under way at once. The writer commits together what has come together.
const AT_ONCE: usize = 256;
/// How often a write is repeated that the writer had no room for.
const OVERLOADED_TRIES: u32 = 30;
/// How often work that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Items that are named one by one; of more, only the counts are told.
const NAMED_MAX: usize = 20;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Also generate N agents (tag generated), to see how a large registry behaves
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    scale: usize,
    /// Tell what would happen, without writing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What came of the items of one kind.
#[derive(Debug, Default, Serialize)]
struct Kind {
    created: usize,
    updated: usize,
    /// Already there as they ship.
    unchanged: usize,
    /// Somebody has changed or removed them.
    kept: usize,
    failed: usize,
    /// Those that were kept or have failed, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

/// What to do about one item.
enum Plan {
    Create,
    Update(i64),
    Unchanged,
    Kept(String),
}

enum Done {
    Created,
    Updated,
    Unchanged,
    Kept(String),
    Failed(HubError),
}

impl Kind {
    fn add(&mut self, id: &str, done: Done) {
        let mut note = |text: String| {
            if self.notes.len() < NAMED_MAX {
                self.notes.push(format!("{id}: {text}"));
            }
        };
        match done {
            Done::Created => self.created += 1,
            Done::Updated => self.updated += 1,
            Done::Unchanged => self.unchanged += 1,
            Done::Kept(reason) => {
                note(reason);
                self.kept += 1;
            }
            // Somebody was there in the same moment, whose change is kept.
            Done::Failed(HubError::Conflict { .. }) => {
                note("somebody has just changed it".to_owned());
                self.kept += 1;
            }
            Done::Failed(error) => {
                note(error.to_string());
                self.failed += 1;
                self.exit = Some(match self.exit {
                    Some(Exit::Database) => Exit::Database,
                    _ => exit_of(&error),
                });
            }
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let counts = [self.created, self.updated, self.unchanged, self.kept, self.failed];
        std::iter::once(name.to_owned()).chain(counts.map(|count| count.to_string())).collect()
    }
}

#[derive(Serialize)]
struct Summary {
    dry_run: bool,
    durability: Durability,
    agents: Kind,
    workflows: Kind,
    memories: Kind,
}

pub(super) async fn run(args: &Args, config: Config) -> Result<Exit, CliError> {
    if args.scale > SCALE_MAX {
        return Err(CliError::Usage(format!("--scale is {}; the most is {SCALE_MAX}", args.scale)));
    }
    let started = Instant::now();
    let hub = open(config).await?;
    let actor = Actor::new(ACTOR);
    let seed = Seed { hub: &hub, actor: &actor, dry_run: args.dry_run };
    let seeded = seed.all(args.scale).await;
    let (place, durability) = (hub.config().location.to_string(), hub.durability());
    hub.close().await;
    let (agents, workflows, memories) = seeded?;
    let summary = Summary { dry_run: args.dry_run, durability, agents, workflows, memories };
    tell(&summary, args, &place, started)?;
    let kinds = [&summary.agents, &summary.workflows, &summary.memories];
    let exits: Vec<Exit> = kinds.iter().filter_map(|kind| kind.exit).collect();
    Ok(exits.iter().copied().find(|exit| *exit == Exit::Database).or(exits.first().copied()).unwrap_or(Exit::Done))
}

struct Seed<'a> {
    hub: &'a Hub,
    actor: &'a Actor,
    dry_run: bool,
}

impl Seed<'_> {
    async fn all(&self, scale: usize) -> Result<(Kind, Kind, Kind), CliError> {
        let documents = |read: Result<Vec<Value>, String>| read.map_err(CliError::Failed);
        let mut agents = Kind::default();
        let shipped: Vec<Value> = [documents(shipped::echo())?, documents(shipped::agents())?].concat();
        self.agents(&shipped, true, &mut agents).await?;
        let mut progress = Instant::now();
        for first in (1..=scale).step_by(PAGE_ROWS_MAX) {
            let last = scale.min(first + PAGE_ROWS_MAX - 1);
            let documents: Vec<Value> = (first..=last).map(shipped::generated).collect();
            self.agents(&documents, false, &mut agents).await?;
            if last < scale && progress.elapsed() > PROGRESS_INTERVAL {
                progress = Instant::now();
                output::note(&format!("{last} of {scale} generated agents"));
            }
        }
        let workflows = self.workflows(&documents(shipped::workflows())?).await?;
        let memories = self.memories(&documents(shipped::memories())?).await?;
        Ok((agents, workflows, memories))
    }

    /// Those that are `missed` when they are gone were removed by somebody; generated ones are wanted anew.
    async fn agents(&self, documents: &[Value], missed: bool, kind: &mut Kind) -> Result<(), CliError> {
        let namespace = self.hub.default_namespace().clone();
        for part in documents.chunks(PAGE_ROWS_MAX) {
            let ids: Vec<String> = part.iter().map(id_of).collect();
            let query = ListQuery { namespace: namespace.clone(), ids, limit: PAGE_ROWS_MAX, ..ListQuery::default() };
            let page = self.hub.agent_list(&query).await?;
            let there: HashMap<&str, &Arc<Agent>> =
                page.agents.iter().map(|agent| (agent.spec.id.as_str(), agent)).collect();
            let there = &there;
            let mut done = stream::iter(part)
                .map(|document| async move {
                    let id = id_of(document);
                    let there = there.get(id.as_str()).copied();
                    (id, self.agent(document, there, missed).await)
                })
                .buffer_unordered(AT_ONCE);
            while let Some((id, done)) = done.next().await {
                kind.add(&id, done);
            }
            if kind.exit == Some(Exit::Database) {
                // Each further write would wait in vain as well.
                break;
            }
        }
        Ok(())
    }

    async fn agent(&self, document: &Value, there: Option<&Arc<Agent>>, missed: bool) -> Done {
        let spec = match AgentSpec::from_document(document, "agent", self.hub.default_namespace()) {
            Ok(spec) => spec,
            Err(problems) => return Done::Failed(problems.into()),
        };
        let plan = match there {
            Some(agent) if agent.spec == spec => Plan::Unchanged,
            Some(agent) => self.changed(agent.revision, &agent.updated_by),
            None if !missed => Plan::Create,
            None => match self.hub.agent_history(None, spec.id.as_str(), None, 1).await {
                Ok(history) => match history.first() {
                    Some(last) if last.removed => Plan::Kept(format!("{} has removed it", last.agent.updated_by)),
                    _ => Plan::Create,
                },
                Err(HubError::NotFound { .. }) => Plan::Create,
                Err(error) => return Done::Failed(error),
            },
        };
        self.carry_out(plan, async |expected| {
            let options = DeployOptions { expected_revision: expected, ..DeployOptions::default() };
            let mut tries = 0;
            loop {
                tries += 1;
                match self.hub.agent_deploy(std::slice::from_ref(document), "agents", &options, self.actor).await {
                    Err(HubError::Overloaded { retry_after }) if tries < OVERLOADED_TRIES => {
                        tokio::time::sleep(retry_after).await;
                    }
                    result => return result?.into_iter().next().unwrap_or(Err(HubError::Aborted)).map(drop),
                }
            }
        })
        .await
    }

    fn changed(&self, revision: i64, by: &Actor) -> Plan {
        if by == self.actor { Plan::Update(revision) } else { Plan::Kept(format!("{by} has changed it")) }
    }

    async fn carry_out(&self, plan: Plan, write: impl AsyncFnOnce(Option<i64>) -> Result<(), HubError>) -> Done {
        let (expected, done) = match plan {
            Plan::Unchanged => return Done::Unchanged,
            Plan::Kept(reason) => return Done::Kept(reason),
            // 0 is the revision of what is not there.
            Plan::Create => (0, Done::Created),
            Plan::Update(revision) => (revision, Done::Updated),
        };
        if self.dry_run {
            return done;
        }
        match write(Some(expected)).await {
            Ok(()) => done,
            Err(error) => Done::Failed(error),
        }
    }

    async fn workflows(&self, documents: &[Value]) -> Result<Kind, CliError> {
        let mut kind = Kind::default();
        for document in documents {
            kind.add(&id_of(document), self.workflow(document).await);
        }
        Ok(kind)
    }

    async fn workflow(&self, document: &Value) -> Done {
        let namespace: &Namespace = self.hub.default_namespace();
        let spec = match Definition::from_document(document, "workflow", namespace) {
            Ok(definition) => definition.spec,
            Err(problems) => return Done::Failed(problems.into()),
        };
        let history = match self.hub.workflow_history(None, spec.id.as_str(), None, 1).await {
            Ok(history) => history.into_iter().next().filter(|last| last.workflow.spec.id == spec.id),
            Err(HubError::NotFound { .. } | HubError::Ambiguous { .. }) => None,
            Err(error) => return Done::Failed(error),
        };
        let plan = match history {
            None => Plan::Create,
            Some(last) if last.removed_at.is_some() => {
                Plan::Kept(format!("{} has removed it", last.workflow.updated_by))
            }
            Some(last) if last.workflow.spec == spec => Plan::Unchanged,
            Some(last) => self.changed(last.workflow.revision, &last.workflow.updated_by),
        };
        self.carry_out(plan, async |expected_revision| {
            let options = SaveOptions { expected_revision, ..SaveOptions::default() };
            self.hub.workflow_save(document, "workflow", &options, self.actor).await.map(drop)
        })
        .await
    }

    async fn memories(&self, documents: &[Value]) -> Result<Kind, CliError> {
        let mut kind = Kind::default();
        let told = Some(Told { at: Timestamp::from_system_time(SystemTime::now()), is_known: false });
        let inputs: Vec<MemoryInput<'_>> =
            documents.iter().map(|document| MemoryInput { document, path: "memory", told }).collect();
        let options =
            MemoryStoreOptions { namespace: None, redact: false, trust: Trust::Operator, derived_from: Vec::new() };
        let done: Vec<Done> = if self.dry_run {
            let checked = self.hub.memory_check_each(&inputs, &options).await?;
            let done = |checked: Result<_, _>| match checked {
                Ok(a2a_engine::hub::CheckedMemory { is_known: true, .. }) => Done::Unchanged,
                Ok(_) => Done::Created,
                Err(error) => Done::Failed(error),
            };
            checked.into_iter().map(done).collect()
        } else {
            let stored = self.hub.memory_store_each(&inputs, &options, self.actor).await?;
            let done = |stored: Result<a2a_engine::hub::StoredMemory, _>| match stored {
                Ok(stored) if stored.status == StoredStatus::Stored => Done::Created,
                Ok(_) => Done::Unchanged,
                Err(error) => Done::Failed(error),
            };
            stored.items.into_iter().map(done).collect()
        };
        for (document, done) in documents.iter().zip(done) {
            let content = document.get("content").and_then(Value::as_str).unwrap_or_default();
            kind.add(&table::cut(content, Some(40)), done);
        }
        Ok(kind)
    }
}

fn id_of(document: &Value) -> String {
    document.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn tell(summary: &Summary, args: &Args, place: &str, started: Instant) -> Result<(), CliError> {
    if args.json {
        return Ok(output::json(summary)?);
    }
    let kinds = [("agents", &summary.agents), ("workflows", &summary.workflows), ("memories", &summary.memories)];
    let rows: Vec<Vec<String>> = kinds.iter().map(|(name, kind)| kind.row(name)).collect();
    let mut text = table::render(&["", "CREATED", "UPDATED", "UNCHANGED", "KEPT", "FAILED"], &rows, None);
    for note in kinds.iter().flat_map(|(_, kind)| &kind.notes) {
        text.push_str(&format!("  {}\n", table::one_line(note)));
    }
    let written = kinds.iter().any(|(_, kind)| kind.created + kind.updated > 0);
    text.push_str(&match (args.dry_run, summary.durability) {
        (true, _) => "this was a dry run, nothing was written\n".to_owned(),
        _ if !written => format!("nothing was written; {place} has all of it\n"),
        (_, Durability::Committed) => format!("committed to {place} in {:.1} s\n", started.elapsed().as_secs_f64()),
        (_, Durability::Accepted) => "in memory only\n".to_owned(),
    });
    if summary.agents.created > 0 && !args.dry_run && summary.durability == Durability::Committed {
        text.push_str(
            "personalities: every agent starts neutral, and changes with how its work ends and what people say of it\n\
             next: a2a-mcp agents search \"why is this query slow\"\n",
        );
    }
    output::text(&text)?;
    Ok(())
}
