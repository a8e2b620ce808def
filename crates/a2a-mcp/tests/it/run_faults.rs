//! The process that carries a run is ended at each of its writes: another one goes on to the very same end.
//!
//! Every workflow of the examples is run in each way that it can go. A first run, undisturbed, tells how it ends and
//! how many transactions it takes. Then each transaction is the last one of a process twice: once it is lost, because
//! the process dies at it, and once it is kept, but the process dies before anybody learns of it. The client does what
//! clients do: it sends what was not answered again to a new process, and goes on from what the run says of itself.

mod driver;
mod fault;
mod ways;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::driver::Client;
use self::fault::{Armed, Death, Place, Undisturbed};
use self::ways::{Way, ways};
use crate::world::{World, call, machine, open};

/// Processes wait for the leases of the dead most of the time.
const AT_ONCE: usize = 8;
/// How often the same write is aimed at. Writes that go by the clock come in between: a process that is slow renews a
/// claim, and within a second it notes who called.
const TRIES: usize = 20;
/// A dead process holds its steps for so long.
const LEASE_MS: &str = "1500";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_of_the_example_workflows_is_survived_on_postgres() {
    if let Some(world) = World::postgres().await {
        each_write_is_survived(Place::postgres(&world).await, world.name()).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_of_the_example_workflows_is_survived_on_sqlite() {
    let world = World::sqlite();
    each_write_is_survived(Place::sqlite(&world).await, world.name()).await;
}

async fn each_write_is_survived(place: Place, name: &str) {
    let _machine = machine().await;
    let started = Instant::now();
    let (place, free) = (Arc::new(place), Arc::new(Semaphore::new(AT_ONCE)));
    let ways: Vec<Arc<Way>> = ways().into_iter().map(Arc::new).collect();
    let workflows: BTreeSet<&str> = ways.iter().map(|way| way.workflow).collect();
    assert_eq!(workflows, ways::in_the_examples().iter().map(String::as_str).collect(), "a way for each workflow");

    let mut cases = JoinSet::new();
    let mut writes = 0;
    for way in &ways {
        let (undisturbed, expected) = undisturbed(&place, way).await;
        let expected = Arc::new(expected);
        writes += undisturbed.writes;
        for write in 1..=undisturbed.writes {
            for death in [Death::WriteLost, Death::AnswerLost] {
                let case = Case { place: place.clone(), way: way.clone(), write, death, expected: expected.clone() };
                let (free, undisturbed) = (free.clone(), undisturbed.clone());
                cases.spawn(async move {
                    let _free = free.acquire_owned().await.unwrap();
                    case.is_survived(undisturbed).await
                });
            }
        }
    }
    let (mut deaths, mut missed, mut absent) = (0, 0, 0);
    while let Some(survived) = cases.join_next().await {
        match survived.unwrap() {
            Survived::Death { tries } => (deaths, missed) = (deaths + 1, missed + tries - 1),
            Survived::Absent => absent += 1,
        }
    }
    assert_eq!(deaths + absent, 2 * writes);
    assert!(absent <= deaths / 10, "{absent} of {writes} writes are not made each time");
    println!(
        "{name}: {} ways through {} workflows, {writes} writes, {deaths} deaths ({missed} more that missed their \
         write, {absent} writes that were only made once), each to the same end, {:?}",
        ways.len(),
        workflows.len(),
        started.elapsed(),
    );
}

/// How the way ends and what it writes when nothing happens.
async fn undisturbed(place: &Place, way: &Way) -> (Undisturbed, Value) {
    let database = place.copy().await;
    let server = open(database.options()).await;
    let mut client = Client::new(way);
    let none = Armed::default();
    assert!(client.go_on(&server, &none).await.is_some(), "{way}: nothing has ended the process");
    let end = client.end(&server).await;
    let undisturbed = database.written().await;
    server.finish().await;
    place.give_back(database).await;
    assert_eq!(end["run"]["status"], way.status, "{way}: {end:#}");
    assert!(undisturbed.writes >= 3, "{way}: {undisturbed:?}");
    (undisturbed, end)
}

struct Case {
    place: Arc<Place>,
    way: Arc<Way>,
    write: usize,
    death: Death,
    expected: Arc<Value>,
}

/// How a case has ended.
enum Survived {
    Death {
        tries: usize,
    },
    /// A run has come to its end with fewer writes: the first one made one that the clock had asked for.
    Absent,
}

/// Where the death of a run came.
enum Aimed {
    Hit,
    /// At another write, or not at all.
    Missed,
    /// There was no such write.
    Absent,
}

impl Case {
    async fn is_survived(&self, mut undisturbed: Undisturbed) -> Survived {
        for tries in 1..=TRIES {
            match self.aim(&mut undisturbed).await {
                Aimed::Hit => return Survived::Death { tries },
                Aimed::Absent => return Survived::Absent,
                Aimed::Missed => {}
            }
        }
        panic!("{}: write {} was missed {TRIES} times", self.way, self.write);
    }

    /// One run with a death in it.
    async fn aim(&self, undisturbed: &mut Undisturbed) -> Aimed {
        let database = self.place.copy().await;
        let options = database.options().env("A2A_LEASE_MS", LEASE_MS);
        let (options, proxy) = database.through_proxy(options).await;
        let mut client = Client::new(&self.way);
        let first = open(options).await;
        // It answers when it has read the database, which takes transactions too.
        call(&first, "workflow_status", json!({"list": "workflows"})).await;
        let armed = database.arm(proxy, &first, self.write, self.death, undisturbed);
        let carried = client.go_on(&first, &armed).await;
        first.kill();
        first.finish().await;
        drop(armed);
        let aimed_at = self.write - usize::from(self.death == Death::WriteLost);
        let written = database.learn(undisturbed, aimed_at).await;
        database.disarm();
        let aimed = match carried {
            None if written == aimed_at => Aimed::Hit,
            Some(()) if written < self.write => Aimed::Absent,
            _ => Aimed::Missed,
        };

        let second = open(database.options().env("A2A_LEASE_MS", LEASE_MS)).await;
        let none = Armed::default();
        assert!(client.go_on(&second, &none).await.is_some(), "{}: the second process has ended", self.way);
        let end = client.end(&second).await;
        let (way, death, write) = (&self.way, self.death, self.write);
        assert_eq!(end, *self.expected, "{way}: {death:?} at write {write}\n{end:#}\n{:#}", self.expected);
        second.finish().await;
        self.place.give_back(database).await;
        aimed
    }
}
