//! What a server may ask or tell while it is connected: its progress, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProgressToken, ProtocolVersion,
};
use rmcp::service::{NotificationContext, RoleClient};

use crate::executors::StepContext;

type Watchers = Arc<Mutex<HashMap<ProgressToken, Watcher>>>;

/// A step that is told how far its call is.
struct Watcher {
    context: Arc<dyn StepContext>,
    /// What it was told last.
    progress: f64,
}

/// Declares no capability, so that servers ask for nothing. One that asks all the same is refused: input from a person
/// is declined, and there are no roots and no model.
#[derive(Clone, Default)]
pub(super) struct Handler {
    watchers: Watchers,
    /// Whether it only speaks to servers of the older era.
    is_older: bool,
}

/// Passes progress on as long as it lives.
pub(super) struct Watch {
    token: ProgressToken,
    watchers: Watchers,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.lock().remove(&self.token);
    }
}

impl Handler {
    /// For a handshake of the older era.
    pub(super) fn older() -> Self {
        Self { is_older: true, ..Self::default() }
    }

    /// Tells a step how far its call is.
    pub(super) fn watch(&self, token: ProgressToken, context: Arc<dyn StepContext>) -> Watch {
        self.watchers.lock().insert(token.clone(), Watcher { context, progress: f64::NEG_INFINITY });
        Watch { token, watchers: self.watchers.clone() }
    }
}

impl ClientHandler for Handler {
    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        let context = match self.watchers.lock().get_mut(&params.progress_token) {
            // It only grows. Two that come together may be handled in either order.
            Some(watcher) if params.progress > watcher.progress => {
                watcher.progress = params.progress;
                watcher.context.clone()
            }
            _ => return,
        };
        let total = params.total.filter(|total| *total > 0.0);
        let percent = total.map(|total| (params.progress / total * 100.0).clamp(0.0, 100.0) as u8);
        match (params.message, total) {
            (Some(message), _) => context.progress(&message, percent),
            (None, Some(total)) => context.progress(&format!("{} of {total}", params.progress), percent),
            (None, None) => context.progress(&params.progress.to_string(), None),
        }
    }

    fn get_info(&self) -> ClientConfig {
        let implementation = Implementation::new("a2a-mcp", env!("CARGO_PKG_VERSION"));
        let config = ClientConfig::new(ClientCapabilities::default(), implementation);
        if self.is_older { config.with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE) } else { config }
    }
}
