//! `memory forget`.

use std::sync::Arc;

use a2a_core::ids::Actor;
use a2a_core::limits::BATCH_ITEMS_MAX;
use a2a_core::memory::Memory;
use a2a_core::memory::recall::MemoryFilters;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{ForgetQuery, Hub};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output, table};
use super::{FilterArgs, HEADS, cells};

/// Memories that are shown of those that would go.
const SHOWN_MAX: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ids of memories, or the unique beginnings of them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filters: FilterArgs,
    /// Erase them for good, also those that are forgotten already
    #[arg(long)]
    purge: bool,
    /// Do it: forget what passes the conditions, or purge
    #[arg(long)]
    yes: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What was forgotten, or would be.
#[derive(Default)]
struct Gone {
    memories: Vec<Arc<Memory>>,
    failed: Vec<(String, HubError)>,
    /// How many more would go.
    more: usize,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let filters = MemoryFilters::from(args.filters);
    let has_filters = filters.is_narrow();
    match (args.ids.is_empty(), has_filters) {
        // --superseded and --expired alone would let everything go.
        (true, false) => {
            return Err(CliError::Usage("say what to forget: ids, or conditions such as --session".to_owned()));
        }
        (false, true) => return Err(CliError::Usage("give ids or conditions, not both".to_owned())),
        _ => {}
    }
    if args.purge && !args.yes && !has_filters {
        let text = "--purge erases memories for good, which can't be undone; add --yes to do it";
        return Err(CliError::Usage(text.to_owned()));
    }
    let dry_run = has_filters && !args.yes;
    let query = ForgetQuery { purge: args.purge, dry_run, ..ForgetQuery::default() };
    let hub = open(config).await?;
    let gone = if has_filters {
        by_filters(&hub, ForgetQuery { filters: Some(filters), ..query }, actor).await
    } else {
        by_ids(&hub, &args.ids, &query, actor).await
    };
    let durability = hub.durability();
    hub.close().await;
    let Gone { memories, failed, more } = gone?;
    let verb = if args.purge { "purged" } else { "forgotten" };
    let mut exit = Exit::Done;
    for (_, error) in &failed {
        if exit != Exit::Database {
            exit = exit_of(error);
        }
    }
    if args.json {
        let ids: Vec<&str> = memories.iter().map(|memory| memory.id.as_str()).collect();
        let failed: Vec<Value> = failed
            .iter()
            .map(|(id, error)| json!({"id": id, "code": error.code(), "message": error.to_string()}))
            .collect();
        output::json(&json!({
            "status": verb, "dry_run": dry_run, "total": memories.len() + more, "ids": ids, "failed": failed,
            "durability": durability,
        }))?;
        return Ok(exit);
    }
    for (id, error) in &failed {
        output::note(&format!("error: {id}: {error}"));
    }
    let total = memories.len() + more;
    if dry_run && total > 0 {
        let rows: Vec<Vec<String>> = memories.iter().take(SHOWN_MAX).map(|memory| cells(memory)).collect();
        output::text(&table::render(&HEADS, &rows, table::width()))?;
        output::note(&format!("{total} memories would be {verb}; nothing was changed; add --yes to do it"));
    } else if dry_run {
        output::note("there are no such memories");
    } else {
        let mut text = String::new();
        if total <= SHOWN_MAX {
            memories.iter().for_each(|memory| text.push_str(&format!("{verb} {}\n", memory.id)));
        } else {
            text = format!("{total} memories {verb}\n");
        }
        output::text(&text)?;
        if has_filters && total == 0 {
            output::note("there are no such memories");
        }
    }
    Ok(exit)
}

async fn by_ids(hub: &Hub, ids: &[String], query: &ForgetQuery, actor: &Actor) -> Result<Gone, HubError> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut gone = Gone::default();
    for batch in ids.chunks(BATCH_ITEMS_MAX) {
        let part = hub.memory_forget(&ForgetQuery { ids: batch.to_vec(), ..query.clone() }, actor).await?;
        gone.memories.extend(part.memories);
        gone.failed.extend(part.failed);
    }
    Ok(gone)
}

async fn by_filters(hub: &Hub, query: ForgetQuery, actor: &Actor) -> Result<Gone, HubError> {
    let mut gone = Gone::default();
    loop {
        let part = hub.memory_forget(&query, actor).await?;
        let is_stuck = part.memories.is_empty() || !part.failed.is_empty();
        gone.memories.extend(part.memories);
        gone.failed.extend(part.failed);
        gone.more = part.more;
        if gone.more == 0 || query.dry_run || is_stuck {
            return Ok(gone);
        }
        output::note(&format!("{} done, {} to go", gone.memories.len(), gone.more));
    }
}
