//! Starts what a client would start, and looks whether it answers.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::mcp_client::{Client, ClientError};
use crate::cli::settings::VARIABLES;
use crate::clients::document::Entry;

/// Clients give up after a minute at most; a server that works answers within a second.
const LIMIT: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Probed {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    tools: usize,
    elapsed_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    agents: u64,
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tools, elapsed_ms, location, agents, .. } = self;
        let location = location.as_deref().unwrap_or("?");
        write!(f, "ok: it starts and answers in {elapsed_ms} ms with {tools} tools; {agents} agents in {location}")
    }
}

pub(super) async fn probe(entry: &Entry, folder: &Path) -> Probed {
    let started = Instant::now();
    let found = timeout(LIMIT, ask(entry, folder)).await;
    let mut probed = match found {
        Ok(Ok(probed)) => probed,
        Ok(Err(error)) => {
            let error = format!("{} {}: {error}", entry.command, entry.args.join(" "));
            Probed { error: Some(error), ..Probed::default() }
        }
        Err(_) => {
            let error = format!("{} {}: no answer within {} s", entry.command, entry.args.join(" "), LIMIT.as_secs());
            Probed { error: Some(error), ..Probed::default() }
        }
    };
    probed.elapsed_ms = started.elapsed().as_millis();
    probed
}

async fn ask(entry: &Entry, folder: &Path) -> Result<Probed, ClientError> {
    let mut command = Command::new(&entry.command);
    // A client does not have the settings of this terminal.
    for (variable, _) in VARIABLES {
        command.env_remove(variable);
    }
    command.args(&entry.args).envs(&entry.env).current_dir(folder).stderr(Stdio::inherit());
    let client = Client::launch("a2a-mcp-init", command).await?;
    let tools = client.tools().await?;
    let stats = client.call("registry_stats", json!({})).await?;
    client.leave().await?;
    let text = |path: &str| stats.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let reachable = stats.pointer("/database/reachable").and_then(Value::as_bool);
    Ok(Probed {
        error: (reachable != Some(true)).then(|| "it answers, but its database can't be reached".to_owned()),
        tools,
        mode: text("/storage/mode"),
        location: text("/storage/location"),
        agents: stats.pointer("/agents/total").and_then(Value::as_u64).unwrap_or_default(),
        ..Probed::default()
    })
}
