//! `memory update` and `memory feedback`.

use a2a_core::ids::{Actor, MemoryId, Revision};
use a2a_core::memory::experience::Personality;
use a2a_engine::config::Config;
use a2a_engine::hub::{Durability, Feedback, MemoryUpdate};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::error::{CliError, Exit};
use super::super::{argument, open, output};
use super::{score, teller};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The memory's id, or the unique beginning of it
    id: String,
    /// The fields to replace: a JSON object, or @FILE; null clears a field
    #[arg(long, value_name = "JSON", required = true)]
    set: String,
    /// Do it only when the memory has this revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    expected_revision: Option<Revision>,
    /// Cut out what looks like a secret instead of refusing it
    #[arg(long)]
    redact: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct FeedbackArgs {
    /// A memory, which becomes more or less important; its agent learns by it
    #[arg(long, value_name = "ID", required_unless_present = "agent", conflicts_with = "agent")]
    memory: Option<String>,
    /// An agent, for its work
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// -1 (useless) to 1 (just right)
    #[arg(long, value_name = "N", required = true, allow_negative_numbers = true, value_parser = score)]
    score: f32,
    /// In words; kept as a preference about the agent
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What came of feedback, for programs.
#[derive(Serialize)]
struct Taken<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    importance: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    personality: Option<Personality>,
    /// The memory that keeps the comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    durability: Durability,
}

pub(super) async fn update(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let set = match argument::json(&args.set, "--set")? {
        Value::Object(fields) if !fields.is_empty() => fields,
        _ => {
            let text = "--set must be a JSON object of the fields to change, such as '{\"importance\": 0.9}'";
            return Err(CliError::Usage(text.to_owned()));
        }
    };
    let replaces = set.contains_key("content");
    let update = MemoryUpdate {
        namespace: None,
        expected_revision: args.expected_revision,
        set,
        feedback: None,
        redact: args.redact,
    };
    let hub = open(config).await?;
    let updated = hub.memory_update(&args.id, &update, teller(), actor).await;
    let durability = hub.durability();
    hub.close().await;
    let updated = updated?;
    let memory = &updated.memory;
    let status = match (replaces, updated.changed) {
        (true, _) => "replaced",
        (false, true) => "updated",
        (false, false) => "unchanged",
    };
    if args.json {
        let shown = json!({
            "id": memory.id, "status": status, "revision": memory.revision, "durability": durability,
            "superseded": memory.spec.supersedes.iter().filter(|_| replaces).collect::<Vec<_>>(),
        });
        output::json(&shown)?;
        return Ok(Exit::Done);
    }
    output::text(&match status {
        "replaced" => format!("{} took the place of {}\n", memory.id, args.id),
        status => format!("{status} {} at revision {}\n", memory.id, memory.revision),
    })?;
    Ok(Exit::Done)
}

pub(super) async fn feedback(args: FeedbackArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let feedback = Feedback { score: args.score, comment: args.comment };
    let hub = open(config).await?;
    let taken = match (args.memory, args.agent) {
        (Some(id), _) => {
            let update = MemoryUpdate { feedback: Some(feedback.clone()), ..MemoryUpdate::default() };
            hub.memory_update(&id, &update, teller(), actor)
                .await
                .map(|updated| (Some(updated.memory), updated.experience, updated.comment))
        }
        (None, agent) => hub
            .agent_feedback(None, &agent.unwrap_or_default(), &feedback, teller(), actor)
            .await
            .map(|(experience, comment)| (None, Some(experience), comment)),
    };
    let durability = hub.durability();
    hub.close().await;
    let (memory, experience, comment) = taken?;
    if args.json {
        output::json(&Taken {
            memory: memory.as_ref().map(|memory| memory.id.as_str()),
            revision: memory.as_ref().map(|memory| memory.revision),
            importance: memory.as_ref().map(|memory| memory.spec.importance),
            agent: experience.as_ref().map(|experience| experience.agent.id.as_str()),
            personality: experience.as_ref().map(|experience| experience.personality),
            comment: comment.as_ref().map(MemoryId::as_str),
            durability,
        })?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    if let Some(memory) = &memory {
        let importance = memory.spec.importance;
        text.push_str(&format!("{} has the importance {importance} at revision {}\n", memory.id, memory.revision));
    }
    if let Some(experience) = &experience {
        let who = &experience.personality;
        text.push_str(&format!(
            "{} has learned: confidence {:.2}, caution {:.2}, thoroughness {:.2}, creativity {:.2}, cooperation {:.2}\n",
            experience.agent.id, who.confidence, who.caution, who.thoroughness, who.creativity, who.cooperation
        ));
    }
    if let Some(comment) = &comment {
        text.push_str(&format!("the comment is kept as {comment}\n"));
    }
    output::text(&text)?;
    if feedback.comment.is_some() && comment.is_none() {
        output::note("the comment was not kept: the memory is of no agent");
    }
    Ok(Exit::Done)
}
