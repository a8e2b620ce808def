//! The only place that writes to standard output and standard error, apart from the protocol and the log.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

/// Prints a result.
///
/// # Errors
/// Also when nobody reads it any more, which ends the command quietly.
pub(crate) fn text(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Prints a result that is not text of ours.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Prints a result as one JSON document.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    let mut safe = String::with_capacity(text.len() + 1);
    push_json(&mut safe, &text);
    bytes(safe.as_bytes())
}

/// Writes JSON and the end of the line. Characters that steer a terminal stand inside of strings only, where JSON has
/// another way to write them.
pub(crate) fn push_json(to: &mut String, json: &str) {
    for c in json.chars() {
        if steers_terminal(c) && c != '\n' {
            push_escape(to, c);
        } else {
            to.push(c);
        }
    }
    to.push('\n');
}

/// Tells something that is not the result. There is nowhere to report that this failed.
pub(crate) fn note(text: &str) {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(clean).collect();
    let _nobody_reads = writeln!(io::stderr().lock(), "{}", lines.join("\n"));
}

/// Stored text was written by others: without this it could move the cursor, recolour the terminal or turn the
/// direction of writing.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers_terminal) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if steers_terminal(c) { ' ' } else { c }).collect())
}

/// Control characters of all kinds, and the invisible ones that change the direction of writing.
pub(crate) fn steers_terminal(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
        )
}

/// Writes a character as JSON and YAML write it in a string. All of those above lie below U+10000.
pub(crate) fn push_escape(text: &mut String, c: char) {
    let _infallible = write!(text, "\\u{:04x}", u32::from(c));
}
