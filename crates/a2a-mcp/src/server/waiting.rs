//! Tells a session, with the replies to other calls, that work waits for the agents it may work as: nothing wakes a model
//! that nobody talks to.

use std::time::{Duration, Instant};

use a2a_engine::hub::Hub;
use parking_lot::Mutex;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::Value;

/// The same line is not told again for so long.
const QUIET: Duration = Duration::from_secs(60);

/// While work waits it is counted at most this often: the count may have many steps to go through.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// What a session was told last.
#[derive(Debug, Default)]
pub(super) struct WaitingWork {
    last: Mutex<Option<Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    counted_at: Instant,
    line: String,
}

impl WaitingWork {
    /// Adds the line to a reply when there is something new to tell.
    pub(super) fn tell(&self, hub: &Hub, tool: &str, result: &mut CallToolResult) {
        // Who asks for work hears of it anyway.
        if tool.starts_with("work_") {
            return;
        }
        if self.last.lock().as_ref().is_some_and(|last| last.counted_at.elapsed() < COUNT_INTERVAL) {
            return;
        }
        let (count, agents) = hub.work_waiting(None);
        if count == 0 {
            return;
        }
        let agents: Vec<&str> = agents.iter().map(|agent| agent.as_str()).collect();
        let (steps, wait) = if count == 1 { ("step", "waits") } else { ("steps", "wait") };
        let line = format!("{count} {steps} {wait} for agents you may work as ({}): call work_next", agents.join(", "));
        {
            let mut last = self.last.lock();
            let now = Instant::now();
            if let Some(last) = last.as_mut().filter(|last| last.line == line && last.at.elapsed() < QUIET) {
                last.counted_at = now;
                return;
            }
            *last = Some(Told { at: now, counted_at: now, line: line.clone() });
        }
        result.content.push(ContentBlock::text(line.clone()));
        // Many clients show a model nothing but the structured result.
        if let Some(Value::Object(fields)) = &mut result.structured_content {
            fields.insert("work_waiting".to_owned(), Value::from(line));
        }
    }
}
