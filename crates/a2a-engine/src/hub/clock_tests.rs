//! By which clock steps wait.

use std::time::{Duration, Instant};

use a2a_core::ids::Actor;
use a2a_core::workflow::run::RunStatus;
use serde_json::json;

use super::{Hub, RunRequest};
use crate::config::{Config, Settings};

#[tokio::test(flavor = "multi_thread")]
async fn timers_are_looked_at_by_the_clock_of_the_database() {
    let settings = Settings { storage: Some("memory".to_owned()), ..Settings::default() };
    let hub = Hub::open(Config::new(&settings).unwrap());
    hub.ready().await.unwrap();
    // For all that this process knows, the database is some seconds behind it.
    hub.inner.workflows.clock().set_ahead_ms(-2_000);
    let inline = Some(json!({"steps": [{"name": "wait", "agent": "builtin:wait", "input": {"seconds": 1}}]}));
    let begun = Instant::now();
    let request = RunRequest { inline, ..RunRequest::default() };
    let id = hub.run_start(request, &Actor::new("test")).await.unwrap().id;
    while !hub.run_wait(&id, Duration::from_secs(10)).await.unwrap().run.status.is_finished() {}
    assert_eq!(hub.run_get(id.as_str(), false).await.unwrap().run.status, RunStatus::Completed);
    // It waits a second after the database has told the time, which this process takes to be in three.
    assert!((2_900..4_500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    hub.close().await;
}
