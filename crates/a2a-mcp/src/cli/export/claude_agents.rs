//! `export claude-agents`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use a2a_engine::config::Config;
use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::{claude_agent, open, output};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder that the files go into; made when it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Ids of the agents [default: all of the namespace]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Overwrite files that differ
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Item {
    id: String,
    /// written, unchanged, skipped or failed.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    written: usize,
    unchanged: usize,
    skipped: usize,
    failed: usize,
    agents: Vec<Item>,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let agents = super::agents(&hub, &args.ids).await;
    hub.close().await;
    let mut items = Vec::new();
    for agent in agents? {
        let (mut file, mut message) = (None, None);
        let status = match claude_agent::write(&agent.spec) {
            Err(reason) => {
                message = Some(reason);
                "skipped"
            }
            Ok(text) => {
                let path = args.folder.join(claude_agent::file(&agent.spec));
                file = Some(path.display().to_string());
                put(&path, &text, args.force).unwrap_or_else(|reason| {
                    message = Some(reason);
                    "failed"
                })
            }
        };
        items.push(Item { id: agent.spec.id.to_string(), status, file, message });
    }
    tell(items, args.json)
}

/// Writes a file beside its place first, so that whoever reads it sees it whole.
fn put(path: &Path, text: &str, force: bool) -> Result<&'static str, String> {
    let wrong = |error: std::io::Error| format!("can't be written: {error}");
    match std::fs::read(path) {
        Ok(there) if there == text.as_bytes() => return Ok("unchanged"),
        Ok(_) if !force => return Err("is there and differs; overwrite it with --force".to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = folder.join(name);
    let mut file = std::fs::File::create(&partial).map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&partial, path)).map_err(wrong)?;
    Ok("written")
}

fn tell(agents: Vec<Item>, as_json: bool) -> Result<Exit, CliError> {
    let count = |status: &str| agents.iter().filter(|item| item.status == status).count();
    let (written, unchanged) = (count("written"), count("unchanged"));
    let (skipped, failed) = (count("skipped"), count("failed"));
    let exit = if failed == 0 { Exit::Done } else { Exit::Failed };
    if as_json {
        output::json(&Summary { written, unchanged, skipped, failed, agents })?;
        return Ok(exit);
    }
    for Item { id, status, file, message } in &agents {
        if let Some(message) = message {
            let place = file.as_deref().unwrap_or(id);
            let word = if *status == "failed" { "error" } else { status };
            output::note(&format!("{word}: {place}: {message}"));
        }
    }
    output::text(&format!("{written} written, {unchanged} unchanged, {skipped} skipped, {failed} failed\n"))?;
    Ok(exit)
}
