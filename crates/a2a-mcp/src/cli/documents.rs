//! Reads agent documents from files, folders and standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use a2a_core::json;
use serde_json::Value;

/// The largest file that is read; more agents go into several files.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Deeper folders are hardly meant.
const FOLDER_DEPTH_MAX: usize = 32;
/// Nodes of a YAML file: as many as the largest file can hold in practice. Expanded references count.
const YAML_NODES_MAX: usize = 8_000_000;
/// Lists and objects inside of each other in a YAML file. JSON inside of agents has its own, lower limit.
const YAML_DEPTH_MAX: usize = 128;

/// A document, or what is in its place.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file and the position in it, such as `agents/data.yaml[3]`.
    pub(crate) place: String,
    /// The document, or why there is none.
    pub(crate) document: Result<Value, String>,
}

/// What is read: a file, one of a folder, or standard input.
pub(crate) struct Input {
    /// What error texts call it.
    pub(crate) place: String,
    /// Its name, or its path within the folder that was named.
    pub(crate) path: PathBuf,
    /// What it holds, or why it was not read.
    pub(crate) bytes: Result<Vec<u8>, String>,
}

/// Reads all documents of files, folders and `-`, in the order of the arguments and of names.
pub(crate) fn read(paths: &[PathBuf]) -> Vec<Source> {
    let mut sources = Vec::new();
    let wanted = Wanted { extensions: &["yaml", "yml", "json"], named: "*.yaml, *.yml or *.json" };
    inputs(paths, wanted, &mut |input| {
        let kind = Kind::of(&input.path).unwrap_or(Kind::Unknown);
        add(&mut sources, &input.place, kind, input.bytes);
    });
    sources
}

/// Reads all documents of files, folders and `-`, which are JSON.
pub(crate) fn read_json(paths: &[PathBuf]) -> Vec<Source> {
    let mut sources = Vec::new();
    let wanted = Wanted { extensions: &["json"], named: "*.json" };
    inputs(paths, wanted, &mut |input| add(&mut sources, &input.place, Kind::Json, input.bytes));
    sources
}

/// Reads all documents of files, folders and `-`, which are YAML.
pub(crate) fn read_yaml(paths: &[PathBuf]) -> Vec<Source> {
    let mut sources = Vec::new();
    let wanted = Wanted { extensions: &["yaml", "yml"], named: "*.yaml or *.yml" };
    inputs(paths, wanted, &mut |input| add(&mut sources, &input.place, Kind::Yaml, input.bytes));
    sources
}

/// The files of a folder that are meant.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// How their names end, in small letters.
    pub(crate) extensions: &'static [&'static str],
    /// The same for people.
    pub(crate) named: &'static str,
}

impl Wanted {
    fn is_met(self, path: &Path) -> bool {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| self.extensions.iter().any(|wanted| extension.eq_ignore_ascii_case(wanted)))
    }
}

/// Reads files, the wanted ones of folders, and `-`, one after the other, in the order of the arguments and of names.
pub(crate) fn inputs(paths: &[PathBuf], wanted: Wanted, each: &mut dyn FnMut(Input)) {
    for path in paths {
        if path.as_os_str() == "-" {
            each(Input { place: "standard input".to_owned(), path: PathBuf::new(), bytes: read_stdin() });
        } else if path.is_dir() {
            let mut count = 0;
            read_folder(path, Path::new(""), 0, wanted, &mut |input| {
                count += 1;
                each(input);
            });
            if count == 0 {
                each(failed(path, format!("holds no {} file", wanted.named)));
            }
        } else {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            each(Input { place: path.display().to_string(), path: name, bytes: read_file(path) });
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Json,
    Yaml,
    Unknown,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

fn failed(path: &Path, reason: String) -> Input {
    Input { place: path.display().to_string(), path: path.to_owned(), bytes: Err(reason) }
}

/// Reads the files of a folder and of those in it, by name. Hidden ones are left out, and so are links to folders,
/// which may lead back.
fn read_folder(folder: &Path, within: &Path, depth: usize, wanted: Wanted, each: &mut dyn FnMut(Input)) {
    if depth > FOLDER_DEPTH_MAX {
        let reason = format!("lies more than {FOLDER_DEPTH_MAX} folders deep; name it by itself");
        return each(failed(folder, reason));
    }
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return each(failed(folder, format!("the folder can't be read: {error}"))),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            read_folder(&path, &within.join(name), depth + 1, wanted, each);
        } else if wanted.is_met(&path) && !path.is_dir() {
            each(Input { place: path.display().to_string(), path: within.join(name), bytes: read_file(&path) });
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
    read_limited(file)
}

fn read_stdin() -> Result<Vec<u8>, String> {
    read_limited(std::io::stdin().lock())
}

fn read_limited(from: impl std::io::Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells that there is more, whatever the size of the file is said to be.
    from.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB; split it into several files", FILE_BYTES_MAX / (1024 * 1024)));
    }
    Ok(bytes)
}

fn add(sources: &mut Vec<Source>, name: &str, kind: Kind, bytes: Result<Vec<u8>, String>) {
    let parsed = bytes.and_then(|bytes| match kind {
        Kind::Json => parse_json(&bytes),
        Kind::Yaml => parse_yaml(&bytes),
        Kind::Unknown => {
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            if matches!(first, Some(b'{' | b'[')) { parse_json(&bytes) } else { parse_yaml(&bytes) }
        }
    });
    match parsed {
        Ok(documents) if documents.is_empty() => {
            sources.push(Source { place: name.to_owned(), document: Err("holds no document".to_owned()) });
        }
        Ok(mut documents) if documents.len() == 1 => {
            sources.extend(documents.pop().map(|document| Source { place: name.to_owned(), document: Ok(document) }));
        }
        Ok(documents) => {
            let numbered = documents.into_iter().enumerate();
            sources
                .extend(numbered.map(|(i, document)| Source { place: format!("{name}[{i}]"), document: Ok(document) }));
        }
        Err(reason) => sources.push(Source { place: name.to_owned(), document: Err(reason) }),
    }
}

/// A document, or the documents of a list.
fn flattened(value: Value) -> Vec<Value> {
    match value {
        Value::Array(documents) => documents,
        Value::Null => Vec::new(),
        document => vec![document],
    }
}

pub(crate) fn parse_json(bytes: &[u8]) -> Result<Vec<Value>, String> {
    json::parse_strict(bytes).map(flattened).map_err(|error| format!("is not valid JSON: {error}"))
}

/// Reads one or several YAML documents, each an agent or a list of agents. A key that stands twice is an error.
pub(crate) fn parse_yaml(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let budget = serde_saphyr::budget! {
        max_reader_input_bytes: None,
        max_events: 2 * YAML_NODES_MAX,
        max_nodes: YAML_NODES_MAX,
        max_depth: YAML_DEPTH_MAX,
        max_documents: 100_000,
        max_total_scalar_bytes: 2 * 64 * 1024 * 1024,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let documents: Vec<Value> = serde_saphyr::from_slice_multiple_with_options(bytes, options).map_err(|error| {
        // These parts are for programmers.
        let text = error
            .to_string()
            .replace(", set DuplicateKeyPolicy in Options if acceptable", "")
            .replace("recursive references require weak recursion types", "a reference leads back to itself")
            .replace(" rejected by the configured policy", " is no JSON number");
        format!("is not valid YAML: {}", super::table::one_line(&text))
    })?;
    Ok(documents.into_iter().flat_map(flattened).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_may_hold_one_several_or_a_list() {
        assert_eq!(parse_yaml(b"id: a").unwrap(), [json!({"id": "a"})]);
        assert_eq!(parse_yaml(b"- id: a\n- id: b\n").unwrap(), [json!({"id": "a"}), json!({"id": "b"})]);
        assert_eq!(parse_yaml(b"id: a\n---\n- id: b\n").unwrap(), [json!({"id": "a"}), json!({"id": "b"})]);
        assert!(parse_yaml(b"# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        let twice = parse_yaml(b"id: a\ndescription: x\nid: b\n").unwrap_err();
        assert!(twice.contains("uplicate") && twice.contains('3'), "{twice}");
        assert!(parse_yaml(b"config: {x: .inf}").is_err());
        assert!(parse_yaml(b"id: [").is_err());
        assert!(parse_json(br#"{"id":1,"id":2}"#).unwrap_err().contains("twice"));
    }

    #[test]
    fn references_that_grow_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let before = i - 1;
            let item = format!("*a{before}");
            text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![item; 10].join(", ")));
        }
        assert!(parse_yaml(text.as_bytes()).is_err());
    }
}
