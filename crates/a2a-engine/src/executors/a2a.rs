//! Agents of the A2A protocol, version 1.0, over its JSON-RPC binding.
//!
//! `settings.url` is the URL of the agent card, or the base URL below which the card is at its well-known place. The
//! message is sent once, whatever happens to this process:
//!
//! 1. the card is read, which may be done any number of times;
//! 2. the id of the message is noted, and committed before the message is sent;
//! 3. the id of the agent's task is noted, and committed before anybody waits for it;
//! 4. the task is asked for until it has ended.
//!
//! An attempt that begins with a note goes on behind it. With the id of a task it only asks. Between 2 and 3 nobody
//! knows whether the agent has the message, and the protocol does not promise that a repeated one is recognised (the
//! reference server does the work twice). Then the tasks of the agent are searched for the message, and when it is not
//! among them the step fails, with the reason, for good: this server never sends a message again.
//!
//! | the task | the step |
//! |---|---|
//! | is completed, or the agent has answered without a task | is done |
//! | needs input | asks; the answer goes to the same task, once, by the same rules |
//! | needs authorisation, has failed, is rejected or cancelled | fails for good |
//! | can't be asked for because the agent is away | goes on waiting |
//!
//! When the step is no longer wanted, or takes too long, the agent is asked to cancel the task: by the process that has
//! the step, or by any other when none has it.

pub(super) mod card;
mod checkpoint;
mod client;
mod exchange;
mod message;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use self::card::{CardError, Interface};
use self::checkpoint::Checkpoint;
use self::exchange::{End, Exchange};
use super::{Contact, Done, Execute, Missing, StepContext, StepWork, limit_within, text_setting};
use crate::egress::Egress;

/// A step without a limit of its own. Agents may work for hours; somebody who looks at the run can cancel it.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// For so long a card is not read again.
const CARD_FRESH: Duration = Duration::from_secs(60);
const CARDS_MAX: usize = 64;

/// The executor of the kind `a2a`.
pub(super) struct A2a {
    egress: Arc<Egress>,
    /// By URL.
    interfaces: Mutex<HashMap<String, (Instant, Interface)>>,
}

impl A2a {
    pub(super) fn new(egress: Arc<Egress>) -> Self {
        Self { egress, interfaces: Mutex::default() }
    }

    async fn interface(&self, url: &str) -> Result<Interface, CardError> {
        let known = self.interfaces.lock().get(url).filter(|(at, _)| at.elapsed() < CARD_FRESH).cloned();
        if let Some((_, interface)) = known {
            return Ok(interface);
        }
        let interface = card::resolve(&self.egress, url).await?;
        let mut interfaces = self.interfaces.lock();
        if interfaces.len() >= CARDS_MAX {
            interfaces.clear();
        }
        interfaces.insert(url.to_owned(), (Instant::now(), interface.clone()));
        Ok(interface)
    }
}

impl Execute for A2a {
    fn can_run(&self, settings: &Value) -> Result<(), Missing> {
        let url = text_setting(settings, "url")?;
        self.egress.check(url).map_err(|error| Missing(error.to_string()))
    }

    fn execute(&self, work: StepWork, context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        async move {
            let limit = limit_within(work.timeout).unwrap_or(TIMEOUT_DEFAULT);
            let cancelled = context.cancelled();
            let mut exchange = Exchange::new(self, &work, &*context);
            let in_time = tokio::select! {
                biased;
                () = cancelled.cancelled() => Some(Err(End::Unwanted)),
                ended = exchange.run() => Some(ended),
                () = tokio::time::sleep(limit) => None,
            };
            match in_time {
                Some(Ok(done) | Err(End::Done(done))) => done,
                Some(Err(End::Unwanted)) => exchange.unwanted().await,
                None => exchange.too_long(limit).await,
            }
        }
        .boxed()
    }

    fn close<'s>(&'s self, note: &'s Value) -> BoxFuture<'s, Result<(), String>> {
        async move {
            // Nobody can tell what a note says that can't be read.
            let Ok(state) = Checkpoint::read(note) else { return Ok(()) };
            match exchange::cancel(&self.egress, &state).await {
                Err(error) if error.is_transient() => Err(error.to_string()),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn check<'s>(&'s self, settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        async move {
            let url = text_setting(settings, "url")?;
            match card::resolve(&self.egress, url).await {
                Ok(_) => Ok(Contact::Reached { remark: None }),
                Err(error) if error.is_refused_here() => Err(Missing(error.to_string())),
                Err(error) if error.reached() == Some(true) => Ok(Contact::Reached { remark: Some(error.to_string()) }),
                Err(error) => Ok(Contact::not_reached(error.to_string())),
            }
        }
        .boxed()
    }
}
