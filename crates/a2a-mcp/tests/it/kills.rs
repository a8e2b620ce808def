//! SIGKILL of one of several processes that write to one database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use a2a_testing::stdio::{RpcError, ServerProcess};
use a2a_testing::wait::wait_until;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::{World, figure, machine, on_both, rows};

const PROCESSES: usize = 4;
const WRITERS_PER_PROCESS: usize = 3;
/// Agents that one writer works on at a time.
const AGENTS_PER_WRITER: usize = 6;
/// After so many kills the load rests, and memory is compared with the database.
const KILLS_PER_COMPARISON: usize = 10;

on_both!(no_acknowledged_write_is_lost_when_a_process_is_killed);

/// How an agent is: its description and, as far as it is known, its revision. `None` when it is not there.
type State = Option<(String, Option<i64>)>;

/// What the clients know of one agent.
#[derive(Debug, Default, Clone)]
struct Known {
    /// The last acknowledged state.
    acknowledged: State,
    /// What a write without an answer would have made of it.
    possible: Option<State>,
}

/// What all clients know, and how many writes were acknowledged.
struct Ledger {
    known: Mutex<BTreeMap<String, Known>>,
    acknowledged: watch::Sender<usize>,
    resting: AtomicBool,
}

impl Ledger {
    fn note(&self, id: &str, change: impl FnOnce(&mut Known)) {
        change(self.known.lock().unwrap().entry(id.to_owned()).or_default());
    }

    /// Compares what a process shows with what the clients know.
    fn check(&self, shown: &BTreeMap<String, Value>) {
        let known = self.known.lock().unwrap();
        for (id, known) in &*known {
            let state =
                shown.get(id).map(|row| (row["description"].as_str().unwrap(), row["revision"].as_i64().unwrap()));
            let fits = |expected: &State| match (expected, state) {
                (None, None) => true,
                (Some((text, revision)), Some((shown, shown_revision))) => {
                    text == shown && revision.is_none_or(|revision| revision == shown_revision)
                }
                _ => false,
            };
            let is_possible = known.possible.as_ref().is_some_and(fits);
            assert!(is_possible || fits(&known.acknowledged), "lost: {id} is {state:?}, known is {known:?}");
        }
        let phantom = shown.keys().find(|id| !known.contains_key(*id));
        assert_eq!(phantom, None, "nobody wrote this");
    }
}

/// Writes one change after the other until the process is killed or the load rests.
async fn write(server: Arc<ServerProcess>, ledger: Arc<Ledger>, name: String) {
    let mut random = StdRng::from_os_rng();
    let mut present: Vec<String> = Vec::new();
    for n in 0_usize.. {
        if ledger.resting.load(Ordering::Relaxed) {
            return;
        }
        let choice = random.random_range(0..100);
        let place = random.random_range(0..present.len().max(1));
        let id = match present.get(place) {
            Some(id) if choice < 60 || present.len() >= AGENTS_PER_WRITER => id.clone(),
            _ => format!("{name}.{n}"),
        };
        let removes = choice < 15 && present.contains(&id);
        let text = format!("{id} text {n}");
        let new: State = (!removes).then(|| (text.clone(), None));
        ledger.note(&id, |known| known.possible = Some(new.clone()));
        let (tool, arguments) = if removes {
            ("agent_remove", json!({"ids": [id]}))
        } else {
            ("agent_deploy", json!({"agents": [{"id": id, "description": text}]}))
        };
        let reply = match server.call_tool(tool, arguments).await {
            Ok(reply) => reply,
            // Killed: whether this write happened is not known, and nobody writes to this agent again.
            Err(RpcError::Closed) => return,
            Err(error) => panic!("{tool} {id}: {error}\n{}", server.stderr_tail()),
        };
        assert!(!reply.is_error, "the death of another process is no reason to fail: {}", reply.text);
        assert_eq!(reply.structured["durability"], "committed");
        let revision = reply.structured["agents"][0]["revision"].as_i64();
        ledger.note(&id, |known| {
            known.possible = None;
            known.acknowledged = new.map(|(text, _)| (text, revision));
        });
        ledger.acknowledged.send_modify(|count| *count += 1);
        present.retain(|other| *other != id);
        if !removes {
            present.push(id);
        }
    }
}

struct Client {
    server: Arc<ServerProcess>,
    writers: JoinSet<()>,
}

impl Client {
    async fn start(world: &World, ledger: &Arc<Ledger>, born: &mut usize) -> Self {
        let mut client = Self { server: Arc::new(world.server().await), writers: JoinSet::new() };
        client.write(ledger, born);
        client
    }

    fn write(&mut self, ledger: &Arc<Ledger>, born: &mut usize) {
        for _ in 0..WRITERS_PER_PROCESS {
            *born += 1;
            self.writers.spawn(write(self.server.clone(), ledger.clone(), format!("w{born}")));
        }
    }

    async fn rest(&mut self) {
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer saw what must not be");
        }
    }
}

async fn no_acknowledged_write_is_lost_when_a_process_is_killed(world: World) {
    let _machine = machine().await;
    let kills = figure(40, 500);
    let mut random = StdRng::from_os_rng();
    let ledger = Arc::new(Ledger {
        known: Mutex::default(),
        acknowledged: watch::Sender::new(0),
        resting: AtomicBool::new(false),
    });
    let mut born = 0;
    let mut clients = Vec::new();
    let mut slowest = Duration::ZERO;
    for kill in 1..=kills {
        // For the first half each killed process is started again at once, as most clients do. Later they stay dead
        // until one is left, which must bear the whole load.
        let wanted = if kill <= kills / 2 || clients.len() <= 1 { PROCESSES } else { clients.len() };
        while clients.len() < wanted {
            clients.push(Client::start(&world, &ledger, &mut born).await);
        }
        // The moment of the kill is counted in acknowledged writes, so that it is always under load.
        let mut acknowledged = ledger.acknowledged.subscribe();
        let target = *acknowledged.borrow() + random.random_range(1..100);
        let reached = tokio::time::timeout(Duration::from_secs(30), acknowledged.wait_for(|count| *count >= target));
        reached.await.expect("writes go on").unwrap();
        let mut killed = clients.swap_remove(random.random_range(0..clients.len()));
        killed.server.kill();
        killed.rest().await;
        killed.server.finish().await;
        if kill % KILLS_PER_COMPARISON == 0 || kill == kills {
            ledger.resting.store(true, Ordering::Relaxed);
            for client in &mut clients {
                client.rest().await;
            }
            let rested = Instant::now();
            let fresh = world.server().await;
            let shown = rows(&fresh).await.unwrap();
            for client in &clients {
                let limit = Duration::from_secs(1);
                wait_until(limit, "memory equals the database", async || rows(&client.server).await.unwrap() == shown)
                    .await;
            }
            slowest = slowest.max(rested.elapsed());
            ledger.check(&shown);
            fresh.finish().await;
            ledger.resting.store(false, Ordering::Relaxed);
            for client in &mut clients {
                client.write(&ledger, &mut born);
            }
        }
    }
    ledger.resting.store(true, Ordering::Relaxed);
    for client in &mut clients {
        client.rest().await;
        client.server.finish().await;
    }
    println!(
        "{}: {kills} kills, {} acknowledged writes, all memories equal within {slowest:?}",
        world.name(),
        *ledger.acknowledged.borrow()
    );
}
