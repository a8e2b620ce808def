//! Clients that append to lists under compare-and-set, while their servers are killed and started again. The list that
//! results is the history, so that whatever was lost, doubled or seen too late shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use a2a_testing::history::{FinalState, History, Outcome, STALENESS_BOUND};
use a2a_testing::stdio::{RpcError, ServerProcess};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::{World, deploy, document, figure, machine, on_both, refusal};

const PROCESSES: usize = 4;
const CALLERS_PER_PROCESS: usize = 3;
/// Few, so that callers meet; each list stays small enough to be read whole.
const KEYS_PER_ROUND: usize = 6;
const OPS_PER_ROUND: usize = 2_500;
const RESTARTS_PER_ROUND: usize = 4;

on_both!(appends_under_compare_and_set_leave_a_history_without_anomalies);

struct Round {
    history: History,
    keys: Vec<String>,
    values: AtomicUsize,
    /// Ends the round.
    ended: watch::Sender<bool>,
}

fn list_of(document: &Value) -> Vec<String> {
    let list = document["config"]["list"].as_array().unwrap_or_else(|| panic!("a whole document: {document}"));
    list.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Reads and appends until the round ends or the process is killed.
async fn append(round: Arc<Round>, server: Arc<ServerProcess>, process: String) {
    let mut random = StdRng::from_os_rng();
    while !*round.ended.borrow() {
        let key = &round.keys[random.random_range(0..round.keys.len())];
        let started = round.history.now();
        let reply = match server.call_tool("agent_list", json!({"ids": [key], "detail": "full"})).await {
            Ok(reply) => reply,
            Err(RpcError::Closed) => return,
            Err(error) => panic!("{process} reads {key}: {error}"),
        };
        assert!(!reply.is_error, "{process} reads {key}: {}", reply.text);
        let shown = &reply.structured["agents"][0];
        assert_eq!(shown["left_out"], Value::Null, "the list does not fit into a result");
        let revision = shown["revision"].as_u64().unwrap();
        let mut values = list_of(shown);
        round.history.read(&process, key, started, revision, values.clone());

        let value = format!("v{}", round.values.fetch_add(1, Ordering::Relaxed));
        values.push(value.clone());
        let arguments = json!({"id": key, "expected_revision": revision, "set": {"config": {"list": values}}});
        let started = round.history.now();
        let outcome = match server.call_tool("agent_update", arguments).await {
            Err(RpcError::Closed) => Outcome::Unknown,
            Err(error) => panic!("{process} writes {key}: {error}"),
            Ok(reply) if reply.is_error => {
                let refusal = refusal(&reply);
                assert_eq!(refusal.code, "conflict", "{process} writes {key}: {refusal:?}");
                Outcome::Conflict { current: refusal.details["current_revision"].as_u64().unwrap() }
            }
            Ok(reply) => {
                assert_eq!(reply.structured["durability"], "committed");
                Outcome::Committed { revision: reply.structured["revision"].as_u64().unwrap() }
            }
        };
        round.history.write(&process, key, started, &value, revision, outcome);
    }
}

struct Client {
    server: Arc<ServerProcess>,
    callers: JoinSet<()>,
}

impl Client {
    fn start(server: Arc<ServerProcess>, round: &Arc<Round>, born: &mut usize) -> Self {
        let mut callers = JoinSet::new();
        *born += 1;
        for _ in 0..CALLERS_PER_PROCESS {
            callers.spawn(append(round.clone(), server.clone(), format!("process {born}")));
        }
        Self { server, callers }
    }

    async fn join(&mut self) {
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("a caller saw what must not be");
        }
    }
}

async fn appends_under_compare_and_set_leave_a_history_without_anomalies(world: World) {
    let _machine = machine().await;
    let rounds = figure(10_000, 1_000_000) / 2 / OPS_PER_ROUND;
    let started = Instant::now();
    let mut random = StdRng::from_os_rng();
    let mut servers: Vec<Arc<ServerProcess>> = world.servers(PROCESSES).await.into_iter().map(Arc::new).collect();
    let (mut born, mut ops, mut committed) = (0, 0, 0);
    for n in 0..rounds {
        let keys: Vec<String> = (0..KEYS_PER_ROUND).map(|key| format!("list-{n}-{key}")).collect();
        for key in &keys {
            deploy(&servers[0], json!({"id": key, "description": "a list", "config": {"list": []}})).await;
            for server in &servers {
                let seen = async || document(server, key).await.is_some();
                a2a_testing::wait::wait_until(Duration::from_secs(1), "the new key is seen", seen).await;
            }
        }
        let round = Arc::new(Round {
            history: History::new(),
            keys,
            values: AtomicUsize::new(0),
            ended: watch::Sender::new(false),
        });
        let mut clients: Vec<Client> =
            servers.drain(..).map(|server| Client::start(server, &round, &mut born)).collect();
        for restart in 1..=RESTARTS_PER_ROUND + 1 {
            let target = OPS_PER_ROUND * restart / (RESTARTS_PER_ROUND + 1);
            let reached = async || round.history.len() >= target;
            a2a_testing::wait::wait_until(Duration::from_secs(120), "operations go on", reached).await;
            if restart <= RESTARTS_PER_ROUND {
                let place = random.random_range(0..clients.len());
                clients[place].server.kill();
                clients[place].join().await;
                clients[place].server.finish().await;
                clients[place] = Client::start(Arc::new(world.server().await), &round, &mut born);
            }
        }
        round.ended.send_replace(true);
        for mut client in clients {
            client.join().await;
            servers.push(client.server);
        }
        let fresh = world.server().await;
        let mut last = FinalState::new();
        for key in &round.keys {
            let document = document(&fresh, key).await.unwrap();
            last.insert(key.clone(), (document["revision"].as_u64().unwrap(), list_of(&document)).into());
        }
        fresh.finish().await;
        let anomalies = round.history.check(&last, STALENESS_BOUND);
        assert!(anomalies.is_empty(), "{} anomalies, such as {}", anomalies.len(), anomalies[0]);
        ops += round.history.len();
        committed += last.values().map(|value| value.values.len()).sum::<usize>();
    }
    println!("{}: {ops} operations, {committed} of them in the lists, {:?}", world.name(), started.elapsed());
    for server in servers {
        server.finish().await;
    }
}
