//! Commands that the operator's file names.
//!
//! The agent gives nothing but the name of an entry. The program is started by its absolute path with the arguments of
//! that entry, without a shell, with no other environment than that of the entry, in a process group of its own. It
//! gets one line of JSON on its standard input: `run`, `step`, `attempt`, `idempotency_key`, `namespace`, `agent`,
//! `capability`, `input`, and `answer` when a question was answered.
//!
//! | the program | the step |
//! |---|---|
//! | exits with 0 and has written JSON | is done, with that as output |
//! | exits with 0 and has written other text | is done, with `{"text": ...}` as output; null when it has written nothing |
//! | exits with 0 and has written what is not text | fails for good |
//! | exits with 75 (`EX_TEMPFAIL` of `sysexits.h`) | fails, and is tried again |
//! | exits with any other code | fails for good |
//! | is ended by a signal, or takes too long | fails, and is tried again |
//! | writes more than it may | is killed, and the step fails for good |
//!
//! Whatever way it ends, the whole process group is killed then. What has left the group by itself (`setsid`) is not
//! found any more; it is waited for no longer than for a second.

#[cfg(unix)]
pub(super) mod process;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Contact, Done, Execute, Missing, StepContext, StepWork, text_setting};
use crate::operator::{CommandEntry, OperatorFile};

/// The executor of the kind `command`.
pub(super) struct Command {
    operator: Arc<OperatorFile>,
}

impl Command {
    pub(super) fn new(operator: Arc<OperatorFile>) -> Self {
        Self { operator }
    }

    fn entry(&self, settings: &Value) -> Result<&CommandEntry, Missing> {
        let name = text_setting(settings, "name")?;
        self.operator.commands.get(name).ok_or_else(|| {
            Missing(format!(
                "there is no command {name:?}; to allow it, describe it under commands in {}",
                self.operator.place()
            ))
        })
    }
}

impl Execute for Command {
    fn can_run(&self, settings: &Value) -> Result<(), Missing> {
        if cfg!(not(unix)) {
            return Err(Missing("commands are not run on this operating system".to_owned()));
        }
        self.entry(settings).map(|_| ())
    }

    #[cfg(unix)]
    fn execute(&self, work: StepWork, context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        async move {
            match self.entry(&work.settings()) {
                Ok(entry) => process::run(entry, &work, &*context).await,
                Err(missing) => missing.into(),
            }
        }
        .boxed()
    }

    #[cfg(unix)]
    fn check<'s>(&'s self, settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        async move {
            let program = self.entry(settings)?.argv.first().cloned().unwrap_or_default();
            // The file may be on a network that hangs.
            let looked = tokio::task::spawn_blocking(move || process::look_at(&program)).await;
            Ok(match looked {
                Ok(Ok(())) => Contact::Reached { remark: None },
                Ok(Err(reason)) => Contact::NotReached { reason },
                Err(error) => Contact::not_reached(error.to_string()),
            })
        }
        .boxed()
    }

    #[cfg(not(unix))]
    fn check<'s>(&'s self, settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        async move { Err(self.can_run(settings).err().unwrap_or(Missing("it is not run here".to_owned()))) }.boxed()
    }

    #[cfg(not(unix))]
    fn execute(&self, work: StepWork, _context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        async move { Done::failed(format!("the command of {} is not run here", work.agent)) }.boxed()
    }
}
