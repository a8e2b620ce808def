//! JSON in arguments of commands.

use std::path::Path;

use a2a_core::json;
use serde_json::Value;

use super::error::CliError;

/// The largest file that an argument may name.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads JSON from an argument, or from the file that it names as `@FILE`.
///
/// # Errors
/// [`CliError::Usage`], naming the flag.
pub(crate) fn json(text: &str, flag: &str) -> Result<Value, CliError> {
    let wrong = |reason: String| CliError::Usage(format!("{flag} {reason}"));
    let bytes = match text.strip_prefix('@') {
        None => text.as_bytes().to_vec(),
        Some(path) => read(Path::new(path)).map_err(|reason| wrong(format!("names {path:?}, which {reason}")))?,
    };
    json::parse_strict(&bytes).map_err(|error| wrong(format!("is not valid JSON: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err("has more than 4 MiB".to_owned()) } else { Ok(bytes) }
}

/// Reads JSON; what is not JSON is a text.
pub(crate) fn json_or_text(text: &str) -> Value {
    json::parse_strict(text.as_bytes()).unwrap_or_else(|_| Value::from(text))
}
