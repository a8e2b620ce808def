//! What an attempt notes, so that the next one goes on where it stood.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::card::Interface;

/// How far the exchange with an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The message is about to be sent, or was. Nothing is known of an answer.
    Sending,
    /// The agent has it, and works on the task.
    Waiting,
    /// The agent waits for the answer to its question.
    Asked,
}

/// The state of the exchange. Committed before each thing that must not happen twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) phase: Phase,
    /// The message that is sent, or was sent last.
    pub(super) message_id: String,
    /// Where the task is. The card may name another place by the time that this is read.
    pub(super) interface: Interface,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) context_id: Option<String>,
    /// The question that was asked last, to tell it from the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<Question>,
}

/// Tells one question of an agent from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<String>,
}

impl Question {
    /// Whether there is anything to tell it by.
    pub(super) fn is_some_question(&self) -> bool {
        self.message_id.is_some() || self.timestamp.is_some()
    }
}

impl Checkpoint {
    /// Before anything was sent.
    pub(super) fn new(message_id: String, interface: Interface) -> Self {
        Self { phase: Phase::Sending, message_id, interface, task_id: None, context_id: None, asked: None }
    }

    pub(super) fn read(stored: &Value) -> Result<Self, String> {
        Self::deserialize(stored).map_err(|error| format!("the note of an earlier attempt can't be read: {error}"))
    }

    pub(super) fn to_value(&self) -> Value {
        // All of it is text, which serialises always.
        serde_json::to_value(self).unwrap_or_default()
    }
}
