//! The connection to Postgres is cut at the moments that matter: nothing is lost and nothing is done twice.
//!
//! Each write appends a value of its own to the list in an agent's config, under compare-and-set. The lists of all
//! revisions then tell what happened.

use std::time::{Duration, Instant};

use a2a_core::change::{AgentPut, Change, Mutation, Outcome};
use a2a_core::ids::{AgentKey, OpId, Revision};
use a2a_core::json_text::JsonText;
use a2a_store::Unit;
use a2a_store::store::{Location, Store};
use a2a_store::writer::WriteError;
use a2a_testing::fault_proxy::{Action, FaultProxy, Moment, Trigger};
use a2a_testing::figure::figure;
use serde_json::json;

use crate::document::{change, expecting, key, put, remove, revisions, spec};
use crate::process::{Process, finish, in_secs};
use crate::world::{World, postgres_location};

/// A process that reaches its database through a proxy.
async fn through_proxy(world: &World) -> (FaultProxy, Location, Process) {
    let url = world.database().url();
    let proxy = FaultProxy::start_for(&url).await;
    let location = postgres_location(&proxy.url(&url));
    let process = Process::start(&location).await;
    (proxy, location, process)
}

/// The values that a revision of an agent holds.
pub(crate) fn values(agent: &a2a_core::agent::Agent) -> Vec<u64> {
    let config = agent.spec.config.value().unwrap();
    config["values"]
        .as_array()
        .map(|list| list.iter().filter_map(serde_json::Value::as_u64).collect())
        .unwrap_or_default()
}

/// Appends a value to what the process shows of an agent.
pub(crate) fn append(process: &Process, id: &str, value: u64) -> Change {
    let current = process.get(id);
    let mut list = current.as_ref().map(|agent| values(agent)).unwrap_or_default();
    list.push(value);
    let mut document = spec(id, "list");
    document.config = JsonText::new(&json!({ "values": list }));
    let revision: Revision = current.map_or(0, |agent| agent.revision);
    expecting(revision, change(Mutation::AgentPut(Box::new(AgentPut::new(document, true).unwrap()))))
}

/// Checks that the revisions of an agent each append one value, and that these are the acknowledged ones, each once.
pub(crate) async fn check_list(store: &Store, id: &AgentKey, acknowledged: &[u64]) {
    let mut history = store.agent_history(id, None, 100_000).await.unwrap();
    history.reverse();
    let mut last: Vec<u64> = Vec::new();
    for (n, version) in history.iter().enumerate() {
        assert_eq!(version.agent.revision, i64::try_from(n).unwrap() + 1, "no revision is missing");
        let list = values(&version.agent);
        assert_eq!(list.len(), last.len() + 1, "one write, one revision");
        assert_eq!(list[..last.len()], last, "nothing is lost on the way");
        last = list;
    }
    assert_eq!(last, acknowledged, "nothing is lost, doubled or made up");
}

/// Cuts the connection once per write, and lets the writer find out by itself what has happened.
async fn cut(world: &World, cuts: usize, triggers: &[Trigger], full_way: bool) {
    let (proxy, _, process) = through_proxy(world).await;
    let mut acknowledged = Vec::new();
    let start = Instant::now();
    for value in 0..cuts as u64 {
        let mut units = vec![Unit::one(append(&process, "list", value))];
        if full_way {
            // Of two changes of one agent the short cut takes none.
            units.push(Unit::one(expecting(i64::MAX, remove("list"))));
        }
        let trigger = triggers[usize::try_from(value).unwrap() % triggers.len()].clone();
        let fault = proxy.arm_cut_at(trigger.clone());
        let outcomes = process.writer.submit(units, false, in_secs(20)).await.unwrap().concat();
        assert_eq!(fault.fired(), 1, "{trigger:?} of write {value}");
        let revision = i64::try_from(value).unwrap() + 1;
        assert_eq!(revisions(&outcomes[0]), (revision, (revision > 1).then_some(revision - 1)), "{trigger:?}");
        acknowledged.push(value);
        assert_eq!(process.revision("list"), revision, "read your writes");
    }
    eprintln!("{cuts} cuts in {:?}, {} retries", start.elapsed(), process.writer.counts().retries);
    proxy.heal();
    let store = world.store().await;
    check_list(&store, &key("list"), &acknowledged).await;
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, i64::try_from(cuts).unwrap());
    finish(world, vec![process]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_commit_loses_nothing_and_doubles_nothing() {
    let Some(world) = World::postgres().await else { return };
    cut(&world, figure(100, 1_000), &[Trigger::BeforeCommit, Trigger::DuringCommit, Trigger::AfterCommit], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_the_write_loses_nothing_and_doubles_nothing() {
    let Some(world) = World::postgres().await else { return };
    let at = |moment| Trigger::Statement { containing: "INSERT INTO applied_ops".to_owned(), moment };
    cut(&world, figure(100, 1_000), &[at(Moment::Before), at(Moment::During), at(Moment::After)], false).await;
}

/// Removals and purges have no compare-and-set of their own to protect them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_write_survives_a_cut_after_its_commit() {
    let Some(world) = World::postgres().await else { return };
    let (proxy, _, process) = through_proxy(&world).await;
    for round in 0..4_i64 {
        let before = round * 4;
        // A put is one statement, the others are a transaction.
        let statement = Trigger::Statement { containing: "INSERT INTO applied_ops".to_owned(), moment: Moment::After };
        let first = proxy.arm_cut_at(statement.clone());
        assert_eq!(revisions(&process.write(put("x", 1)).await), (before + 1, None));
        let second = proxy.arm_cut_at(statement);
        assert_eq!(revisions(&process.write(put("x", 2)).await), (before + 2, Some(before + 1)));
        let third = proxy.arm_cut_at(Trigger::AfterCommit);
        let removed = Outcome::Removed { revision: before + 3, purged: false };
        assert_eq!(process.write(remove("x")).await, removed);
        let fourth = proxy.arm_cut_at(Trigger::AfterCommit);
        let purged = Outcome::Removed { revision: before + 4, purged: true };
        assert_eq!(process.write(crate::document::purge("x")).await, purged);
        assert_eq!([first, second, third, fourth].map(|fault| fault.fired()), [1; 4]);
    }
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, 16);
    finish(&world, vec![process]).await;
}

/// The caller's deadline comes while nobody can know: it is told so, and sends the write again under its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_found_out_with_the_name_of_the_write() {
    let Some(world) = World::postgres().await else { return };
    let (proxy, location, process) = through_proxy(&world).await;
    let mut acknowledged = Vec::new();
    for value in 0..6 {
        let change = append(&process, "list", value);
        let moment = if value % 2 == 0 { Moment::Before } else { Moment::After };
        let trigger = Trigger::Statement { containing: "INSERT INTO applied_ops".to_owned(), moment };
        let fault = proxy.arm(trigger, Action::BlackHole, 1);
        let start = Instant::now();
        let deadline = Duration::from_millis(300);
        let told = process
            .writer
            .submit(vec![Unit::one(change.clone())], false, tokio::time::Instant::now() + deadline)
            .await
            .unwrap_err();
        assert!(start.elapsed() < deadline + Duration::from_millis(300), "{:?}", start.elapsed());
        let expected: Vec<OpId> = vec![change.op_id];
        assert!(matches!(&told, WriteError::Unknown { op_ids } if *op_ids == expected), "{told:?}");
        assert_eq!(fault.fired(), 1);
        proxy.heal();
        // Another process of the same client asks.
        let other = Process::start(&location).await;
        let again = other.writer.submit(vec![Unit::one(change)], true, in_secs(20)).await.unwrap().concat();
        let revision = i64::try_from(value).unwrap() + 1;
        assert_eq!(revisions(&again[0]), (revision, (revision > 1).then_some(revision - 1)));
        acknowledged.push(value);
        a2a_testing::wait::wait_until(Duration::from_secs(5), "the write", async || {
            process.revision("list") == revision
        })
        .await;
        other.stop().await;
    }
    check_list(&world.store().await, &key("list"), &acknowledged).await;
    finish(&world, vec![process]).await;
}

/// A connection on which nothing arrives any more, as after a router has forgotten it, costs two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_went_silent_is_given_up() {
    let Some(world) = World::postgres().await else { return };
    let (proxy, _, process) = through_proxy(&world).await;
    process.write(put("x", 1)).await;
    let trigger = Trigger::Statement { containing: "INSERT INTO applied_ops".to_owned(), moment: Moment::Before };
    let fault = proxy.arm(trigger, Action::Delay(Duration::from_secs(60)), 1);
    let start = Instant::now();
    assert_eq!(revisions(&process.write(put("x", 2)).await), (2, Some(1)));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(fault.fired(), 1);
    finish(&world, vec![process]).await;
}
