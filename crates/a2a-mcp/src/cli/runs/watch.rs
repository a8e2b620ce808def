//! `runs watch`.

use std::collections::HashMap;
use std::time::Duration;

use a2a_core::workflow::run::RunStatus;
use a2a_engine::config::Config;
use a2a_engine::hub::Hub;
use tokio::time::Instant;

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};
use super::show;
use crate::run_view::{self, Face};

/// One wait; nothing is printed when it passes without a change.
const WAIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run's id, or the unique beginning of it
    run: String,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let timeout = args.timeout.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let exit = follow(&hub, &args.run, timeout).await;
    hub.close().await;
    exit
}

/// Prints changes until the run ends.
pub(super) async fn follow(hub: &Hub, id: &str, timeout: Option<Duration>) -> Result<Exit, CliError> {
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let mut state = hub.run_get(id, false).await?;
    output::text(&show::text(hub, &state))?;
    let mut shown: HashMap<String, (&'static str, Option<String>)> = HashMap::new();
    let mut is_first = true;
    loop {
        for row in run_view::step_rows(hub, &state, Face::Terminal) {
            let now = (row.status, row.why);
            if shown.get(&row.step) == Some(&now) {
                continue;
            }
            // The table above has told how it stood at first.
            if !is_first {
                let why = now.1.as_deref().map_or_else(String::new, |why| format!(": {why}"));
                let line = table::one_line(&format!("{} {}{why}", row.step, now.0));
                output::text(&format!("{} {line}\n", state.run.updated_at))?;
            }
            shown.insert(row.step, now);
        }
        is_first = false;
        if state.run.status.is_finished() {
            let error = state.run.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
            output::text(&format!("{} is {}{}\n", state.run.id, state.run.status, table::one_line(&error)))?;
            output::text(&show::result(&state))?;
            return Ok(if state.run.status == RunStatus::Completed { Exit::Done } else { Exit::Failed });
        }
        let wait = match until {
            None => WAIT,
            Some(until) if until <= Instant::now() => {
                output::note(&format!("{} has not ended in time", state.run.id));
                return Ok(Exit::Failed);
            }
            Some(until) => WAIT.min(until - Instant::now()),
        };
        state = hub.run_wait_change(&state, wait).await?;
    }
}
