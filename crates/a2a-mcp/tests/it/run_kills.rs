//! SIGKILL of processes that carry on runs: every run ends, every result is there once and is the right one.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::mixed_runs::{MixedRuns, Outages};
use crate::world::{World, figure, machine, on_both};

/// Runs that are begun at once.
const RUNS_AT_ONCE: usize = 50;

on_both!(every_run_ends_although_its_processes_are_killed);

async fn every_run_ends_although_its_processes_are_killed(world: World) {
    let _machine = machine().await;
    let kills = figure(30, 300);
    let mut runs = MixedRuns::start(world.options(), Outages::None).await;
    let mut random = StdRng::from_os_rng();
    for _ in 0..kills {
        // So many runs that some go on until the last kill.
        if runs.len() < 200 || runs.ended().await + 2 * RUNS_AT_ONCE > runs.len() {
            runs.begin(RUNS_AT_ONCE).await;
        }
        runs.effects(random.random_range(1..15)).await;
        runs.replace_one(&mut random).await;
    }
    let last_kill = Instant::now();
    let figures = runs.finish().await;
    println!("{}: {kills} kills, {figures}; all ended {:?} after the last kill", world.name(), last_kill.elapsed());
}
