//! How long after a result is handed in another process gets the step that waited for it.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use a2a_engine::hub::{DeployOptions, Hub, RunRequest, WorkItem, WorkOutcome};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::table::{Aim, Figure, Table, median, percentile};
use crate::{Database, actor, open};

/// The argument that makes this program the other process.
pub(crate) const CHILD: &str = "--latency-child";
const P50_MOST: Duration = Duration::from_millis(20);
/// The longest that one `work_next` waits.
const WAIT: Duration = Duration::from_secs(25);

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

async fn take(hub: &Hub, agent: &str) -> Option<WorkItem> {
    hub.work_next(None, &[agent.to_owned()], WAIT, &actor()).await.unwrap()
}

pub(crate) async fn measure(table: &mut Table, database: &Database, samples: usize) {
    let place = database.place();
    let hub = open(&place);
    let agents = ["first", "second"].map(|id| json!({"id": id, "description": "Works when asked."}));
    let deployed = hub.agent_deploy(&agents, "agents", &DeployOptions::default(), &actor()).await.unwrap();
    assert!(deployed.iter().all(Result::is_ok), "{deployed:?}");
    let mut other = tokio::process::Command::from(Command::new(std::env::current_exe().unwrap()))
        .args([CHILD, &place.0, &place.1])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut taken = BufReader::new(other.stdout.take().unwrap()).lines();
    let mut next = async || tokio::time::timeout(2 * WAIT, taken.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, "ready");

    let document = json!({"steps": [
        {"name": "a", "agent": "first"},
        {"name": "b", "agent": "second", "depends_on": ["a"]},
    ]});
    let mut times = Vec::new();
    for _ in 0..samples {
        let request = RunRequest { inline: Some(document.clone()), ..RunRequest::default() };
        hub.run_start(request, &actor()).await.unwrap();
        let work = take(&hub, "first").await.unwrap();
        let begin = since_1970();
        hub.work_finish(&work.claim, WorkOutcome::Done(json!("done")), None, &actor()).await.unwrap();
        let at = Duration::from_nanos(next().await.parse().unwrap());
        times.push(at.saturating_sub(begin));
    }
    other.kill().await.unwrap();
    hub.close().await;
    let what = format!("{}: from work_finish to work_next in another process", database.name());
    table.row(format!("{what}, p50"), None, Figure::Time(median(&times)), Aim::Within(P50_MOST));
    table.row(format!("{what}, p99"), None, Figure::Time(percentile(&times, 99)), Aim::None);
}

/// Takes each step as soon as it can, and prints when it had it.
pub(crate) async fn child(url: &str, folder: &str) {
    let hub = open(&(url.to_owned(), folder.to_owned()));
    // Waits until everything is loaded.
    hub.agent_get(None, "second").await.unwrap();
    println!("ready");
    loop {
        if let Some(work) = take(&hub, "second").await {
            println!("{}", since_1970().as_nanos());
            hub.work_finish(&work.claim, WorkOutcome::Done(json!("done")), None, &actor()).await.unwrap();
        }
    }
}
