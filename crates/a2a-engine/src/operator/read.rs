//! From the text of the operator's file to what it allows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use a2a_core::error::{Problem, Problems};
use a2a_core::input::{ObjectReader, read_object};
use a2a_core::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::substitute::substitute;
use super::{AllowedOrigin, CommandEntry, McpConnection, McpServer, OperatorFile, Redaction, Secret};
use crate::egress::{Origin, OriginPattern};

const ENTRIES_MAX: usize = 1_000;
const ARGUMENTS_MAX: usize = 1_000;
const ARGUMENT_CHARS_MAX: usize = 32 * 1024;
const URL_CHARS_MAX: usize = 2_000;
/// A command without a limit of its own.
const COMMAND_TIMEOUT_DEFAULT_S: i64 = 300;
const COMMAND_TIMEOUT_RANGE_S: std::ops::RangeInclusive<i64> = 1..=86_400;
/// What a step may have as output.
const OUTPUT_BYTES_MAX: i64 = 1024 * 1024;
const YAML_NODES_MAX: usize = 100_000;
/// Headers that belong to the connection or that the server itself writes.
const HEADERS_REFUSED: [&str; 12] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "idempotency-key",
    "a2a-signature",
];

/// The environment, and what is read with it.
struct Variables<'v> {
    lookup: &'v dyn Fn(&str) -> Option<String>,
    secrets: RefCell<Vec<Secret>>,
}

pub(super) fn parse(yaml: &[u8], lookup: &dyn Fn(&str) -> Option<String>) -> Result<OperatorFile, Problems> {
    let variable = &Variables { lookup, secrets: RefCell::default() };
    let budget = serde_saphyr::budget! {
        max_reader_input_bytes: None,
        max_events: 2 * YAML_NODES_MAX,
        max_nodes: YAML_NODES_MAX,
        max_depth: 64,
        max_documents: 1,
        max_total_scalar_bytes: 4 * 1024 * 1024,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        // A snippet of the file could hold a secret.
        with_snippet: false,
    };
    let document: Value = serde_saphyr::from_slice_with_options(yaml, options)
        .map_err(|error| Problems::one("", format!("is not valid YAML: {}", one_line(&error.to_string()))))?;
    // A file of comments only.
    let document = if document.is_null() { Value::Object(Map::new()) } else { document };
    read_object(&document, "", |r| {
        let mut file = OperatorFile { egress: read_egress(r, variable), ..OperatorFile::default() };
        read_signing_keys(r, &mut file.egress, variable);
        file.mcp_servers = read_mcp(r, &file.egress, variable);
        file.commands = named(r, "commands", |r| read_command(r, variable));
        match Redaction::new(variable.secrets.borrow().iter().map(Secret::expose)) {
            Ok(redaction) => file.redaction = redaction,
            Err(message) => r.problem("", message),
        }
        Some(file)
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts the name of the file in front of each path.
pub(super) fn in_file(path: &Path, problems: Problems) -> Problems {
    let file = path.display();
    let located = |problem: Problem| {
        let place = if problem.path.is_empty() { file.to_string() } else { format!("{file}: {}", problem.path) };
        Problem { path: place, message: problem.message }
    };
    Problems(problems.0.into_iter().map(located).collect())
}

fn nested<T>(
    r: &mut ObjectReader<'_, '_>,
    name: &'static str,
    read: impl FnOnce(&mut ObjectReader<'_, '_>) -> T,
) -> Option<T> {
    let value = r.value(name)?;
    let path = r.path_of(name);
    let mut inner = ObjectReader::open(value, path, r.problems())?;
    let result = read(&mut inner);
    inner.finish();
    Some(result)
}

/// The fields of an object whose names the operator chooses.
fn fields<'a>(r: &mut ObjectReader<'a, '_>, name: &'static str) -> Option<(String, &'a Map<String, Value>)> {
    let value = r.value(name)?;
    let path = r.path_of(name);
    // Only to have the problem of anything else reported in the same words as everywhere.
    ObjectReader::open(value, path.clone(), r.problems())?;
    Some((path, value.as_object()?))
}

fn field_path(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { format!("{path}.{key}") } else { format!("{path}[{key:?}]") }
}

/// Reads an object of named entries.
fn named<T>(
    r: &mut ObjectReader<'_, '_>,
    name: &'static str,
    mut read: impl FnMut(&mut ObjectReader<'_, '_>) -> Option<T>,
) -> BTreeMap<Box<str>, T> {
    let mut entries = BTreeMap::new();
    let Some((path, object)) = fields(r, name) else { return entries };
    for (key, value) in object {
        let path = field_path(&path, key);
        let characters = key.chars().count();
        if characters == 0 || characters > limits::NAME_CHARS_MAX || key.chars().any(char::is_control) {
            let message = format!("has a name that is empty, longer than {} or not text", limits::NAME_CHARS_MAX);
            r.problems().push(Problem { path: path.clone(), message });
        }
        let Some(mut inner) = ObjectReader::open(value, path, r.problems()) else { continue };
        let entry = read(&mut inner);
        inner.finish();
        if let Some(entry) = entry {
            entries.insert(key.as_str().into(), entry);
        }
    }
    entries
}

fn read_egress(r: &mut ObjectReader<'_, '_>, variable: &Variables<'_>) -> Vec<AllowedOrigin> {
    nested(r, "egress", |r| {
        let mut allowed: Vec<AllowedOrigin> = Vec::new();
        for (index, value) in r.list("allow", ENTRIES_MAX).unwrap_or_default().iter().enumerate() {
            let path = format!("{}[{index}]", r.path_of("allow"));
            let Some(entry) = read_allowed(value, &path, r.problems(), variable) else { continue };
            if allowed.iter().any(|other| other.origin == entry.origin) {
                r.problems().push(Problem { path, message: format!("repeats {}", entry.origin) });
            } else {
                allowed.push(entry);
            }
        }
        allowed
    })
    .unwrap_or_default()
}

fn read_allowed(
    value: &Value,
    path: &str,
    problems: &mut Vec<Problem>,
    variable: &Variables<'_>,
) -> Option<AllowedOrigin> {
    let pattern = |text: &str, path: String, problems: &mut Vec<Problem>| match OriginPattern::parse(text) {
        Ok(origin) => Some(origin),
        Err(message) => {
            problems.push(Problem { path, message });
            None
        }
    };
    if let Value::String(text) = value {
        let origin = pattern(text, path.to_owned(), problems)?;
        return Some(AllowedOrigin { origin, private: false, headers: HeaderMap::new(), signing_key: None });
    }
    let mut r = ObjectReader::open(value, path.to_owned(), problems)?;
    let text = r.text_chars("origin", URL_CHARS_MAX);
    if text.is_none() && !r.has("origin") {
        r.problem("origin", "is required, such as https://hooks.example.com");
    }
    let private = r.boolean("private").unwrap_or(false);
    let headers = read_headers(&mut r, variable);
    let origin_path = r.path_of("origin");
    let origin = text.and_then(|text| pattern(text, origin_path, r.problems()));
    r.finish();
    Some(AllowedOrigin { origin: origin?, private, headers, signing_key: None })
}

fn read_headers(r: &mut ObjectReader<'_, '_>, variable: &Variables<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (path, key, secret) in read_secrets(r, "headers", variable) {
        let mut problem =
            |message: &str| r.problems().push(Problem { path: path.clone(), message: message.to_owned() });
        let Ok(name) = HeaderName::try_from(key) else {
            problem("is not the name of a header");
            continue;
        };
        if HEADERS_REFUSED.contains(&name.as_str()) {
            problem("is a header that is set for each request; leave it out");
            continue;
        }
        let Ok(mut value) = HeaderValue::try_from(secret.expose()) else {
            problem("has a value that no header can have, such as one with a line break");
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            problem("stands twice, in capitals and without");
        }
    }
    headers
}

/// Texts by name, with the variables in them replaced, and their paths.
fn read_secrets<'a>(
    r: &mut ObjectReader<'a, '_>,
    name: &'static str,
    variable: &Variables<'_>,
) -> Vec<(String, &'a str, Secret)> {
    let mut secrets = Vec::new();
    let Some((path, object)) = fields(r, name) else { return secrets };
    for (key, value) in object {
        let path = field_path(&path, key);
        let read = match value {
            Value::String(text) if text.contains('\0') => Err("holds a NUL character; remove it".to_owned()),
            Value::String(text) => substitute(text, variable.lookup),
            _ => Err("must be a text; put it in quotes".to_owned()),
        };
        match read {
            Ok((secret, variables)) => {
                if !is_public(name, key) {
                    let mut found = variable.secrets.borrow_mut();
                    found.extend(secrets_in(&secret));
                    found.extend(variables);
                }
                secrets.push((path, key.as_str(), secret));
            }
            Err(message) => r.problems().push(Problem { path, message }),
        }
    }
    secrets
}

/// Whether a value is no secret by its name, and stands in many texts besides.
fn is_public(field: &str, name: &str) -> bool {
    match field {
        // Variables to which POSIX gives a meaning.
        "env" => {
            name.starts_with("LC_")
                || ["HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "TZ", "USER"].contains(&name)
        }
        "headers" => {
            let name = name.to_ascii_lowercase();
            name.starts_with("accept") || name == "user-agent"
        }
        _ => false,
    }
}

/// A value, and what of it may be said alone: credentials without their scheme, and the password among them.
fn secrets_in(value: &Secret) -> Vec<Secret> {
    let text = value.expose();
    let mut secrets = vec![text.to_owned()];
    if let Some((scheme, credentials)) = text.split_once(' ') {
        let decoded = (scheme.eq_ignore_ascii_case("basic")).then(|| STANDARD.decode(credentials.trim()).ok());
        let user_and_password = decoded.flatten().and_then(|bytes| String::from_utf8(bytes).ok());
        if scheme.chars().all(|c| c.is_ascii_alphanumeric()) && !credentials.contains(' ') {
            secrets.push(credentials.to_owned());
        }
        if let Some(both) = user_and_password {
            secrets.extend(both.split_once(':').map(|(_, password)| password.to_owned()));
            secrets.push(both);
        }
    }
    // Such as the one of a database.
    if let Some(password) = Url::parse(text).ok().as_ref().and_then(Url::password) {
        secrets.push(percent_decode_str(password).decode_utf8_lossy().into_owned());
    }
    secrets.into_iter().map(Secret::new).collect()
}

fn read_signing_keys(r: &mut ObjectReader<'_, '_>, egress: &mut [AllowedOrigin], variable: &Variables<'_>) {
    nested(r, "http", |r| {
        for (path, key, secret) in read_secrets(r, "signing_keys", variable) {
            let message = match OriginPattern::parse(key) {
                Err(message) => message,
                Ok(_) if secret.expose().is_empty() => "is empty".to_owned(),
                Ok(origin) => match egress.iter_mut().find(|entry| entry.origin == origin) {
                    Some(entry) if entry.signing_key.is_none() => {
                        entry.signing_key = Some(secret);
                        continue;
                    }
                    Some(_) => format!("repeats {origin}"),
                    None => format!("is no entry of egress.allow; add {origin} there"),
                },
            };
            r.problems().push(Problem { path, message });
        }
    });
}

fn read_mcp(
    r: &mut ObjectReader<'_, '_>,
    egress: &[AllowedOrigin],
    variable: &Variables<'_>,
) -> BTreeMap<Box<str>, McpServer> {
    nested(r, "mcp", |r| named(r, "servers", |r| read_mcp_server(r, egress, variable))).unwrap_or_default()
}

fn read_mcp_server(
    r: &mut ObjectReader<'_, '_>,
    egress: &[AllowedOrigin],
    variable: &Variables<'_>,
) -> Option<McpServer> {
    let tools = read_tools(r);
    let connection = match (r.has("argv"), r.has("url")) {
        (true, false) => {
            let argv = read_argv(r);
            let env = read_env(r, variable);
            let cwd = read_cwd(r);
            McpConnection::Stdio { argv: argv?, env, cwd }
        }
        (false, true) => {
            let url = read_url(r, egress);
            let headers = read_headers(r, variable);
            McpConnection::Http { url: url?, headers }
        }
        (both, _) => {
            // All of them are known, so that only the one problem is reported.
            for name in ["argv", "env", "cwd", "url", "headers"] {
                r.value(name);
            }
            let message = if both { "can't stand beside url; use one of them" } else { "or url is required" };
            r.problem("argv", message);
            return None;
        }
    };
    Some(McpServer { connection, tools: tools? })
}

fn read_tools(r: &mut ObjectReader<'_, '_>) -> Option<BTreeSet<Box<str>>> {
    if !r.has("tools") {
        r.problem("tools", "is required: the names of the tools that agents may call");
        return None;
    }
    let mut tools = BTreeSet::new();
    for (index, value) in r.list("tools", ENTRIES_MAX)?.iter().enumerate() {
        match value.as_str() {
            Some("*") => r.problem(&format!("tools[{index}]"), "is *; name each tool"),
            Some(name) if !name.is_empty() => {
                tools.insert(name.into());
            }
            _ => r.problem(&format!("tools[{index}]"), "must be the name of a tool"),
        }
    }
    Some(tools)
}

fn read_url(r: &mut ObjectReader<'_, '_>, egress: &[AllowedOrigin]) -> Option<String> {
    let url = r.text_chars("url", URL_CHARS_MAX)?;
    match Origin::of_url(url) {
        Ok((origin, _)) if egress.iter().any(|entry| entry.origin.matches(&origin)) => Some(url.to_owned()),
        Ok((origin, _)) => {
            r.problem("url", format!("has an origin that is no entry of egress.allow; add {origin} there"));
            None
        }
        Err(message) => {
            r.problem("url", message);
            None
        }
    }
}

fn read_argv(r: &mut ObjectReader<'_, '_>) -> Option<Vec<String>> {
    if !r.has("argv") {
        r.problem("argv", "is required: the absolute path of a program, and its arguments");
        return None;
    }
    let values = r.list("argv", ARGUMENTS_MAX)?;
    let mut argv = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        match value.as_str() {
            Some(text) if text.len() <= ARGUMENT_CHARS_MAX && !text.contains('\0') => argv.push(text.to_owned()),
            _ => r.problem(&format!("argv[{index}]"), "must be a text; put it in quotes"),
        }
    }
    match argv.first() {
        None if values.is_empty() => r.problem("argv", "is empty; name a program by its absolute path"),
        Some(program) if !Path::new(program).is_absolute() => {
            r.problem("argv[0]", "must be an absolute path: no search path is used");
        }
        _ => {}
    }
    (!argv.is_empty() && argv.len() == values.len()).then_some(argv)
}

fn read_env(r: &mut ObjectReader<'_, '_>, variable: &Variables<'_>) -> BTreeMap<String, Secret> {
    let mut env = BTreeMap::new();
    for (path, key, secret) in read_secrets(r, "env", variable) {
        if key.is_empty() || key.contains(['=', '\0']) {
            r.problems().push(Problem { path, message: "is not the name of a variable".to_owned() });
        } else {
            env.insert(key.to_owned(), secret);
        }
    }
    env
}

fn read_cwd(r: &mut ObjectReader<'_, '_>) -> Option<PathBuf> {
    let path = PathBuf::from(r.text("cwd")?);
    if !path.is_absolute() {
        r.problem("cwd", "must be an absolute path");
    }
    Some(path)
}

fn read_command(r: &mut ObjectReader<'_, '_>, variable: &Variables<'_>) -> Option<CommandEntry> {
    let argv = read_argv(r);
    let env = read_env(r, variable);
    let cwd = read_cwd(r);
    let timeout_s = r.integer("timeout_s", COMMAND_TIMEOUT_RANGE_S).unwrap_or(COMMAND_TIMEOUT_DEFAULT_S);
    let output_bytes_max = r.integer("output_bytes_max", 1..=OUTPUT_BYTES_MAX).unwrap_or(OUTPUT_BYTES_MAX);
    Some(CommandEntry {
        argv: argv?,
        env,
        cwd,
        timeout: Duration::from_secs(u64::try_from(timeout_s).unwrap_or_default()),
        output_bytes_max: usize::try_from(output_bytes_max).unwrap_or_default(),
    })
}
