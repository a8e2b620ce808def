//! `a2a-mcp worker`: carries runs on without a client.

use a2a_engine::config::{Config, StorageMode};
use a2a_engine::hub::Hub;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{CliError, Exit};

pub(super) async fn run(config: Config) -> Result<Exit, CliError> {
    if config.storage == StorageMode::Memory {
        let text = "A2A_STORAGE is memory, where a worker sees no runs but its own, and has none; set DATABASE_URL or \
                    A2A_DATA_DIR to what the servers use";
        return Err(CliError::Usage(text.to_owned()));
    }
    if config.storage == StorageMode::Replica {
        let text = "A2A_STORAGE is replica, which only reads; a worker needs A2A_STORAGE=persisted";
        return Err(CliError::Usage(text.to_owned()));
    }
    if config.storage == StorageMode::Backup {
        let text = "A2A_STORAGE is backup, where each server works on the runs in its own memory; a worker needs \
                    A2A_STORAGE=persisted";
        return Err(CliError::Usage(text.to_owned()));
    }
    if config.runner.steps_max == 0 {
        return Err(CliError::Usage("A2A_STEPS_MAX is 0, so that a worker would do nothing".to_owned()));
    }
    let mut signals = Signals::listen()?;
    tracing::info!(
        database = %config.location,
        steps_max = config.runner.steps_max,
        namespace = %config.namespace,
        "worker started"
    );
    // A database that is away at first is waited for, as a supervisor that starts both at once expects.
    let hub = Hub::open(Config { process_kind: Some("worker"), ..config });
    let told = tokio::select! {
        () = ready(&hub) => signals.any().await,
        told = signals.any() => told,
    };
    tracing::info!(reason = told, "ending; what this worker has not finished goes to others");
    hub.close().await;
    tracing::info!("worker ended");
    Ok(Exit::Done)
}

/// Waits for the first load, and says when it is done.
async fn ready(hub: &Hub) {
    while let Err(error) = hub.ready().await {
        // Each call waits for as long as a tool call may, so that this neither spins nor floods the log.
        tracing::warn!(%error, "waiting for the database");
        if !error.is_retryable() {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        }
    }
    tracing::info!("runs are loaded; working on what is due");
}

/// What tells a command to end that goes on until then.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::Failed(format!("signals can't be listened to: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
