//! What the configurations of the clients of this user start, and whether that uses the same agents.

use std::fmt;
use std::path::{Path, PathBuf};

use a2a_engine::config::{Config, Settings};
use a2a_engine::doctor::{Check, CheckStatus};

use crate::clients::document::{Document, Entry};
use crate::clients::file::Found;
use crate::clients::{Client, Folders, Scope};

const NAME: &str = "clients";

/// Compares them with the settings of this command.
pub(super) fn check(config: &Config) -> Check {
    let folders = match Folders::find() {
        Ok(folders) => folders,
        Err(reason) => return Check::new(NAME, CheckStatus::Warn, "unknown", reason),
    };
    let mut lines = Vec::new();
    let mut problems = 0;
    let mut entries = 0;
    // In the home directory the file of the project may be that of the user.
    let mut seen: Vec<(PathBuf, Vec<String>)> = Vec::new();
    for client in Client::ALL {
        for scope in [Scope::User, Scope::Local, Scope::Project] {
            let Some(path) = client.file(scope, &folders).filter(|path| path.exists()) else { continue };
            let within = client.within(scope, &folders);
            if seen.contains(&(path.clone(), within.clone())) {
                continue;
            }
            seen.push((path.clone(), within.clone()));
            let found = Found::read(&path).and_then(|found| {
                let is_open = found.is_open_to_others();
                let document = Document::parse(client, within, &found.text.unwrap_or_default())?;
                Ok(document.ours().into_iter().map(move |(name, entry)| (name, entry, is_open)).collect::<Vec<_>>())
            });
            let place = format!("{} ({})", client.name(), path.display());
            match found {
                Err(reason) => {
                    problems += 1;
                    lines.push(format!("{place} {reason}"));
                }
                Ok(found) => {
                    for (name, entry, is_open) in found {
                        entries += 1;
                        let mut found = Compared::of(&entry, config);
                        if is_open && entry.env.get("DATABASE_URL").is_some_and(|url| url.starts_with("postgres")) {
                            let path = path.display();
                            found
                                .differences
                                .push(format!("other users can read its DATABASE_URL: chmod 600 '{path}'"));
                        }
                        problems += usize::from(!found.differences.is_empty());
                        lines.push(format!("{place} {name}: {found}"));
                    }
                }
            }
        }
    }
    let (status, code, detail) = match (entries, problems) {
        (0, 0) => (CheckStatus::Ok, "ok", "no configuration here starts this program".to_owned()),
        (_, 0) => (CheckStatus::Ok, "ok", format!("{entries} configurations use the same agents as this command")),
        _ => (CheckStatus::Warn, "differ", format!("{problems} of the configurations here need a look")),
    };
    let mut check = Check::new(NAME, status, code, detail);
    check.lines = lines;
    match (entries, problems) {
        (0, 0) => check.next("a2a-mcp init"),
        (_, 0) => check,
        _ => check.next("a2a-mcp init    (with the DATABASE_URL and A2A_NAMESPACE that all clients are to have)"),
    }
}

/// An entry beside the settings of this command.
struct Compared {
    /// In which ways it would not see the agents that this command sees.
    differences: Vec<String>,
    /// Variables that are known to the client alone.
    unknown: Vec<String>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { differences, unknown } = self;
        match (differences.is_empty(), unknown.is_empty()) {
            (false, _) => f.write_str(&differences.join("; ")),
            (true, false) => write!(f, "takes {} from the environment of the client", unknown.join(", ")),
            (true, true) => f.write_str("the same agents"),
        }
    }
}

impl Compared {
    fn of(entry: &Entry, config: &Config) -> Self {
        let mut differences = Vec::new();
        if !is_there(&entry.command) {
            differences.push(format!("{} is not there", entry.command));
        }
        let refers = |(_, value): &(&String, &String)| value.contains("${");
        let unknown: Vec<String> = entry.env.iter().filter(refers).map(|(variable, _)| variable.clone()).collect();
        let set = |variable: &str| entry.env.get(variable).filter(|value| !value.contains("${")).cloned();
        let settings = Settings {
            database_url: set("DATABASE_URL"),
            storage: set("A2A_STORAGE"),
            use_persisted_registry: set("USE_PERSISTED_REGISTRY"),
            data_dir: set("A2A_DATA_DIR").map(PathBuf::from),
            namespace: set("A2A_NAMESPACE"),
            ..Settings::default()
        };
        match Config::new(&settings) {
            Err(problems) => differences.push(format!("its settings are not valid: {problems}")),
            Ok(other) => {
                let (theirs, ours) = (other.location.to_string(), config.location.to_string());
                if theirs != ours && !unknown.iter().any(|variable| variable == "DATABASE_URL") {
                    differences.push(format!("another database, {theirs}, and not {ours}"));
                }
                if other.storage != config.storage {
                    differences.push(format!("storage is {}, and not {}", other.storage, config.storage));
                }
                if other.namespace != config.namespace {
                    differences.push(format!("namespace is {}, and not {}", other.namespace, config.namespace));
                }
            }
        }
        Self { differences, unknown }
    }
}

fn is_there(command: &str) -> bool {
    let path = Path::new(command);
    if path.components().count() > 1 {
        return path.is_file();
    }
    std::env::var_os("PATH")
        .is_some_and(|folders| std::env::split_paths(&folders).any(|folder| folder.join(path).is_file()))
}
