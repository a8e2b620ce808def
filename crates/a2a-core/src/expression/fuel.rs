//! The work and the memory that evaluations may use, and what values cost.

use std::io;

use serde_json::Value;

use crate::expression::error::{ExpressionError, ExpressionErrorKind};
use crate::limits::JSON_DEPTH_MAX;

/// Elementary steps of all evaluations of one transition: a node, an item of a list, a comparison, 64 bytes of text.
/// Some tens of nanoseconds each, so that the worst transition holds its thread for a fraction of a second.
const STEPS_MAX: u64 = 1_000_000;
/// Bytes that all evaluations of one transition may allocate, counted when they are taken and never given back: so the
/// memory in use at any moment is below it.
const MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Largest text or result as compact JSON.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of text that cost one step.
const BYTES_PER_STEP: usize = 64;
/// What an allocation costs beside its bytes.
const ALLOCATION_BYTES: usize = 16;
/// A node of the map that `serde_json` keeps objects in is allocated whole, with room for eleven entries.
const OBJECT_BYTES: usize = 12 * (size_of::<String>() + size_of::<Value>());
/// What an entry needs in a map whose nodes are at least half full, its share of the inner nodes included.
const ENTRY_BYTES: usize = 3 * (size_of::<String>() + size_of::<Value>());

/// What is left of the work and the memory that the evaluations of one transition may use together.
#[derive(Debug, Clone)]
pub struct Fuel {
    steps: u64,
    memory_bytes: u64,
}

impl Default for Fuel {
    fn default() -> Self {
        Self::new()
    }
}

impl Fuel {
    /// What one transition may use.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limits(STEPS_MAX, MEMORY_BYTES_MAX)
    }

    /// Other limits than those of a transition.
    #[must_use]
    pub const fn with_limits(steps: u64, memory_bytes: u64) -> Self {
        Self { steps, memory_bytes }
    }

    /// Steps that are left.
    #[must_use]
    pub const fn steps_left(&self) -> u64 {
        self.steps
    }

    /// Bytes that may still be allocated.
    #[must_use]
    pub const fn memory_bytes_left(&self) -> u64 {
        self.memory_bytes
    }

    /// Takes steps before they are done. Once there are too few, nothing is left: the next evaluation fails at once.
    pub(super) fn work(&mut self, steps: usize) -> Result<(), ExpressionError> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        if let Some(left) = self.steps.checked_sub(steps) {
            self.steps = left;
            return Ok(());
        }
        self.steps = 0;
        Err(ExpressionError::new(
            ExpressionErrorKind::Fuel,
            "the expressions of this step do more work than is allowed; work on shorter lists and texts, or let an \
             agent compute it in a step of its own",
        ))
    }

    /// Takes the work of going through a text once.
    pub(super) fn work_text(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        self.work(1 + bytes / BYTES_PER_STEP)
    }

    /// Takes memory before it is allocated.
    pub(super) fn memory(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        let bytes = u64::try_from(bytes.saturating_add(ALLOCATION_BYTES)).unwrap_or(u64::MAX);
        if let Some(left) = self.memory_bytes.checked_sub(bytes) {
            self.memory_bytes = left;
            return Ok(());
        }
        self.memory_bytes = 0;
        Err(ExpressionError::new(
            ExpressionErrorKind::Fuel,
            "the expressions of this step build more data than is allowed; pass on only the fields that are needed, or \
             refer to large data by its name",
        ))
    }

    /// Takes what a new text of a length costs, which may not be longer than a value.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        if bytes > VALUE_BYTES_MAX {
            return Err(too_large());
        }
        self.work_text(bytes)?;
        self.memory(bytes)
    }

    /// Appends to a text that may not become longer than a value may be.
    pub(super) fn append_text(&mut self, text: &mut String, part: &str) -> Result<(), ExpressionError> {
        if text.len().saturating_add(part.len()) > VALUE_BYTES_MAX {
            return Err(too_large());
        }
        self.text(part.len())?;
        // A growing text holds twice its length, and for a moment what it held before as well.
        self.memory(part.len().saturating_mul(2))?;
        text.push_str(part);
        Ok(())
    }

    /// Takes what a new list of so many items costs, without what the items hold.
    pub(super) fn slots<T>(&mut self, items: usize) -> Result<(), ExpressionError> {
        self.work(1 + items)?;
        self.memory(items.saturating_mul(size_of::<T>()))
    }

    /// Takes what a new entry of an object costs, without what its value holds.
    pub(super) fn entry(&mut self, key: &str) -> Result<(), ExpressionError> {
        self.work_text(key.len())?;
        self.memory(ENTRY_BYTES + key.len())
    }

    /// Takes what a new object costs, without its entries.
    pub(super) fn object(&mut self) -> Result<(), ExpressionError> {
        self.memory(OBJECT_BYTES)
    }

    /// Takes what a deep copy of a value costs.
    pub(super) fn copy(&mut self, value: &Value) -> Result<(), ExpressionError> {
        self.copy_at(value, 0)
    }

    fn copy_at(&mut self, value: &Value, depth: usize) -> Result<(), ExpressionError> {
        // Data is no deeper than the limit on what is accepted; a margin is left for what expressions put around it.
        if depth > 4 * JSON_DEPTH_MAX {
            return Err(too_deep());
        }
        self.work(1)?;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) => {
                self.work_text(text.len())?;
                self.memory(text.len())
            }
            Value::Array(items) => {
                self.slots::<Value>(items.len())?;
                items.iter().try_for_each(|item| self.copy_at(item, depth + 1))
            }
            Value::Object(entries) => {
                self.object()?;
                entries.iter().try_for_each(|(key, item)| {
                    self.entry(key)?;
                    self.copy_at(item, depth + 1)
                })
            }
        }
    }

    /// Takes what parsing a JSON text may cost at most.
    pub(super) fn parse(&mut self, text: &str) -> Result<(), ExpressionError> {
        let count = |byte: u8| text.bytes().filter(|b| *b == byte).count();
        self.work_text(text.len())?;
        let (objects, lists, commas) = (count(b'{'), count(b'['), count(b','));
        // Every value but the first of its list or object follows a comma. A growing list holds up to four times what
        // it needs while it moves, and its first allocation has room for four items.
        let slots = commas.saturating_add(lists.saturating_mul(4)).saturating_add(objects).saturating_add(1);
        self.work(slots)?;
        self.memory(objects.saturating_mul(OBJECT_BYTES))?;
        self.memory(slots.saturating_mul(4 * size_of::<Value>() + ENTRY_BYTES))?;
        self.memory(text.len().saturating_mul(2))
    }

    /// Checks that a value may leave: not larger than a value may be, nor nested deeper than what is accepted.
    pub(super) fn result(&mut self, value: &Value) -> Result<(), ExpressionError> {
        if depth_beyond(value, JSON_DEPTH_MAX) {
            return Err(too_deep());
        }
        self.json_bytes(value).map(|_| ())
    }

    /// The length of a value as compact JSON, when it is not longer than a value may be.
    pub(super) fn json_bytes(&mut self, value: &Value) -> Result<usize, ExpressionError> {
        self.counted(|counter| serde_json::to_writer(counter, value))
    }

    /// The length of a value as indented JSON, when it is not longer than a value may be.
    pub(super) fn json_bytes_indented(&mut self, value: &Value) -> Result<usize, ExpressionError> {
        self.counted(|counter| serde_json::to_writer_pretty(counter, value))
    }

    fn counted(
        &mut self,
        write: impl FnOnce(&mut Counter) -> Result<(), serde_json::Error>,
    ) -> Result<usize, ExpressionError> {
        let mut counter = Counter { left: VALUE_BYTES_MAX };
        let written = write(&mut counter);
        let bytes = VALUE_BYTES_MAX - counter.left;
        // Taken afterwards, because only the writing tells how much it is; the writer stops at the largest value.
        self.work_text(bytes.saturating_mul(4))?;
        if written.is_err() { Err(too_large()) } else { Ok(bytes) }
    }
}

fn too_large() -> ExpressionError {
    ExpressionError::size(format!(
        "the value is larger than {VALUE_BYTES_MAX} bytes; pass on only what is needed, for example with `truncate`, \
         `[0:20]` or `map(attribute=\"title\")`"
    ))
}

fn too_deep() -> ExpressionError {
    ExpressionError::size(format!(
        "the value is nested deeper than {JSON_DEPTH_MAX} levels; flatten it, or pass the inner part as text with `tojson`"
    ))
}

fn depth_beyond(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| depth_beyond(item, levels - 1)),
        Value::Object(entries) => levels == 0 || entries.values().any(|item| depth_beyond(item, levels - 1)),
        _ => false,
    }
}

/// Counts what is written and stops the writer when it is too much.
struct Counter {
    left: usize,
}

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
