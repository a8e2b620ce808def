//! `a2a-mcp init`: writes the configuration of MCP clients.

mod probe;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use a2a_core::time::Timestamp;
use a2a_engine::config::{Config, StorageMode};
use a2a_engine::maintenance::Location;
use clap::ValueEnum;
use serde::Serialize;
use similar::TextDiff;

use self::probe::Probed;
use super::error::{CliError, Exit};
use super::{output, settings};
use crate::clients::document::{Document, Entry};
use crate::clients::file::{Found, ReplaceError};
use crate::clients::{Client, Folders, NAME_DEFAULT, Scope};

/// A client that writes its file all the time is closed first.
const REPLACE_TRIES: u32 = 3;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The client to set up; all: those that this user has
    #[arg(value_enum, default_value = "all", value_name = "CLIENT")]
    client: Choice,
    /// For this user everywhere, or in the project of the working directory for this user (local) or for everybody
    #[arg(long, value_enum, default_value = "user")]
    scope: Scope,
    /// The name of the server in the configuration
    #[arg(long, default_value = NAME_DEFAULT)]
    name: String,
    /// The program that the client starts [default: this one, by its whole path]
    #[arg(long, value_name = "PROGRAM")]
    command: Option<PathBuf>,
    /// Take the server out of the configuration
    #[arg(long)]
    remove: bool,
    /// Show what would change, without writing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Choice {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    #[value(name = "vscode")]
    VsCode,
    All,
}

impl Choice {
    fn one(self) -> Option<Client> {
        match self {
            Self::ClaudeDesktop => Some(Client::ClaudeDesktop),
            Self::ClaudeCode => Some(Client::ClaudeCode),
            Self::Cursor => Some(Client::Cursor),
            Self::VsCode => Some(Client::VsCode),
            Self::All => None,
        }
    }
}

/// What came of one client.
#[derive(Debug, Serialize)]
struct Item {
    client: Client,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    status: Status,
    /// Why it failed or was left out, or what to mind.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Where the file is kept as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Added,
    Updated,
    Unchanged,
    Removed,
    Skipped,
    Failed,
}

impl Item {
    fn new(client: Client, file: Option<PathBuf>, status: Status) -> Self {
        Self { client, file, status, message: None, backup: None, diff: None }
    }

    fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

pub(super) async fn run(args: &Args, config: &Config, settings: &settings::Args) -> Result<Exit, CliError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if args.name.is_empty() || args.name.len() > 64 || !args.name.chars().all(plain) {
        return Err(CliError::Usage(format!("--name is {:?}; use up to 64 of A-Z a-z 0-9 - _", args.name)));
    }
    let folders = Folders::find().map_err(CliError::Failed)?;
    let entry = entry(args, config, settings)?;
    let clients: Vec<Client> = args.client.one().map_or_else(|| Client::ALL.to_vec(), |one| vec![one]);
    let items: Vec<Item> = clients.into_iter().map(|client| one(client, args, &entry, &folders)).collect();
    let wrote = |item: &Item| matches!(item.status, Status::Added | Status::Updated | Status::Unchanged);
    let probed = if !args.remove && !args.dry_run && items.iter().any(wrote) {
        Some(probe::probe(&entry, folders.start(args.scope)).await)
    } else {
        None
    };
    let failed = items.iter().any(|item| item.status == Status::Failed)
        || items.iter().all(|item| item.status == Status::Skipped)
        || probed.as_ref().is_some_and(|probed| probed.error.is_some());
    if args.json {
        let (name, command) = (&args.name, &entry.command);
        output::json(&serde_json::json!({
            "name": name, "command": command, "dry_run": args.dry_run, "clients": items, "check": probed,
        }))?;
    } else {
        tell(args, &items, probed.as_ref())?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// What a client starts, with the settings that decide where agents are kept.
fn entry(args: &Args, config: &Config, settings: &settings::Args) -> Result<Entry, CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("the path of this program is not known: {error}"));
    let command = match &args.command {
        None => std::env::current_exe().map_err(failed)?,
        // A client has its own working directory and its own PATH; a name without a folder is searched there.
        Some(command) if command.components().count() > 1 => std::path::absolute(command).map_err(failed)?,
        Some(command) => command.clone(),
    };
    // As cargo names its folder; the next build replaces what is in it.
    if args.command.is_none() && command.components().any(|part| part.as_os_str() == "target") {
        output::note(&format!(
            "warning: {} is in a build folder; install it (cargo install --path crates/a2a-mcp), or name it with --command",
            command.display()
        ));
    }
    let command = command.into_os_string().into_string();
    let command =
        command.map_err(|path| CliError::Usage(format!("the path {path:?} is not UTF-8, as a configuration is")))?;
    if let Location::SqliteFile(path) = &config.location
        && path.is_relative()
    {
        let text = format!("{} would be another file for each client; write the whole path", path.display());
        return Err(CliError::Usage(text));
    }
    let env: BTreeMap<String, String> =
        settings.place().into_iter().map(|(variable, value)| (variable.to_owned(), value)).collect();
    Ok(Entry { command, args: vec!["serve".to_owned()], env })
}

fn one(client: Client, args: &Args, entry: &Entry, folders: &Folders) -> Item {
    let Some(path) = client.file(args.scope, folders) else {
        return Item::new(client, None, Status::Skipped).message(match args.scope {
            Scope::Local => "has no configuration of one user in a project",
            Scope::User | Scope::Project => "has no configuration of a project",
        });
    };
    // A client that is named is set up before its first start, too.
    let traces = client.traces(folders);
    if args.client.one().is_none() && args.scope != Scope::Project && !traces.iter().any(|trace| trace.exists()) {
        let looked: Vec<String> = traces.iter().map(|trace| trace.display().to_string()).collect();
        let message = format!("not found here (no {}); name it to set it up all the same", looked.join(", no "));
        return Item::new(client, Some(path), Status::Skipped).message(message);
    }
    for _ in 0..REPLACE_TRIES {
        match edit(client, args, entry, &path, folders) {
            Ok(item) => return item,
            Err(ReplaceError::Changed) => {}
            Err(ReplaceError::Failed(error)) => {
                let message = format!("can't be written: {error}");
                return Item::new(client, Some(path), Status::Failed).message(message);
            }
        }
    }
    let message = "was written by its client at the same time; close the client and repeat this";
    Item::new(client, Some(path), Status::Failed).message(message)
}

fn edit(client: Client, args: &Args, entry: &Entry, path: &Path, folders: &Folders) -> Result<Item, ReplaceError> {
    let within = client.within(args.scope, folders);
    let item = |status| Item::new(client, Some(path.to_owned()), status);
    let failed = |message: String| Ok(item(Status::Failed).message(message));
    let found = match Found::read(path) {
        Ok(found) => found,
        Err(reason) => return failed(reason),
    };
    let before = found.text.clone().unwrap_or_default();
    let mut wanted = entry.clone();
    let has_url = wanted.env.contains_key("DATABASE_URL");
    if args.scope == Scope::Project
        && let Some(url) = wanted.env.get_mut("DATABASE_URL")
    {
        // This file goes into version control.
        *url = client.reference("DATABASE_URL", &args.name);
    }
    let edited = Document::parse(client, within.clone(), &before).and_then(|document| {
        let there = document.entry(&args.name)?;
        match (args.remove, there) {
            (true, _) => document.remove(&args.name).map(|_| (document.text(), Status::Removed)),
            (false, there) => {
                document.set(&args.name, &wanted)?;
                Ok((document.text(), if there.is_some() { Status::Updated } else { Status::Added }))
            }
        }
    });
    let (after, status) = match edited {
        Ok(edited) => edited,
        Err(reason) => return failed(reason),
    };
    if after == before || (args.remove && found.text.is_none()) {
        return Ok(item(Status::Unchanged));
    }
    let mut item = item(status);
    if args.dry_run {
        item.diff = Some(difference(client, &within, &args.name, path, &before, &after));
        return Ok(item);
    }
    let holds_url = has_url && args.scope != Scope::Project && !args.remove;
    item.backup = found.replace(&after, holds_url, Timestamp::from_system_time(SystemTime::now()))?;
    if holds_url && found.is_open_to_others() {
        let path = found.path.display();
        item.message = Some(format!("other users of this machine can read the URL in it: chmod 600 '{path}'"));
    } else if has_url && args.scope == Scope::Project && !args.remove {
        item.message = Some(match client {
            Client::VsCode => "it asks for DATABASE_URL at the first start, since the file is shared".to_owned(),
            _ => "it takes DATABASE_URL from the environment of the client, since the file is shared".to_owned(),
        });
    }
    Ok(item)
}

/// What would change, without what nobody should see.
fn difference(client: Client, within: &[String], name: &str, path: &Path, before: &str, after: &str) -> String {
    let shown = |text: &str| match text.trim() {
        "" => String::new(),
        _ => {
            let document = Document::parse(client, within.to_vec(), text);
            document.map(|document| document.shown(name)).unwrap_or_default()
        }
    };
    let (before, after, path) = (shown(before), shown(after), path.display().to_string());
    if before == after {
        return format!("--- {path}\n  a value changes that is not shown, such as the password of DATABASE_URL\n");
    }
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).header(&path, &path).to_string()
}

fn tell(args: &Args, items: &[Item], probed: Option<&Probed>) -> Result<(), CliError> {
    let name = &args.name;
    let mut text = String::new();
    for item in items {
        let file = item.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        let would = if args.dry_run { "would be " } else { "" };
        let what = match item.status {
            Status::Added => format!("{name} {would}added to {file}"),
            Status::Updated => format!("{name} {would}updated in {file}"),
            Status::Unchanged if args.remove => format!("{name} is not in {file}"),
            Status::Unchanged => format!("{name} is in {file} already"),
            Status::Removed => format!("{name} {would}removed from {file}"),
            Status::Skipped => "left out".to_owned(),
            Status::Failed => format!("{file} FAILED, nothing was changed"),
        };
        text.push_str(&format!("{:<14}  {what}\n", item.client.name()));
        if let Some(message) = &item.message {
            text.push_str(&format!("{:16}{message}\n", ""));
        }
        if let Some(backup) = &item.backup {
            text.push_str(&format!("{:16}as it was: {}\n", "", backup.display()));
        }
        if let Some(diff) = &item.diff {
            text.push_str(&format!("\n{diff}\n"));
        }
    }
    let changed = items.iter().any(|item| matches!(item.status, Status::Added | Status::Updated | Status::Removed));
    match probed {
        Some(Probed { error: Some(error), .. }) => {
            text.push_str(&format!("{:<14}  FAILED: {error}\n{:16}→ a2a-mcp doctor\n", "check", ""));
        }
        Some(probed) => text.push_str(&format!("{:<14}  {probed}\n", "check")),
        None => {}
    }
    if args.dry_run {
        text.push_str("this was a dry run, nothing was written\n");
    } else if changed {
        text.push_str("restart the clients that are open\n");
    } else if items.iter().all(|item| item.status == Status::Skipped) {
        text.push_str("no client was set up; name one: a2a-mcp init claude-code\n");
    }
    output::text(&text.lines().map(|line| format!("{}\n", output::clean(line))).collect::<String>())?;
    if config_is_memory(probed) {
        output::note("warning: A2A_STORAGE is memory, so that each client has its own agents, gone when it ends");
    }
    Ok(())
}

fn config_is_memory(probed: Option<&Probed>) -> bool {
    probed.is_some_and(|probed| probed.mode.as_deref() == Some(StorageMode::Memory.to_string().as_str()))
}
