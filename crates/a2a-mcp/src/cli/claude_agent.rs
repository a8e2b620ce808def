//! Subagent files of Claude Code: front matter and a body, from and to agent documents.
//!
//! The front matter is kept as it was written, in `config.claude_agent`, so that what nobody has changed is written back
//! byte for byte, keys that we don't know included. What was changed since is replaced, line by line.

use std::path::{Component, Path, PathBuf};

use a2a_core::agent::{AgentSpec, ExecutorKind};
use a2a_core::agent_document::DEFAULT_CATEGORY;
use a2a_core::limits::CATEGORY_CHARS_MAX;
use serde_json::{Map, Value, json};

use super::documents;

/// Where the configuration of an agent holds what only Claude Code knows.
const CONFIG: &str = "claude_agent";
/// The line that begins and ends the front matter.
const FENCE: &str = "---";
/// Keys of the front matter that an agent document holds too, in the order in which they are written.
const KNOWN: [&str; 5] = ["name", "description", "tools", "model", "color"];

/// Reads a file; `path` is where it lies in its folder. `None` is a file without front matter, which is no agent.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(text: &str, path: &Path) -> Result<Option<Value>, String> {
    let Some((head, body)) = split(text)? else { return Ok(None) };
    let mut fields = Map::new();
    for entry in entries(head)? {
        if fields.insert(entry.key.to_owned(), entry.value).is_some() {
            return Err(format!("{:?} stands twice in the front matter", entry.key));
        }
    }
    let text_of = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{key} in the front matter must be a text")),
    };
    let name = text_of("name")?.ok_or("the front matter lacks name, by which Claude Code calls the agent")?;
    let description =
        text_of("description")?.ok_or("the front matter lacks description, by which Claude Code chooses the agent")?;
    let id = id_of(&name)
        .ok_or_else(|| format!("the name {name:?} has nothing that an id may hold: A-Z a-z 0-9 . _ : -"))?;
    let mut kept = Map::from_iter([("front_matter".to_owned(), Value::from(head))]);
    if let Some(path) = path.to_str().filter(|path| !path.is_empty()) {
        kept.insert("file".to_owned(), Value::from(path));
    }
    if let Some(tools) = fields.get("tools").and_then(tools) {
        kept.insert("tools".to_owned(), Value::from(tools));
    }
    for key in ["model", "color"] {
        if let Some(value) = text_of(key)? {
            kept.insert(key.to_owned(), Value::from(value));
        }
    }
    Ok(Some(json!({
        "id": id,
        "name": name.trim(),
        "description": description,
        "category": category(path),
        "instructions": body,
        "config": {CONFIG: kept},
    })))
}

/// Writes the file of an agent.
///
/// # Errors
/// Why it can't be one.
pub(crate) fn write(spec: &AgentSpec) -> Result<String, String> {
    if spec.executor.kind != ExecutorKind::Pull {
        let kind = spec.executor.kind;
        return Err(format!(
            "its work is done by its {kind} executor and not by a session, which such a file can't say"
        ));
    }
    let config = spec.config.value().map_err(|error| format!("its configuration can't be read: {error}"))?;
    let kept = config.get(CONFIG).and_then(Value::as_object);
    let get = |key: &str| kept.and_then(|kept| kept.get(key)).cloned().unwrap_or(Value::Null);
    // A name that would come back under another id is shown to people only.
    let name = if id_of(&spec.name).as_deref() == Some(spec.id.as_str()) { &*spec.name } else { spec.id.as_str() };
    let now = |key: &str| match key {
        "name" => Value::from(name),
        "description" => Value::from(&*spec.description),
        _ => get(key),
    };
    let head = get("front_matter");
    let head =
        head.as_str().filter(|head| split(head).is_ok_and(|parts| parts.is_some_and(|(_, rest)| rest.is_empty())));
    let head = head.unwrap_or("---\n---\n");
    let newline = if head.contains("\r\n") { "\r\n" } else { "\n" };
    let first = head.find('\n').map_or(head.len(), |end| end + 1);
    let last = head.trim_end().rfind(FENCE).unwrap_or(head.len());
    let mut text = head.get(..first).unwrap_or_default().to_owned();
    let mut missing: Vec<&str> = KNOWN.to_vec();
    let entries = entries(head)?;
    // Comments before the first key belong to none.
    let before = entries.first().map_or(head.get(first..last), |entry| head.get(first..entry.start));
    text.push_str(before.unwrap_or_default());
    for entry in &entries {
        missing.retain(|key| *key != entry.key);
        if KNOWN.contains(&entry.key) {
            let (then, now) = (shown(entry.key, &entry.value), shown(entry.key, &now(entry.key)));
            if then != now {
                line(&mut text, entry.key, &now, newline);
                continue;
            }
        }
        text.push_str(entry.text);
    }
    for key in missing {
        line(&mut text, key, &shown(key, &now(key)), newline);
    }
    text.push_str(head.get(last..).unwrap_or_default());
    text.push_str(&spec.instructions);
    Ok(text)
}

/// Where the file of an agent goes in a folder. What the configuration says counts only when it leads into the folder.
pub(crate) fn file(spec: &AgentSpec) -> PathBuf {
    let config = spec.config.value().unwrap_or_default();
    let kept = config.get(CONFIG).and_then(|kept| kept.get("file")).and_then(Value::as_str).map(Path::new);
    let is_inside = |path: &&Path| {
        path.components().all(|part| matches!(part, Component::Normal(_)))
            && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md"))
    };
    let own = || PathBuf::from(format!("{}.md", spec.id));
    kept.filter(is_inside).map_or_else(own, Path::to_owned)
}

/// The front matter with its fences, and the body.
fn split(text: &str) -> Result<Option<(&str, &str)>, String> {
    let mut end = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        end += line.len();
        let is_fence = line.trim_end() == FENCE;
        match (number, is_fence) {
            (0, true) => {}
            // Some editors begin files with this mark.
            (0, false) if line.trim_start_matches('\u{feff}').trim_end() == FENCE => {}
            (0, false) => return Ok(None),
            (_, true) => return Ok(text.split_at_checked(end)),
            (_, false) => {}
        }
    }
    if text.is_empty() { Ok(None) } else { Err("the front matter has no end: a line of --- is missing".to_owned()) }
}

/// A key of the front matter with the lines that belong to it.
struct Entry<'t> {
    key: &'t str,
    value: Value,
    text: &'t str,
    /// Where it begins in the front matter.
    start: usize,
}

fn entries(head: &str) -> Result<Vec<Entry<'_>>, String> {
    let mut found: Vec<(usize, usize, &str)> = Vec::new();
    let mut end = 0;
    for (number, line) in head.split_inclusive('\n').enumerate() {
        let start = end;
        end += line.len();
        let is_fence = number == 0 || line.trim_end() == FENCE;
        let key = line.split_once(':').map(|(key, _)| key).filter(|key| is_key(key));
        match (key, found.last_mut()) {
            _ if is_fence => {}
            (Some(key), _) => found.push((start, end, key)),
            (None, Some(last)) if line.starts_with([' ', '\t', '-', '#']) || line.trim().is_empty() => last.1 = end,
            (None, None) if line.starts_with('#') || line.trim().is_empty() => {}
            (None, _) => {
                return Err(format!("line {} of the front matter is not `key: value`", number + 1));
            }
        }
    }
    let entry = |(start, end, key)| {
        let text = head.get(start..end).unwrap_or_default();
        Entry { key, value: value(key, text), text, start }
    };
    Ok(found.into_iter().map(entry).collect())
}

fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// What a key says. Many files hold text that is not YAML, such as a colon and a space in a description; Claude Code
/// takes it as it stands, and so do we.
fn value(key: &str, text: &str) -> Value {
    let as_written = || text.get(key.len() + 1..).unwrap_or_default().trim();
    let parsed = documents::parse_yaml(text.as_bytes()).ok().and_then(|mut documents| documents.pop());
    match parsed.and_then(|mut document| document.as_object_mut().and_then(|fields| fields.remove(key))) {
        // A name such as 42 or true is a text here.
        Some(Value::Bool(_) | Value::Number(_)) | None => Value::from(as_written()),
        Some(value) => value,
    }
}

/// What is compared and written: tools in one line, other values as they are.
fn shown(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("tools", value) => tools(value).map_or(Value::Null, |tools| Value::from(tools.join(", "))),
        ("name", Value::String(name)) => Value::from(name.trim()),
        (_, value) => value.clone(),
    }
}

/// `key: value` in the way that every reader takes for the same text.
fn line(text: &mut String, key: &str, value: &Value, newline: &str) {
    let Some(value) = value.as_str() else { return };
    let plain = format!("{key}: {value}{newline}");
    let read = documents::parse_yaml(plain.as_bytes()).ok().and_then(|mut documents| documents.pop());
    let is_plain = !value.contains(['\n', '\r']) && read.is_some_and(|read| read.get(key).is_some_and(|v| v == value));
    if is_plain { text.push_str(&plain) } else { text.push_str(&format!("{key}: {}{newline}", Value::from(value))) }
}

/// Names of tools, of a list or of a text with commas; those inside of parentheses belong to one tool.
fn tools(value: &Value) -> Option<Vec<String>> {
    let text = match value {
        Value::String(text) => text,
        Value::Array(items) => {
            return Some(items.iter().filter_map(Value::as_str).map(|tool| tool.trim().to_owned()).collect());
        }
        _ => return None,
    };
    let mut depth = 0_usize;
    let parts = text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    Some(parts.map(str::trim).filter(|tool| !tool.is_empty()).map(str::to_owned).collect())
}

/// The id for a name: the name itself where it may be one.
pub(crate) fn id_of(name: &str) -> Option<String> {
    let name = name.trim();
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    if name.chars().all(is_fit) {
        return (!name.is_empty()).then(|| name.to_owned());
    }
    let words: Vec<&str> = name.split(|c| !is_fit(c)).filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join("-"))
}

/// The folder in which a file lies, without the number that orders it.
fn category(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let bare = folder.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(['-', '_', '.', ' ']);
    let name = if bare.is_empty() { folder } else { bare };
    let fits = !name.trim().is_empty() && name.chars().count() <= CATEGORY_CHARS_MAX;
    if fits { name.to_owned() } else { DEFAULT_CATEGORY.to_owned() }
}

#[cfg(test)]
mod tests;
