//! Waiting for a client: it is told that the call goes on, if it asked to be.

use std::future::Future;
use std::time::Duration;

use a2a_core::input::ObjectReader;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};

/// The longest that a call waits: some clients give up a little later.
pub(crate) const WAIT_SECONDS_MAX: i64 = 25;
/// How often a client hears that its call goes on. Clients that look at it give up after a minute or more without.
const INTERVAL: Duration = Duration::from_secs(5);

/// Whom to tell that a call goes on. A client gets no notification that it has not asked for.
#[derive(Debug)]
pub(crate) struct Progress {
    to: Option<(Peer<RoleServer>, ProgressToken)>,
}

impl Progress {
    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Self {
        Self { to: context.meta.get_progress_token().map(|token| (context.peer.clone(), token)) }
    }

    /// Waits, and tells so at once and again and again. One call of a tool waits once, because progress must grow.
    pub(crate) async fn during<T>(&self, message: &str, future: impl Future<Output = T>) -> T {
        let Some((peer, token)) = &self.to else { return future.await };
        tokio::pin!(future);
        let mut interval = tokio::time::interval(INTERVAL);
        let mut progress = 0.0;
        loop {
            tokio::select! {
                biased;
                done = &mut future => return done,
                _ = interval.tick() => {
                    progress += 1.0;
                    let param = ProgressNotificationParam::new(token.clone(), progress).with_message(message);
                    // A client that is gone is noticed elsewhere.
                    let _gone = peer.notify_progress(param).await;
                }
            }
        }
    }
}

/// Reads how long to wait; nothing means not at all.
pub(crate) fn read_wait(r: &mut ObjectReader<'_, '_>) -> Duration {
    let seconds = r.integer("wait_s", 0..=WAIT_SECONDS_MAX).unwrap_or(0);
    Duration::from_secs(seconds.unsigned_abs())
}
