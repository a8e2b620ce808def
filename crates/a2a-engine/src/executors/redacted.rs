//! What others say on its way out of the executors: without the secrets of the operator's file.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{ClaimLost, Contact, Done, StepContext};
use crate::operator::Redaction;

/// Ids in notes that this server has made itself, and that must stay what they are.
const OWN_IDS: &str = "message_id";

/// The way back into the run of an executor that speaks with others.
pub(super) struct Redacted {
    pub(super) context: Arc<dyn StepContext>,
    pub(super) redaction: Redaction,
}

impl StepContext for Redacted {
    fn checkpoint(&self, mut value: Value) -> BoxFuture<'_, Result<(), ClaimLost>> {
        note(&self.redaction, &mut value);
        self.context.checkpoint(value)
    }

    fn progress(&self, message: &str, percent: Option<u8>) {
        self.context.progress(&self.redaction.text(message), percent);
    }

    fn contact(&self, reached: Result<(), &str>) {
        match reached {
            Ok(()) => self.context.contact(Ok(())),
            Err(reason) => self.context.contact(Err(&self.redaction.text(reason))),
        }
    }

    fn cancelled(&self) -> CancellationToken {
        self.context.cancelled()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.context.closed()
    }

    fn goes_on(&self) -> BoxFuture<'_, bool> {
        async move { self.context.goes_on().await }.boxed()
    }
}

/// How an attempt has ended.
pub(super) fn done(redaction: &Redaction, done: Done) -> Done {
    let text = |text: String| redaction.text(&text).into_owned();
    match done {
        Done::Completed(mut output) => {
            redaction.value(&mut output);
            Done::Completed(output)
        }
        Done::Failed { error, retryable } => Done::Failed { error: text(error), retryable },
        Done::Ask { question, mut schema, mut checkpoint } => {
            schema.iter_mut().for_each(|schema| redaction.value(schema));
            checkpoint.iter_mut().for_each(|checkpoint| note(redaction, checkpoint));
            Done::Ask { question: text(question), schema, checkpoint }
        }
        Done::Released => Done::Released,
    }
}

/// What came of a contact.
pub(super) fn contact(redaction: &Redaction, contact: Contact) -> Contact {
    let text = |text: String| redaction.text(&text).into_owned();
    match contact {
        Contact::Reached { remark } => Contact::Reached { remark: remark.map(text) },
        Contact::NotReached { reason } => Contact::NotReached { reason: text(reason) },
    }
}

fn note(redaction: &Redaction, note: &mut Value) {
    let own = note.get(OWN_IDS).cloned();
    redaction.value(note);
    if let (Some(own), Some(field)) = (own, note.get_mut(OWN_IDS)) {
        *field = own;
    }
}
