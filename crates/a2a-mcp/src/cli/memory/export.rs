//! `memory export`.

use std::sync::Arc;

use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::memory::Memory;
use a2a_core::memory::recall::MemoryListQuery;
use a2a_engine::config::Config;
use a2a_engine::hub::Hub;
use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::{open, output};
use super::server_memory::Graph;
use super::{FilterArgs, Format, now, usage};

/// What is written at once.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to write them
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    #[command(flatten)]
    filters: FilterArgs,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    write(args.format, args.filters, config).await
}

/// Writes memories in a format.
pub(in crate::cli) async fn write(format: Format, filters: FilterArgs, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let memories = all(&hub, filters).await;
    hub.close().await;
    let memories = memories?;
    let mut lines = Lines::default();
    match format {
        Format::Jsonl => {
            for memory in &memories {
                lines.write(&**memory)?;
            }
        }
        Format::ServerMemory => {
            let mut graph = Graph::default();
            memories.iter().for_each(|memory| graph.add(memory));
            for line in graph.lines() {
                lines.write(&line)?;
            }
        }
    }
    lines.flush()?;
    output::note(&format!("{} memories", memories.len()));
    Ok(Exit::Done)
}

/// All that pass, the oldest first. They are in memory anyway; this holds references to them.
pub(in crate::cli) async fn all(hub: &Hub, filters: FilterArgs) -> Result<Vec<Arc<Memory>>, CliError> {
    let mut query = MemoryListQuery {
        namespace: hub.default_namespace().clone(),
        filters: filters.into(),
        limit: PAGE_ROWS_MAX,
        cursor: None,
        now: now(),
    };
    let mut memories = Vec::new();
    loop {
        let page = hub.memory_list(&query).await.map_err(usage)?;
        memories.extend(page.memories);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            memories.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            return Ok(memories);
        }
    }
}

/// Writes lines in chunks.
#[derive(Default)]
struct Lines {
    waiting: String,
}

impl Lines {
    fn write(&mut self, line: &impl Serialize) -> Result<(), CliError> {
        let json =
            serde_json::to_string(line).map_err(|error| CliError::Failed(format!("can't be written: {error}")))?;
        output::push_json(&mut self.waiting, &json);
        if self.waiting.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CliError> {
        output::text(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}
