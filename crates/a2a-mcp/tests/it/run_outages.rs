//! Postgres is killed and started again while several processes carry on runs: every run ends, nothing is done twice.

use std::time::{Duration, Instant};

use a2a_testing::postgres::{Cluster, TestDatabase, skipped};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::mixed_runs::{MixedRuns, Outages};
use crate::world::{World, figure, machine};

/// Runs that are begun at once.
const RUNS_AT_ONCE: usize = 24;
/// One of ten outages lasts so long: longer than the lease of any step and than any command waits to be written.
const LONG_OUTAGE: Duration = Duration::from_secs(11);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_ends_although_postgres_is_killed_and_started_again() {
    if skipped() {
        return;
    }
    let _machine = machine().await;
    let restarts = figure(10, 100);
    let cluster = Cluster::start().await;
    let world = World::Postgres(TestDatabase::create(&cluster).await);
    let mut runs = MixedRuns::start(world.options(), Outages::Some).await;
    let mut random = StdRng::from_os_rng();
    let mut in_the_middle = 0;
    for restart in 0..restarts {
        // The timers among the last ones go on for a second at least.
        runs.begin(RUNS_AT_ONCE).await;
        runs.effects(random.random_range(1..4)).await;
        in_the_middle += usize::from(runs.effects_left() > 0);
        cluster.kill().await;
        if restart % 10 == 5 {
            tokio::time::sleep(LONG_OUTAGE).await;
        }
        cluster.start_again().await;
    }
    assert!(in_the_middle * 10 >= restarts * 9, "only {in_the_middle} restarts came when there was work");
    let last_restart = Instant::now();
    let figures = runs.finish().await;
    println!("{restarts} restarts, {figures}; all ended {:?} after the last restart", last_restart.elapsed());
    drop(world);
    drop(cluster);
}
