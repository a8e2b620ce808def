//! How many steps a process works on at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use a2a_core::ids::Actor;
use a2a_core::workflow::run::RunStatus;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{DeployOptions, Hub, RunRequest};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::attempts::operator;

const PLACES: usize = 3;
const RUNS: usize = 12;
const STEPS: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);

/// A webhook that knows how many requests it had at once.
async fn webhook() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let told = most.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (now, most) = (now.clone(), most.clone());
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await.unwrap();
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Long enough for others to come, if others may.
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    (origin, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_steps_are_worked_on_than_there_are_places() {
    let (origin, most) = webhook().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        data_dir: Some(folder.path().to_owned()),
        steps_max: Some(PLACES.to_string()),
        ..Settings::default()
    };
    let operator = operator(&format!("egress: {{allow: [{{origin: '{origin}', private: true}}]}}"));
    let hub = Hub::open(Config { operator, ..Config::new(&settings).unwrap() });
    let actor = Actor::new("test");
    let agent = json!({"id": "hook", "description": "Waits a little.",
        "executor": {"kind": "http", "settings": {"url": format!("{origin}/")}}});
    hub.agent_deploy(&[agent], "agents", &DeployOptions::default(), &actor).await.unwrap();
    let steps: Vec<_> = (0..STEPS).map(|n| json!({"name": format!("s{n}"), "agent": "hook"})).collect();
    let runs = (0..RUNS).map(|_| async {
        let inline = Some(json!({"steps": steps, "result": "done"}));
        let id = hub.run_start(RunRequest { inline, ..RunRequest::default() }, &actor).await.unwrap().id;
        let state = hub.run_wait(&id, LIMIT).await.unwrap();
        assert_eq!(state.run.status, RunStatus::Completed, "{:?}", state.run.error);
    });
    futures_util::future::join_all(runs).await;
    assert_eq!(most.load(Ordering::SeqCst), PLACES);
    hub.close().await;
}
