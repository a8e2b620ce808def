//! `memory list`, `memory search` and `memory turns`.

use a2a_core::limits::{PAGE_ROWS_MAX, QUERY_CHARS_MAX, SESSION_TURNS_MAX};
use a2a_core::memory::Memory;
use a2a_core::memory::recall::{MemoryListQuery, Ranking, RecallQuery, TurnQuery};
use a2a_engine::config::Config;
use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};
use super::{FilterArgs, HEADS, cells, now, usage};

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Memories to show at most
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
    /// Show all memories
    #[arg(long)]
    all: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct SearchArgs {
    /// A question, words, an id or a key
    #[arg(required = true, value_name = "QUERY")]
    query: Vec<String>,
    #[command(flatten)]
    filters: FilterArgs,
    /// Memories to show at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=PAGE_ROWS_MAX as u64))]
    limit: u64,
    /// Go on after an earlier search, with the cursor it ended with and the same query
    #[arg(long)]
    cursor: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct TurnsArgs {
    /// The session of the conversation
    session: String,
    /// Turns to show at most, the latest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=SESSION_TURNS_MAX as u64))]
    limit: u64,
    /// Show those before an earlier page, with the cursor it ended with
    #[arg(long)]
    cursor: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A page for programs. Numbers are written as they are, which a JSON value in between would widen.
#[derive(Serialize)]
struct Page<'a> {
    total: usize,
    next_cursor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memories: Option<Vec<&'a Memory>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<Vec<&'a Memory>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<Vec<Hit<'a>>>,
}

impl<'a> Page<'a> {
    fn new(total: usize, next_cursor: Option<&'a str>) -> Self {
        Self { total, next_cursor, memories: None, turns: None, hits: None }
    }
}

/// A memory that was found.
#[derive(Serialize)]
struct Hit<'a> {
    #[serde(flatten)]
    memory: &'a Memory,
    score: f32,
    reason: &'a str,
}

pub(super) async fn list(args: ListArgs, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let mut query = MemoryListQuery {
        namespace: hub.default_namespace().clone(),
        filters: args.filters.into(),
        limit: if args.all { PAGE_ROWS_MAX } else { usize::try_from(args.limit).unwrap_or(PAGE_ROWS_MAX) },
        cursor: args.cursor,
        now: now(),
    };
    let mut page = hub.memory_list(&query).await.map_err(usage)?;
    let mut memories = std::mem::take(&mut page.memories);
    while args.all && page.next_cursor.is_some() {
        query.cursor = page.next_cursor.take();
        page = hub.memory_list(&query).await.map_err(usage)?;
        memories.append(&mut page.memories);
    }
    hub.close().await;
    if args.json {
        let rows = memories.iter().map(|memory| &**memory).collect();
        output::json(&Page { memories: Some(rows), ..Page::new(page.total, page.next_cursor.as_deref()) })?;
        return Ok(Exit::Done);
    }
    if memories.is_empty() {
        output::note(if page.total > 0 {
            "there are no more memories"
        } else {
            "there are no such memories; store one with `a2a-mcp memory store TEXT`, or ask for less"
        });
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = memories.iter().map(|memory| cells(memory)).collect();
    output::text(&table::render(&HEADS, &rows, table::width()))?;
    if let Some(cursor) = page.next_cursor {
        let (shown, total) = (rows.len(), page.total);
        output::note(&format!("{shown} of {total} memories; go on with --cursor {cursor}, or take --all"));
    }
    Ok(Exit::Done)
}

pub(super) async fn search(args: SearchArgs, config: Config) -> Result<Exit, CliError> {
    let text = args.query.join(" ");
    if text.trim().is_empty() {
        return Err(CliError::Usage("the query is empty; ask for something, such as \"when do we deploy\"".to_owned()));
    }
    if text.chars().count() > QUERY_CHARS_MAX {
        return Err(CliError::Usage(format!("the query is longer than {QUERY_CHARS_MAX} characters; shorten it")));
    }
    let hub = open(config).await?;
    let query = RecallQuery {
        namespace: hub.default_namespace().clone(),
        query: text,
        filters: args.filters.into(),
        limit: usize::try_from(args.limit).unwrap_or(PAGE_ROWS_MAX),
        cursor: args.cursor,
        now: now(),
        ranking: Ranking::default(),
        meaning: None,
    };
    let page = hub.memory_recall(&query).await;
    hub.close().await;
    let page = page.map_err(usage)?;
    if args.json {
        let hits = page.hits.iter();
        let hits = hits.map(|hit| Hit { memory: &hit.memory, score: hit.score, reason: &hit.reason }).collect();
        output::json(&Page { hits: Some(hits), ..Page::new(page.total, page.next_cursor.as_deref()) })?;
        return Ok(Exit::Done);
    }
    if page.hits.is_empty() {
        output::note("nothing fits; use other words, or see everything with `a2a-mcp memory list`");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = page
        .hits
        .iter()
        .map(|hit| {
            let memory = &hit.memory;
            let trust = memory.provenance.trust.to_string();
            vec![format!("{:.2}", hit.score), memory.id.to_string(), trust, memory.spec.content.to_string()]
        })
        .collect();
    let width = table::width();
    let table = table::render(&["SCORE", "ID", "TRUST", "CONTENT, AND WHY IT WAS FOUND"], &rows, width);
    let mut lines = table.lines();
    let mut text = lines.next().map_or_else(String::new, |heads| format!("{heads}\n"));
    for (line, hit) in lines.zip(&page.hits) {
        let why = table::cut(&format!("       {}", table::one_line(&hit.reason)), width);
        text.push_str(&format!("{line}\n{why}\n"));
    }
    output::text(&text)?;
    if let Some(cursor) = page.next_cursor {
        output::note(&format!("{} of {} memories; go on with --cursor {cursor}", rows.len(), page.total));
    }
    Ok(Exit::Done)
}

pub(super) async fn turns(args: TurnsArgs, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let query = TurnQuery {
        namespace: hub.default_namespace().clone(),
        session: args.session,
        limit: usize::try_from(args.limit).unwrap_or(SESSION_TURNS_MAX),
        cursor: args.cursor,
        now: now(),
    };
    let page = hub.memory_turns(&query).await;
    hub.close().await;
    let page = page.map_err(usage)?;
    if args.json {
        let rows = page.turns.iter().map(|memory| &**memory).collect();
        output::json(&Page { turns: Some(rows), ..Page::new(page.total, page.next_cursor.as_deref()) })?;
        return Ok(Exit::Done);
    }
    if page.turns.is_empty() {
        output::note("the session has no turns; they are memories of type conversation with this session");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = page
        .turns
        .iter()
        .map(|memory| {
            let spec = &memory.spec;
            let said_by = match (&spec.user, &spec.agent) {
                (Some(user), _) => user.to_string(),
                (None, Some(agent)) => agent.to_string(),
                (None, None) => memory.provenance.author.to_string(),
            };
            vec![memory.created_at.to_string(), memory.id.to_string(), said_by, spec.content.to_string()]
        })
        .collect();
    output::text(&table::render(&["WHEN", "ID", "BY", "CONTENT"], &rows, table::width()))?;
    if let Some(cursor) = page.next_cursor {
        output::note(&format!("{} of {} turns; see earlier ones with --cursor {cursor}", rows.len(), page.total));
    }
    Ok(Exit::Done)
}
