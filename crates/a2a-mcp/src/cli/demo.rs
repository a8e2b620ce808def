//! `a2a-mcp demo`: the main job, shown on real processes.
//!
//! It launches this program twice over stdio, as two MCP clients would, and checks every step it shows: what it prints
//! as done was seen to hold.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::mcp_client::{self, Client, ClientError};
use super::shipped;

/// Acknowledged writes after which the writing process is killed.
const KILL_AFTER_WRITES: usize = 400;
/// Calls under way at once in the stream of writes.
const WRITERS: usize = 8;
/// What one client has written must be seen by the other within this time.
const VISIBLE_LIMIT: Duration = Duration::from_secs(1);
/// Ids asked for at once.
const PAGE: usize = 200;

/// Why the demonstration could not show something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A server did something else than it should.
    #[error("{0}")]
    Failed(String),
    /// A server was not there, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The terminal went away.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

fn failed(what: impl Into<String>) -> DemoError {
    DemoError::Failed(what.into())
}

/// Where the demonstration works.
enum Place {
    /// A folder that goes away afterwards.
    Temporary(PathBuf),
    /// The database of `DATABASE_URL`, in a namespace of its own.
    Database(String),
}

/// Shows the main job; the error says which step did not hold.
///
/// # Errors
/// [`DemoError`].
pub(crate) async fn run(database_url: Option<String>, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let namespace = format!("demo-{}", Uuid::new_v4().simple());
    let place = match database_url {
        Some(url) => Place::Database(url),
        None => Place::Temporary(std::env::temp_dir().join(format!("a2a-mcp-{namespace}"))),
    };
    let mut show = Show { out, step: 0, started: Instant::now() };
    let result = steps(&place, &namespace, &mut show).await;
    if let Place::Temporary(folder) = &place
        && folder.exists()
    {
        std::fs::remove_dir_all(folder)?;
    }
    result
}

/// Prints steps with their times.
struct Show<'o> {
    out: &'o mut (dyn Write + Send),
    step: usize,
    started: Instant,
}

impl Show<'_> {
    fn title(&mut self, text: &str) -> io::Result<()> {
        self.step += 1;
        self.started = Instant::now();
        writeln!(self.out, "\n{}. {text}", self.step)?;
        self.out.flush()
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "   {text}")?;
        self.out.flush()
    }

    fn done(&mut self, text: &str) -> io::Result<()> {
        let elapsed = millis(self.started.elapsed());
        writeln!(self.out, "   ok  {text} ({elapsed})")?;
        self.out.flush()
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

async fn launch(place: &Place, namespace: &str, name: &str) -> Result<Client, DemoError> {
    let mut environment = vec![("A2A_NAMESPACE", namespace.to_owned()), ("A2A_STORAGE", "persisted".to_owned())];
    match place {
        Place::Temporary(folder) => {
            // An empty text counts as not set, also when the parent's environment or a .env file sets it.
            environment.push(("DATABASE_URL", String::new()));
            environment.push(("A2A_DATA_DIR", folder.display().to_string()));
        }
        Place::Database(url) => environment.push(("DATABASE_URL", url.clone())),
    }
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    // The logs of the servers are part of what is shown.
    command.arg("serve").envs(environment).stderr(std::process::Stdio::inherit());
    Ok(Client::launch(name, command).await?)
}

async fn steps(place: &Place, namespace: &str, show: &mut Show<'_>) -> Result<(), DemoError> {
    show.title("Two MCP clients launch their own server process, over stdio")?;
    match place {
        Place::Temporary(folder) => show.line(&format!("database: an embedded SQLite file in {}", folder.display()))?,
        Place::Database(_) => show.line(&format!("database: DATABASE_URL, in the namespace {namespace}"))?,
    }
    let mut first = launch(place, namespace, "claude-desktop").await?;
    show.line(&format!("claude-desktop launched process {}", first.pid()))?;
    let second = launch(place, namespace, "cursor").await?;
    show.line(&format!("cursor launched process {}", second.pid()))?;
    let stats = first.call("registry_stats", json!({})).await?;
    let version = stats.pointer("/database/version").and_then(Value::as_str).unwrap_or("?");
    show.done(&format!("both answer; stored in {version}"))?;

    let last = deploy_roster(&first, &second, show).await?;
    list(&second, show).await?;
    search(&second, show).await?;
    kill_and_recover(place, namespace, &mut first, &second, &last, show).await?;

    show.title("The clients leave")?;
    if matches!(place, Place::Database(_)) {
        let removed = purge_everything(&second).await?;
        show.line(&format!("{removed} demonstration agents purged from the database"))?;
    }
    let longest = first.leave().await?.max(second.leave().await?);
    show.done(&format!("both processes ended by themselves, the slower one after {}", millis(longest)))?;
    writeln!(show.out, "\nEverything that was shown held.")?;
    Ok(())
}

/// Deploys the roster in one process and waits until the other one has it. Returns the last id.
async fn deploy_roster(first: &Client, second: &Client, show: &mut Show<'_>) -> Result<String, DemoError> {
    let roster = shipped::agents().map_err(failed)?;
    show.title(&format!("claude-desktop deploys a roster of {} agents", roster.len()))?;
    let last = roster
        .last()
        .and_then(|agent| agent.get("id"))
        .and_then(Value::as_str)
        .ok_or_else(|| failed("the roster is empty"))?
        .to_owned();
    let count = roster.len();
    let reply = first.call("agent_deploy", json!({"agents": roster})).await?;
    let acknowledged = Instant::now();
    if reply.get("created").and_then(Value::as_u64) != Some(count as u64) {
        return Err(failed(format!("not all agents were created: {reply}")));
    }
    let durability = reply.get("durability").and_then(Value::as_str).unwrap_or("?");
    if durability != "committed" {
        return Err(failed(format!("the reply says {durability:?} where committed was expected")));
    }
    show.done(&format!("{count} created, {durability}"))?;

    show.title("cursor sees them")?;
    let visible = until_visible(second, &last, acknowledged).await?;
    let reply = second.call("agent_list", json!({"limit": 0})).await?;
    let total = reply.get("total").and_then(Value::as_u64).unwrap_or(0);
    if total != count as u64 {
        return Err(failed(format!("the second process sees {total} of {count} agents")));
    }
    show.done(&format!("all {total} visible in the other process {} after the reply", millis(visible)))?;
    Ok(last)
}

async fn until_visible(client: &Client, id: &str, since: Instant) -> Result<Duration, DemoError> {
    loop {
        let reply = client.call("agent_list", json!({"text": id, "limit": 5})).await?;
        let agents = reply.get("agents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if agents.iter().any(|agent| agent.get("id").and_then(Value::as_str) == Some(id)) {
            return Ok(since.elapsed());
        }
        if since.elapsed() > VISIBLE_LIMIT {
            return Err(failed(format!("{id} is not visible in the other process after {}", millis(VISIBLE_LIMIT))));
        }
    }
}

async fn list(client: &Client, show: &mut Show<'_>) -> Result<(), DemoError> {
    show.title("cursor lists them by category")?;
    let reply = client.call("agent_list", json!({"facets": true, "limit": 0})).await?;
    let categories = reply
        .pointer("/facets/categories")
        .and_then(Value::as_array)
        .ok_or_else(|| failed("no categories in the reply"))?;
    let shown: Vec<String> =
        categories.iter().filter_map(|pair| Some(format!("{} {}", pair.get(0)?.as_str()?, pair.get(1)?))).collect();
    let sum: u64 = categories.iter().filter_map(|pair| pair.get(1)?.as_u64()).sum();
    if reply.get("total").and_then(Value::as_u64) != Some(sum) {
        return Err(failed("the categories do not add up to the total"));
    }
    show.line(&shown.join(", "))?;
    show.done(&format!("{} categories", shown.len()))?;
    Ok(())
}

/// Questions as people ask them, with the agent that answers.
const QUESTIONS: [(&str, &str); 3] = [
    ("why is this query slow", "postgres-tuner"),
    ("postgres-tunner", "postgres-tuner"),
    ("review my pull request", "code-reviewer"),
];

async fn search(client: &Client, show: &mut Show<'_>) -> Result<(), DemoError> {
    show.title("cursor searches by what is needed")?;
    for (question, expected) in QUESTIONS {
        let started = Instant::now();
        let reply = client.call("agent_search", json!({"query": question, "limit": 3})).await?;
        let elapsed = millis(started.elapsed());
        let found = |field: &str| reply.pointer(&format!("/agents/0/{field}")).and_then(Value::as_str).unwrap_or("?");
        if found("id") != expected {
            return Err(failed(format!("{question:?} found {:?} first, not {expected:?}", found("id"))));
        }
        show.line(&format!("{question:?} -> {} because: {} ({elapsed})", found("id"), found("why")))?;
    }
    show.done("each question found its agent first")?;
    Ok(())
}

/// A stream of writes: what was sent, and what was acknowledged.
#[derive(Default)]
struct Stream {
    sent: AtomicUsize,
    acknowledged: Mutex<BTreeSet<String>>,
}

async fn kill_and_recover(
    place: &Place,
    namespace: &str,
    first: &mut Client,
    second: &Client,
    last: &str,
    show: &mut Show<'_>,
) -> Result<(), DemoError> {
    show.title("claude-desktop is killed with SIGKILL in the middle of a stream of writes")?;
    let stream = Arc::new(Stream::default());
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (peer, stream) = (first.peer(), stream.clone());
        writers.spawn(async move {
            loop {
                let id = format!("stream-{:05}", stream.sent.fetch_add(1, Ordering::Relaxed));
                let agent = json!({"id": id, "description": "One write of a stream that is cut off."});
                if mcp_client::call(&peer, "agent_deploy", json!({"agents": [agent]})).await.is_err() {
                    return;
                }
                stream.acknowledged.lock().insert(id);
            }
        });
    }
    let mut shown = 0;
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let acknowledged = stream.acknowledged.lock().len();
        if acknowledged >= KILL_AFTER_WRITES {
            break;
        }
        if acknowledged >= shown + 100 {
            shown = acknowledged - acknowledged % 100;
            show.line(&format!("{shown} writes acknowledged"))?;
        }
        if Instant::now() > limit || writers.is_empty() {
            return Err(failed(format!("only {acknowledged} writes were acknowledged")));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    first.kill().await?;
    while writers.join_next().await.is_some() {}
    let acknowledged = stream.acknowledged.lock().clone();
    let sent = stream.sent.load(Ordering::Relaxed);
    show.done(&format!("{sent} writes sent, {} acknowledged, then killed", acknowledged.len()))?;

    show.title("claude-desktop starts it again")?;
    *first = launch(place, namespace, "claude-desktop").await?;
    show.line(&format!("launched process {}", first.pid()))?;
    let lost = missing(first, &acknowledged, last).await?;
    if !lost.is_empty() {
        return Err(failed(format!("{} acknowledged writes are lost in the restarted process", lost.len())));
    }
    until_visible(first, last, Instant::now()).await?;
    // The killed process could not announce its last write, so that the other one finds it when it next looks.
    while !missing(second, &acknowledged, last).await?.is_empty() {
        if show.started.elapsed() > VISIBLE_LIMIT + Duration::from_secs(1) {
            return Err(failed("acknowledged writes are missing in the other process"));
        }
    }
    show.done(&format!(
        "all {} acknowledged writes and the roster are there, in this process and in the other one",
        acknowledged.len()
    ))?;
    Ok(())
}

/// Those of the ids that a process does not have. `known` is one that it has: a call whose every id is wrong is an error.
async fn missing(client: &Client, ids: &BTreeSet<String>, known: &str) -> Result<Vec<String>, DemoError> {
    let all: Vec<&String> = ids.iter().collect();
    let mut missing = Vec::new();
    for part in all.chunks(PAGE - 1) {
        let asked: Vec<&str> = part.iter().map(|id| id.as_str()).chain([known]).collect();
        let reply = client.call("agent_list", json!({"ids": asked, "limit": PAGE})).await?;
        let found: BTreeSet<&str> = reply
            .get("agents")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter_map(|agent| agent.get("id")?.as_str())
            .collect();
        missing.extend(part.iter().filter(|id| !found.contains(id.as_str())).map(|id| (*id).clone()));
    }
    Ok(missing)
}

/// Erases what the demonstration has put into somebody's database.
async fn purge_everything(client: &Client) -> Result<usize, DemoError> {
    let mut removed = 0;
    loop {
        let reply = client.call("agent_list", json!({"limit": PAGE})).await?;
        let agents = reply.get("agents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = agents.iter().filter_map(|agent| agent.get("id")?.as_str()).collect();
        if ids.is_empty() {
            return Ok(removed);
        }
        client.call("agent_remove", json!({"ids": ids, "purge": true})).await?;
        removed += ids.len();
    }
}
