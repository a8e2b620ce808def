//! `memory import`.

mod document;
mod lines;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use a2a_core::agent::ContentHash;
use a2a_core::error::Problem;
use a2a_core::ids::{Actor, MemoryId};
use a2a_core::limits::{BATCH_ITEMS_MAX, MEMORIES_MAX};
use a2a_core::memory::Trust;
use a2a_core::time::Timestamp;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{
    Durability, ForgetQuery, Hub, MemoryInput, MemoryStoreOptions, MemoryUpdate, StoredMemory, StoredStatus, Told,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::document::{Content, Read};
use self::lines::Lines;
use super::super::documents::Source;
use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output};
use super::store::{BATCH_BYTES_MAX, end, failure, store_each};
use super::{Format, now};

/// How often work that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that the JSON document names with what was wrong; of more, only the counts are told.
const NAMED_MAX: usize = 1_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the lines are [default: what the first line looks like]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    more: FileArgs,
}

/// What does not depend on the format.
#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// A file of JSON lines; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Cut out what looks like a secret instead of refusing the memory
    #[arg(long)]
    redact: bool,
    /// Check the lines and tell what would happen, without writing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A line, or a memory of one, that was not stored.
#[derive(Serialize)]
pub(in crate::cli) struct NotStored {
    pub(in crate::cli) line: usize,
    pub(in crate::cli) status: &'static str,
    pub(in crate::cli) code: &'static str,
    pub(in crate::cli) message: String,
    /// What is wrong, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) problems: Vec<Problem>,
}

#[derive(Serialize)]
pub(in crate::cli) struct Summary {
    format: &'static str,
    lines: usize,
    pub(in crate::cli) stored: usize,
    pub(in crate::cli) known: usize,
    pub(in crate::cli) failed: usize,
    /// Left out for a reason that is no error.
    pub(in crate::cli) skipped: usize,
    /// Things that look like secrets and were cut out.
    redacted: usize,
    /// References to memories that the file does not hold.
    references_left_out: usize,
    /// Memories that were forgotten to make room.
    evicted: usize,
    dry_run: bool,
    durability: Durability,
    pub(in crate::cli) not_stored: Vec<NotStored>,
}

/// A memory that waits for the next call.
struct Waiting {
    line: usize,
    path: String,
    document: Value,
    told: Told,
    old_id: Option<String>,
    /// Relations to memories that come later in the file, if at all.
    later: Vec<(String, String)>,
    is_superseded: bool,
}

/// A memory with relations to others that came later in the file.
struct Unrelated {
    line: usize,
    id: MemoryId,
    /// Those that it has.
    relations: Vec<Value>,
    later: Vec<(String, String)>,
}

struct Import<'a> {
    hub: &'a Hub,
    actor: &'a Actor,
    options: MemoryStoreOptions,
    /// What error texts call the lines, when not by their numbers.
    places: Vec<String>,
    as_json: bool,
    summary: Summary,
    exit: Exit,
    batch: Vec<Waiting>,
    batch_bytes: usize,
    /// When the next memory is told whose time is not known.
    next_at: i64,
    /// The memories of the file by their ids there; `None` as long as they wait.
    ids: HashMap<String, Option<MemoryId>>,
    unrelated: Vec<Unrelated>,
    /// Stored ones whose place another one took where they come from.
    superseded: Vec<MemoryId>,
    /// What a dry run has seen in the file.
    seen: HashSet<ContentHash>,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    file(args.more, args.format, config, actor).await
}

/// Imports documents that were read elsewhere.
pub(in crate::cli) async fn each(
    hub: &Hub,
    sources: Vec<Source>,
    dry_run: bool,
    actor: &Actor,
) -> Result<(Summary, Exit), HubError> {
    let args = FileArgs { file: PathBuf::new(), redact: false, dry_run, json: true };
    let mut import = Import::new(hub, actor, &args, Format::Jsonl);
    import.places = sources.iter().map(|source| source.place.clone()).collect();
    for (index, source) in sources.into_iter().enumerate() {
        let bytes = source.document.map(|document| document.to_string().into_bytes());
        import.line(lines::Line { number: index + 1, bytes }, Format::Jsonl).await?;
    }
    import.finish().await?;
    Ok((import.summary, import.exit))
}

/// Imports the lines of a file.
pub(in crate::cli) async fn file(
    args: FileArgs,
    format: Option<Format>,
    config: Config,
    actor: &Actor,
) -> Result<Exit, CliError> {
    let started = Instant::now();
    let name = args.file.display().to_string();
    let failed = |error: std::io::Error| CliError::Failed(format!("{name} can't be read: {error}"));
    let mut lines = Lines::open(&args.file).map_err(failed)?;
    let first = lines.next().map_err(failed)?;
    let format = match (format, &first) {
        (Some(format), _) => format,
        (None, None) => Format::Jsonl,
        (None, Some(line)) => {
            let object = line.bytes.as_ref().ok().and_then(|bytes| document::object(bytes).ok());
            object.as_ref().and_then(document::format_of).ok_or_else(|| {
                let text = "the first line is neither a memory document nor an entity or relation; name the --format";
                CliError::Usage(format!("{name}: {text}"))
            })?
        }
    };
    let hub = open(config).await?;
    let mut import = Import::new(&hub, actor, &args, format);
    let mut progress = Instant::now();
    let mut next = first;
    // Reading blocks this thread alone: the runtime has others for the database.
    let read: Result<(), CliError> = loop {
        let Some(line) = next.take() else { break import.finish().await.map_err(CliError::from) };
        if let Err(error) = import.line(line, format).await {
            break Err(error.into());
        }
        if progress.elapsed() > PROGRESS_INTERVAL {
            progress = Instant::now();
            let Summary { lines, stored, known, failed, .. } = &import.summary;
            output::note(&format!("{lines} lines: {stored} stored, {known} known, {failed} failed"));
        }
        next = match lines.next() {
            Ok(line) => line,
            Err(error) => break Err(failed(error)),
        };
    };
    let (summary, exit) = (import.summary, import.exit);
    let place = hub.config().location.to_string();
    hub.close().await;
    tell(&summary, &args, &place, started)?;
    let Err(error) = read else { return Ok(exit) };
    output::note(&format!("stopped in line {}; repeat the command to go on", summary.lines));
    Err(error)
}

impl<'a> Import<'a> {
    fn new(hub: &'a Hub, actor: &'a Actor, args: &FileArgs, format: Format) -> Self {
        let trust = Trust::External;
        let options = MemoryStoreOptions { namespace: None, redact: args.redact, trust, derived_from: Vec::new() };
        Self {
            hub,
            actor,
            options,
            places: Vec::new(),
            as_json: args.json,
            summary: Summary {
                format: format.as_str(),
                lines: 0,
                stored: 0,
                known: 0,
                failed: 0,
                skipped: 0,
                redacted: 0,
                references_left_out: 0,
                evicted: 0,
                dry_run: args.dry_run,
                durability: hub.durability(),
                not_stored: Vec::new(),
            },
            exit: Exit::Done,
            batch: Vec::new(),
            batch_bytes: 0,
            // A millisecond between two memories keeps their order. Beginning by as many milliseconds before now as there
            // can be memories, none is told in the future, and those of a later import come after.
            next_at: now().0.saturating_sub(i64::try_from(MEMORIES_MAX).unwrap_or(i64::MAX)),
            ids: HashMap::new(),
            unrelated: Vec::new(),
            superseded: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn place(&self, line: usize) -> String {
        let named = line.checked_sub(1).and_then(|index| self.places.get(index));
        named.cloned().unwrap_or_else(|| format!("line {line}"))
    }

    async fn line(&mut self, line: lines::Line, format: Format) -> Result<(), HubError> {
        let number = line.number;
        self.summary.lines = number;
        let object = line.bytes.and_then(|bytes| document::object(&bytes));
        match object.and_then(|object| document::memories(object, format, now())) {
            Ok(Content::Memories(memories)) => {
                for memory in memories {
                    self.add(number, memory).await?;
                }
            }
            Ok(Content::Skipped(reason)) => self.skip(number, reason),
            Err(reason) => self.fail(number, "unreadable", reason, Vec::new()),
        }
        Ok(())
    }

    fn skip(&mut self, line: usize, reason: String) {
        self.summary.skipped += 1;
        if !self.as_json {
            output::note(&format!("skipped: {} {reason}", self.place(line)));
        }
        self.name(NotStored { line, status: "skipped", code: "skipped", message: reason, problems: Vec::new() });
    }

    fn fail(&mut self, line: usize, code: &'static str, message: String, problems: Vec<Problem>) {
        self.summary.failed += 1;
        if self.exit == Exit::Done {
            self.exit = Exit::Failed;
        }
        if !self.as_json {
            failure(&self.place(line), &message, &problems);
        }
        self.name(NotStored { line, status: "failed", code, message, problems });
    }

    fn fail_with(&mut self, line: usize, error: HubError) {
        let (code, message) = (error.code(), error.to_string());
        let problems = if let HubError::Invalid(problems) = error { problems.0 } else { Vec::new() };
        self.fail(line, code, message, problems);
    }

    fn name(&mut self, not_stored: NotStored) {
        if self.as_json && self.summary.not_stored.len() < NAMED_MAX {
            self.summary.not_stored.push(not_stored);
        }
    }

    /// Puts a memory into the next call.
    async fn add(&mut self, line: usize, read: Read) -> Result<(), HubError> {
        let Read { place, mut document, created_at, old_id, supersedes, relations, is_superseded } = read;
        let refers_to = || supersedes.iter().chain(relations.iter().map(|(_, to)| to));
        // What it refers to has to have its new id first.
        if refers_to().any(|id| matches!(self.ids.get(id), Some(None))) {
            self.store().await?;
        }
        let mut later = Vec::new();
        if !self.summary.dry_run
            && let Some(fields) = document.as_object_mut()
        {
            self.refer(fields, supersedes, relations, &mut later);
        }
        let at = Timestamp(self.next_at);
        self.next_at += 1;
        let told = created_at.map_or(Told { at, is_known: false }, |at| Told { at, is_known: true });
        self.batch_bytes += document.to_string().len();
        if let Some(old_id) = &old_id {
            self.ids.insert(old_id.clone(), None);
        }
        let path = format!("{}{place}", self.place(line));
        self.batch.push(Waiting { line, path, document, told, old_id, later, is_superseded });
        if self.batch.len() >= BATCH_ITEMS_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.store().await?;
        }
        Ok(())
    }

    /// Puts new ids in the place of those in the file.
    fn refer(
        &mut self,
        document: &mut Map<String, Value>,
        supersedes: Vec<String>,
        relations: Vec<(String, String)>,
        later: &mut Vec<(String, String)>,
    ) {
        let new_id = |old: &String| self.ids.get(old).and_then(Option::as_ref);
        let superseded: Vec<&MemoryId> = supersedes.iter().filter_map(new_id).collect();
        self.summary.references_left_out += supersedes.len() - superseded.len();
        if !superseded.is_empty() {
            document.insert("supersedes".to_owned(), json!(superseded));
        }
        let mut related = Vec::new();
        for (kind, to) in relations {
            match new_id(&to) {
                Some(to) => related.push(json!({"kind": kind, "to": to})),
                None => later.push((kind, to)),
            }
        }
        if !related.is_empty() {
            document.insert("relations".to_owned(), Value::from(related));
        }
    }

    /// Stores what waits.
    async fn store(&mut self) -> Result<(), HubError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let inputs: Vec<MemoryInput<'_>> = batch
            .iter()
            .map(|waiting| MemoryInput { document: &waiting.document, path: &waiting.path, told: Some(waiting.told) })
            .collect();
        if self.summary.dry_run {
            let checked = self.hub.memory_check_each(&inputs, &self.options).await?;
            for (waiting, checked) in batch.iter().zip(checked) {
                match checked {
                    Ok(checked) => {
                        self.summary.redacted += checked.redacted;
                        let is_new = self.seen.insert(checked.content_hash) && !checked.is_known;
                        self.summary.stored += usize::from(is_new);
                        self.summary.known += usize::from(!is_new);
                    }
                    Err(error) => self.fail_with(waiting.line, error),
                }
            }
            return Ok(());
        }
        let done = store_each(self.hub, &inputs, &self.options, self.actor).await?;
        self.summary.evicted += done.evicted.len();
        for (waiting, result) in batch.into_iter().zip(done.items) {
            match result {
                Ok(stored) => self.stored(waiting, stored),
                Err(error) => {
                    if let Some(old_id) = &waiting.old_id {
                        self.ids.remove(old_id);
                    }
                    self.fail_with(waiting.line, error);
                }
            }
        }
        Ok(())
    }

    fn stored(&mut self, waiting: Waiting, stored: StoredMemory) {
        let StoredMemory { memory, status, redacted, .. } = stored;
        self.summary.redacted += redacted;
        let is_new = status == StoredStatus::Stored;
        self.summary.stored += usize::from(is_new);
        self.summary.known += usize::from(!is_new);
        if is_new && waiting.is_superseded {
            self.superseded.push(memory.id.clone());
        }
        if !waiting.later.is_empty() {
            // What this file says adds nothing to a memory that is relied on more.
            if memory.provenance.trust == Trust::External {
                let relations = memory.spec.relations.iter().map(|relation| json!(relation)).collect();
                let id = memory.id.clone();
                self.unrelated.push(Unrelated { line: waiting.line, id, relations, later: waiting.later });
            } else {
                self.summary.references_left_out += waiting.later.len();
            }
        }
        if let Some(old_id) = waiting.old_id {
            self.ids.insert(old_id, Some(memory.id.clone()));
        }
    }

    /// Does what could not be done before the whole file was read.
    async fn finish(&mut self) -> Result<(), HubError> {
        self.store().await?;
        for Unrelated { line, id, mut relations, later } in std::mem::take(&mut self.unrelated) {
            let before = relations.len();
            for (kind, to) in later {
                match self.ids.get(&to) {
                    Some(Some(to)) => relations.push(json!({"kind": kind, "to": to})),
                    _ => self.summary.references_left_out += 1,
                }
            }
            if relations.len() == before {
                continue;
            }
            let set = Map::from_iter([("relations".to_owned(), Value::from(relations))]);
            let update = MemoryUpdate { set, ..MemoryUpdate::default() };
            match self.hub.memory_update(id.as_str(), &update, Trust::External, self.actor).await {
                Ok(_) => {}
                // It is stored, and only the relation is missing; but the database that is away ends the command.
                Err(error) if exit_of(&error) == Exit::Database => return Err(error),
                Err(error) => {
                    self.exit = Exit::Failed;
                    output::note(&format!("error: {}: a relation is missing: {error}", self.place(line)));
                }
            }
        }
        self.forget_superseded().await
    }

    /// What was outdated where it comes from must not come to life here because the file lacks what took its place.
    async fn forget_superseded(&mut self) -> Result<(), HubError> {
        for ids in std::mem::take(&mut self.superseded).chunks(BATCH_ITEMS_MAX) {
            let ids = ids.iter().map(ToString::to_string).collect();
            let query = ForgetQuery { ids, dry_run: true, ..ForgetQuery::default() };
            let stored = self.hub.memory_forget(&query, self.actor).await?;
            let live = stored.memories.iter().filter(|memory| memory.superseded_by.is_none());
            let ids: Vec<String> = live.map(|memory| memory.id.to_string()).collect();
            if ids.is_empty() {
                continue;
            }
            let count = ids.len();
            self.hub.memory_forget(&ForgetQuery { ids, ..ForgetQuery::default() }, self.actor).await?;
            self.summary.stored = self.summary.stored.saturating_sub(count);
            self.summary.skipped += count;
            if !self.as_json {
                output::note(&format!(
                    "skipped: {count} superseded memories, because the file lacks what took their place"
                ));
            }
        }
        Ok(())
    }
}

fn tell(summary: &Summary, args: &FileArgs, place: &str, started: Instant) -> Result<(), CliError> {
    if args.json {
        return Ok(output::json(summary)?);
    }
    let Summary { stored, known, failed, skipped, redacted, references_left_out, evicted, .. } = summary;
    let counts = [
        (*redacted, "secrets were cut out"),
        (*references_left_out, "references were left out: the file does not hold what they name"),
        (*evicted, "memories were forgotten to make room, those worth least"),
    ];
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        output::note(&format!("{count} {what}"));
    }
    let end = match (args.dry_run, summary.durability) {
        (true, _) => "; this was a dry run, nothing was written".to_owned(),
        (_, Durability::Committed) if *stored > 0 => {
            format!("; committed to {place} in {:.1} s", started.elapsed().as_secs_f64())
        }
        (_, durability) => end(*stored, durability).to_owned(),
    };
    output::text(&format!("{stored} stored, {known} known, {skipped} skipped, {failed} failed{end}\n"))?;
    Ok(())
}
