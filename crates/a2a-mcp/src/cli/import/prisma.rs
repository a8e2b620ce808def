//! `import prisma`: moving over from the older TypeScript system.

mod expression;
mod file;
mod rows;
mod workflow;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use a2a_core::ids::{Actor, AgentId, AgentKey};
use a2a_core::limits::WORKFLOW_STEPS_MAX;
use a2a_core::memory::experience::Personality;
use a2a_engine::config::Config;
use a2a_engine::prisma::{self, PrismaDatabase, PrismaError, Row};

use super::super::documents::{self, Source, Wanted};
use super::super::error::{CliError, Exit};
use super::super::{open, output};
use super::Options;
use super::report::{self, Found, Item, Loading};

const FILES: Wanted = Wanted { extensions: &["json"], named: "*-memories.json" };
/// How often work that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Workflows whose steps are held at once.
const WORKFLOWS_AT_ONCE: usize = 10;

const NOT_RUN: &str = "a workflow becomes a definition that can be started; its earlier run stays behind";
const NO_PRIORITY: &str = "each run has a priority of its own (runs start --priority)";
const NO_SERVER: &str = "it ran inside that system; a server whose tools agents are to call is named in the operator's file \
     (A2A_CONFIG)";
const NO_MESSAGE: &str = "messages between agents are not kept here";
const NO_TRAIT: &str = "there is no such trait here";
const NO_WORKFLOW: &str = "their workflow is not there";
const NO_TOOL: &str = "neither agent nor tool are known";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The URL of its database (postgres://...), or files and folders of its memories (AGENT-memories.json)
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    #[command(flatten)]
    options: Options,
}

enum Opened {
    Database(Box<PrismaDatabase>),
    Path(PathBuf),
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let started = Instant::now();
    let mut sources = Vec::with_capacity(args.sources.len());
    for (index, source) in args.sources.iter().enumerate() {
        sources.push(if source.contains("://") {
            // Ordering: before our own database is as much as made. The URL may hold a password, and is not repeated.
            let opened = prisma::open(source).await;
            Opened::Database(Box::new(opened.map_err(|error| unread(&format!("source {}", index + 1), error))?))
        } else {
            Opened::Path(source.into())
        });
    }
    let hub = open(config).await?;
    let mut loading = Loading::new(&hub, "prisma", args.options, actor);
    let mut read = Ok(());
    for source in sources {
        read = match source {
            Opened::Database(source) => database(&source, &mut loading).await,
            Opened::Path(path) => files(path, &mut loading).await,
        };
        if read.is_err() {
            break;
        }
    }
    let (summary, exit) = (loading.summary, loading.exit);
    let place = hub.config().location.to_string();
    hub.close().await;
    report::tell(&summary, args.options, &place, started)?;
    if read.is_err() {
        output::note("stopped before the end; repeat the command to go on");
    }
    read.map(|()| exit)
}

/// Unlike an error of our own database, which `doctor` looks into.
fn unread(place: &str, error: PrismaError) -> CliError {
    CliError::Failed(format!("{place}: {error}"))
}

/// How far a table is.
struct Progress {
    last: Instant,
    table: &'static str,
    total: u64,
    done: u64,
}

impl Progress {
    async fn of(source: &PrismaDatabase, table: &'static str) -> Result<Self, PrismaError> {
        Ok(Self { last: Instant::now(), table, total: source.count(table).await?, done: 0 })
    }

    fn add(&mut self, rows: usize) {
        self.done += u64::try_from(rows).unwrap_or(0);
        if self.last.elapsed() > PROGRESS_INTERVAL {
            self.last = Instant::now();
            output::note(&format!("{}: {} of {}", self.table, self.done, self.total));
        }
    }
}

async fn database(source: &PrismaDatabase, loading: &mut Loading<'_>) -> Result<(), CliError> {
    let unread = |error| unread(source.place(), error);
    agents(source, loading).await?;
    personalities(source, loading).await?;
    workflows(source, loading).await?;
    let left = source.steps_left().await.map_err(unread)?;
    loading.skip("WorkflowStep", left, NO_WORKFLOW);
    memories(source, loading).await?;
    tool_usage(source, loading).await?;
    for (table, reason) in [("MCPServer", NO_SERVER), ("AgentCommunication", NO_MESSAGE)] {
        let rows = source.count(table).await.map_err(unread)?;
        loading.skip(table, rows, reason);
    }
    Ok(())
}

/// Brings in a part, and stops when there is no use in going on.
async fn add(loading: &mut Loading<'_>, found: Found) -> Result<(), CliError> {
    loading.add(found).await?;
    loading.tell_part();
    match loading.exit {
        Exit::Database => Err(CliError::Failed("the database takes nothing at the moment".to_owned())),
        _ => Ok(()),
    }
}

/// The rows of a table, page by page.
struct Pages<'a> {
    source: &'a PrismaDatabase,
    without: &'static [&'static str],
    progress: Progress,
    last: Option<String>,
}

impl<'a> Pages<'a> {
    async fn of(
        source: &'a PrismaDatabase,
        table: &'static str,
        without: &'static [&'static str],
    ) -> Result<Self, CliError> {
        let progress = Progress::of(source, table).await.map_err(|error| unread(source.place(), error))?;
        Ok(Self { source, without, progress, last: None })
    }

    async fn next(&mut self) -> Result<Option<Vec<Row>>, CliError> {
        let page = self.source.page(self.progress.table, self.without, self.last.as_deref()).await;
        let rows = page.map_err(|error| unread(self.source.place(), error))?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.last = Some(last.key.clone());
        self.progress.add(rows.len());
        Ok(Some(rows))
    }
}

fn place(table: &str, key: &str) -> String {
    format!("{table} {key}")
}

async fn agents(source: &PrismaDatabase, loading: &mut Loading<'_>) -> Result<(), CliError> {
    let mut pages = Pages::of(source, "Agent", &[]).await?;
    // The ids there by those here: different ones may become the same.
    let mut ids: HashMap<String, String> = HashMap::new();
    while let Some(rows) = pages.next().await? {
        let mut found = Found::default();
        for row in rows {
            let document = rows::agent(&row).and_then(|(id, document)| match ids.get(&id) {
                Some(same) => Err(format!("its id becomes {id:?} here, as that of {same:?} does")),
                None => {
                    ids.insert(id, row.key.clone());
                    Ok(document)
                }
            });
            found.agents.push(Source { place: place("Agent", &row.key), document });
        }
        add(loading, found).await?;
    }
    Ok(())
}

async fn personalities(source: &PrismaDatabase, loading: &mut Loading<'_>) -> Result<(), CliError> {
    let mut pages = Pages::of(source, "AgentPersonality", &[]).await?;
    while let Some(rows) = pages.next().await? {
        for row in rows {
            adopt(loading, place("AgentPersonality", &row.key), rows::personality(&row)).await?;
        }
        loading.tell_part();
    }
    let verbose = source.count_set("AgentPersonality", "verbosity").await;
    let verbose = verbose.map_err(|error| unread(source.place(), error))?;
    loading.left_out("AgentPersonality.verbosity", verbose, NO_TRAIT);
    Ok(())
}

/// Gives an agent the personality that it had.
async fn adopt(
    loading: &mut Loading<'_>,
    place: String,
    read: Result<(String, Personality), String>,
) -> Result<(), CliError> {
    const KIND: &str = "personality";
    let read = read.and_then(|(agent, personality)| match AgentId::parse(&agent) {
        Ok(id) => Ok((AgentKey { namespace: loading.hub.default_namespace().clone(), id }, personality)),
        Err(error) => Err(format!("agentId {error}")),
    });
    let (agent, personality) = match read {
        Ok(read) => read,
        Err(reason) => {
            loading.item(Item::new(place, KIND, "failed", Some(reason)));
            return Ok(());
        }
    };
    let (there, is_taken) = if loading.options.dry_run {
        let there = loading.hub.agent_experience(&agent).await?;
        (there.as_ref().map(|there| there.personality), there.is_none())
    } else {
        let (there, is_taken) = loading.hub.personality_adopt(agent, personality, loading.actor).await?;
        (Some(there.personality), is_taken)
    };
    loading.item(if is_taken {
        Item::new(place, KIND, "created", None)
    } else if there == Some(personality) {
        Item::new(place, KIND, "unchanged", None)
    } else {
        Item::new(place, KIND, "skipped", Some("the agent has experiences of its own here, which stay".to_owned()))
    });
    Ok(())
}

async fn workflows(source: &PrismaDatabase, loading: &mut Loading<'_>) -> Result<(), CliError> {
    let mut pages = Pages::of(source, "Workflow", &["result"]).await?;
    while let Some(rows) = pages.next().await? {
        for rows in rows.chunks(WORKFLOWS_AT_ONCE) {
            let ids: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
            // One more than allowed tells that there are more.
            let steps = source.steps(&ids, WORKFLOW_STEPS_MAX + 1, &["output"]).await;
            let steps = steps.map_err(|error| unread(source.place(), error))?;
            let mut found = Found::default();
            for row in rows {
                let steps: Vec<&Row> = steps.iter().filter(|step| step.key == row.key).collect();
                let mut left = workflow::Left::default();
                let document = workflow::document(row, &steps, &mut left);
                loading.left_out("Workflow.priority", u64::from(left.has_priority), NO_PRIORITY);
                loading.left_out("Workflow.status", u64::from(left.has_run), NOT_RUN);
                for column in left.columns {
                    loading.left_out(&column, 1, "this column is not known here");
                }
                found.workflows.push(Source { place: place("Workflow", &row.key), document });
            }
            add(loading, found).await?;
        }
    }
    Ok(())
}

async fn memories(source: &PrismaDatabase, loading: &mut Loading<'_>) -> Result<(), CliError> {
    // Vectors are made anew, by the model that is used here.
    let mut pages = Pages::of(source, "Memory", &["embedding"]).await?;
    while let Some(rows) = pages.next().await? {
        let read = |row: &Row| Source { place: place("Memory", &row.key), document: rows::memory(row) };
        let memories = rows.iter().map(read).collect();
        add(loading, Found { memories, ..Found::default() }).await?;
    }
    Ok(())
}

/// What each agent did with each tool becomes a memory of that; single calls are not kept.
async fn tool_usage(source: &PrismaDatabase, loading: &mut Loading<'_>) -> Result<(), CliError> {
    let unread = |error| unread(source.place(), error);
    let mut told = 0;
    let mut last: Option<String> = None;
    loop {
        let after = last.as_deref().and_then(|last| last.split_once('\t'));
        let rows = source.tool_usage(after).await.map_err(unread)?;
        let Some(row) = rows.last() else { break };
        last = Some(row.key.clone());
        let mut memories = Vec::with_capacity(rows.len());
        for row in &rows {
            let document = rows::tool_usage(row).map(|(calls, document)| {
                told += calls;
                document
            });
            memories.push(Source { place: place("ToolUsage", &row.key.replace('\t', " ")), document });
        }
        add(loading, Found { memories, ..Found::default() }).await?;
    }
    let rows = source.count("ToolUsage").await.map_err(unread)?;
    loading.skip("ToolUsage", rows.saturating_sub(told), NO_TOOL);
    Ok(())
}

async fn files(path: PathBuf, loading: &mut Loading<'_>) -> Result<(), CliError> {
    let mut read = Vec::new();
    documents::inputs(&[path], FILES, &mut |input| read.push(file::read(input)));
    for file::Memories { place, skipped, memories, personality, left } in read {
        let mut found = Found { memories, ..Found::default() };
        found.skipped.extend(skipped.map(|reason| (place.clone(), reason)));
        add(loading, found).await?;
        for (what, reason) in left {
            loading.left_out(what, 1, reason);
        }
        if let Some(personality) = personality {
            adopt(loading, format!("{place}.personality"), personality).await?;
            loading.tell_part();
        }
    }
    Ok(())
}
