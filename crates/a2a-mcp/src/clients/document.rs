//! The text of a client's configuration: read and edited so that everything else in it stays as it is, comments too.

use std::collections::BTreeMap;
use std::path::Path;

use a2a_engine::config::database_url_shown;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};

use super::{Client, input_id};

/// What some editors put in front of a text.
const BYTE_ORDER_MARK: char = '\u{FEFF}';
/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// One server of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
}

impl Entry {
    /// Whether it starts this program, wherever it is installed.
    pub(crate) fn is_ours(&self) -> bool {
        Path::new(&self.command).file_stem().is_some_and(|stem| stem == "a2a-mcp")
    }
}

/// A configuration.
#[derive(Debug)]
pub(crate) struct Document {
    client: Client,
    root: CstRootNode,
    object: CstObject,
    /// The keys that lead to the object with the servers.
    within: Vec<String>,
    has_mark: bool,
    /// A new text ends its last line; in one that exists, that is left as it is.
    is_new: bool,
}

impl Document {
    /// Reads a text; an empty one is an empty configuration. The servers that are meant stand within an object that the
    /// keys of `within` lead to.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(crate) fn parse(client: Client, within: Vec<String>, text: &str) -> Result<Self, String> {
        let (has_mark, text) = text.strip_prefix(BYTE_ORDER_MARK).map_or((false, text), |rest| (true, rest));
        let extras = client.reads_comments();
        let options = ParseOptions {
            allow_comments: extras,
            allow_trailing_commas: extras,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let root = CstRootNode::parse(text, &options).map_err(|error| {
            let (line, column) = (error.line_display(), error.column_display());
            format!("is not valid JSON: line {line}, column {column}: {}", error.kind())
        })?;
        if !extras
            && !text.trim().is_empty()
            && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text)
        {
            let (line, column) = (error.line(), error.column());
            let reason = "this client reads neither comments nor commas that nothing follows";
            return Err(format!("is not valid JSON: line {line}, column {column}: {reason}"));
        }
        let object = root.object_value_or_create().ok_or("does not hold a JSON object")?;
        let document = Self { client, root, object, within, has_mark, is_new: text.trim().is_empty() };
        if let Some(holder) = document.holder()? {
            only_once(&holder, client.servers_key())?;
        }
        Ok(document)
    }

    /// The text as it is now.
    pub(crate) fn text(&self) -> String {
        let text = self.root.to_string();
        let mark = if self.has_mark { BYTE_ORDER_MARK.to_string() } else { String::new() };
        let end = if self.is_new && !text.ends_with('\n') { "\n" } else { "" };
        format!("{mark}{text}{end}")
    }

    /// The object that the servers stand in.
    fn holder(&self) -> Result<Option<CstObject>, String> {
        let mut holder = self.object.clone();
        for key in &self.within {
            only_once(&holder, key)?;
            match object_at(&holder, key)? {
                None => return Ok(None),
                Some(inner) => holder = inner,
            }
        }
        Ok(Some(holder))
    }

    fn servers(&self) -> Result<Option<CstObject>, String> {
        let Some(holder) = self.holder()? else { return Ok(None) };
        object_at(&holder, self.client.servers_key())
    }

    /// The server of a name.
    ///
    /// # Errors
    /// When it is there and is not one that is started by a command.
    pub(crate) fn entry(&self, name: &str) -> Result<Option<Entry>, String> {
        let Some(servers) = self.servers()? else { return Ok(None) };
        only_once(&servers, name)?;
        let Some(prop) = servers.get(name) else { return Ok(None) };
        match read(&prop) {
            Some(entry) => Ok(Some(entry)),
            None => Err(format!("has a server {name:?} that is not started by a command; choose another --name")),
        }
    }

    /// All servers that start this program.
    pub(crate) fn ours(&self) -> Vec<(String, Entry)> {
        let Ok(Some(servers)) = self.servers() else { return Vec::new() };
        let named = servers.properties().into_iter().filter_map(|prop| Some((prop.decoded_name()?, read(&prop)?)));
        named.filter(|(_, entry)| entry.is_ours()).collect()
    }

    /// Adds a server, or changes what differs of the one that is there; what else its entry says stays.
    ///
    /// # Errors
    /// When the name is that of another program.
    pub(crate) fn set(&self, name: &str, wanted: &Entry) -> Result<(), String> {
        let there = self.entry(name)?;
        let wants_input = self.client.declares_inputs()
            && wanted.env.values().any(|value| *value == self.client.reference("DATABASE_URL", name));
        let key = self.client.servers_key();
        let servers = match self.servers()? {
            Some(servers) => servers,
            None => {
                let holder =
                    self.within.iter().fold(self.object.clone(), |holder, key| holder.object_value_or_set(key));
                holder.object_value_or_set(key)
            }
        };
        match (there, servers.get(name).and_then(|prop| prop.object_value())) {
            (Some(there), Some(_)) if !there.is_ours() && there.command != wanted.command => {
                return Err(format!("has a server {name:?} that starts another program; choose another --name"));
            }
            (Some(there), Some(entry)) => self.change(&entry, &there, wanted)?,
            _ => {
                servers.append(name, self.written(wanted));
            }
        }
        if wants_input { self.declare_input(name) } else { Ok(()) }
    }

    fn change(&self, entry: &CstObject, there: &Entry, wanted: &Entry) -> Result<(), String> {
        if there.command != wanted.command {
            put(entry, "command", wanted.command.as_str().into());
        }
        // What somebody has set here, such as --tools, is meant.
        if there.args.is_empty() && !wanted.args.is_empty() {
            put(entry, "args", texts(&wanted.args));
        }
        if wanted.env.iter().all(|(variable, value)| there.env.get(variable) == Some(value)) {
            return Ok(());
        }
        let Some(env) = entry.object_value_or_create("env") else {
            return Err("has a server whose \"env\" is not an object".to_owned());
        };
        for (variable, value) in &wanted.env {
            only_once(&env, variable)?;
            if there.env.get(variable) != Some(value) {
                put(&env, variable, value.as_str().into());
            }
        }
        Ok(())
    }

    fn written(&self, entry: &Entry) -> CstInputValue {
        let mut fields: Vec<(String, CstInputValue)> = Vec::new();
        if self.client.names_transport() {
            fields.push(("type".to_owned(), "stdio".into()));
        }
        fields.push(("command".to_owned(), entry.command.as_str().into()));
        fields.push(("args".to_owned(), texts(&entry.args)));
        if !entry.env.is_empty() {
            let env = entry.env.iter().map(|(variable, value)| (variable.clone(), value.as_str().into())).collect();
            fields.push(("env".to_owned(), CstInputValue::Object(env)));
        }
        CstInputValue::Object(fields)
    }

    fn declare_input(&self, name: &str) -> Result<(), String> {
        let inputs = self.object.array_value_or_create("inputs").ok_or("has \"inputs\", which is not an array")?;
        let id = input_id(name);
        if inputs.elements().iter().any(|input| is_input(input, &id)) {
            return Ok(());
        }
        inputs.append(CstInputValue::Object(vec![
            ("type".to_owned(), "promptString".into()),
            ("id".to_owned(), id.as_str().into()),
            ("description".to_owned(), "DATABASE_URL for a2a-mcp".into()),
            ("password".to_owned(), true.into()),
        ]));
        Ok(())
    }

    /// Takes a server out, and returns whether it was there.
    ///
    /// # Errors
    /// When the name is that of another program.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, String> {
        match self.entry(name)? {
            None => return Ok(false),
            Some(entry) if !entry.is_ours() => {
                return Err(format!("has a server {name:?} that starts another program; take it out by hand"));
            }
            Some(_) => {}
        }
        if let Some(prop) = self.servers()?.and_then(|servers| servers.get(name)) {
            prop.remove();
        }
        if self.client.declares_inputs()
            && let Some(inputs) = self.object.array_value("inputs")
        {
            let id = input_id(name);
            inputs.elements().into_iter().filter(|input| is_input(input, &id)).for_each(CstNode::remove);
        }
        Ok(true)
    }

    /// The text as it may be shown to whoever looks over a shoulder: one server alone, and of it no secrets.
    pub(crate) fn shown(self, name: &str) -> String {
        let mut holder = Some(self.object.clone());
        for key in &self.within {
            holder = holder.and_then(|holder| {
                hide_except(&holder, &[key]);
                holder.object_value(key)
            });
        }
        if let Some(holder) = holder {
            hide_except(&holder, &[self.client.servers_key(), "inputs"]);
        }
        hide_comments(&self.root.clone().into());
        if let Ok(Some(servers)) = self.servers() {
            hide_except(&servers, &[name]);
            if let Some(entry) = servers.object_value(name) {
                hide_secrets(&entry);
            }
        }
        self.text()
    }
}

fn object_at(object: &CstObject, key: &str) -> Result<Option<CstObject>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(prop) => prop.object_value().map(Some).ok_or_else(|| format!("has {key:?}, which is not an object")),
    }
}

/// Clients take the last of two equal keys, an edit would reach the first.
fn only_once(object: &CstObject, key: &str) -> Result<(), String> {
    let count = object.properties().iter().filter(|prop| prop.decoded_name().as_deref() == Some(key)).count();
    if count > 1 { Err(format!("has {key:?} twice; take one of them out")) } else { Ok(()) }
}

fn read(prop: &CstObjectProp) -> Option<Entry> {
    let value = prop.object_value()?.to_serde_value()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let args = value.get("args").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let env = value.get("env").and_then(serde_json::Value::as_object);
    Some(Entry {
        command: text(value.get("command")?)?,
        args: args.iter().filter_map(text).collect(),
        env: env.into_iter().flatten().filter_map(|(variable, value)| Some((variable.clone(), text(value)?))).collect(),
    })
}

fn texts(texts: &[String]) -> CstInputValue {
    CstInputValue::Array(texts.iter().map(|text| text.as_str().into()).collect())
}

fn put(object: &CstObject, key: &str, value: CstInputValue) {
    match object.get(key) {
        Some(prop) => prop.set_value(value),
        None => {
            object.append(key, value);
        }
    }
}

fn is_input(input: &CstNode, id: &str) -> bool {
    let value = input.as_object().and_then(|input| input.to_serde_value());
    value.as_ref().and_then(|value| value.get("id")?.as_str()) == Some(id)
}

fn hide_except(object: &CstObject, keys: &[&str]) {
    for prop in object.properties() {
        if !prop.decoded_name().is_some_and(|name| keys.contains(&name.as_str())) {
            prop.set_value(HIDDEN.into());
        }
    }
}

/// Somebody may have commented out a server with its keys.
fn hide_comments(node: &CstNode) {
    if let Some(comment) = node.as_comment() {
        let hidden = if comment.is_line_comment() { format!("// {HIDDEN}") } else { format!("/* {HIDDEN} */") };
        comment.set_raw_value(hidden);
    }
    for child in node.children() {
        hide_comments(&child);
    }
}

fn hide_secrets(entry: &CstObject) {
    for prop in entry.properties() {
        match prop.decoded_name().as_deref() {
            Some("type" | "command") => {}
            Some("args") => {
                for arg in prop.array_value().map(|args| args.elements()).unwrap_or_default() {
                    if let Some(literal) = arg.as_string_lit()
                        && let Ok(text) = literal.decoded_value()
                        && text.contains("://")
                    {
                        literal.replace_with(url_shown(&text).as_str().into());
                    }
                }
            }
            Some("env") => {
                for variable in prop.object_value().map(|env| env.properties()).unwrap_or_default() {
                    let name = variable.decoded_name().unwrap_or_default();
                    let value = variable.value().and_then(|value| value.as_string_lit()?.decoded_value().ok());
                    let shown = match value {
                        Some(value) if name == "DATABASE_URL" => url_shown(&value),
                        Some(value) if name.starts_with("A2A_") || name == "USE_PERSISTED_REGISTRY" => value,
                        _ => HIDDEN.to_owned(),
                    };
                    variable.set_value(shown.as_str().into());
                }
            }
            _ => prop.set_value(HIDDEN.into()),
        }
    }
}

/// A `DATABASE_URL` without user and password.
pub(crate) fn url_shown(url: &str) -> String {
    if url.starts_with("${") {
        return url.to_owned();
    }
    match database_url_shown(url) {
        Some(place) if url.starts_with("postgres") => format!("postgres://{HIDDEN}@{place}"),
        Some(path) => format!("sqlite:{path}"),
        None => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests;
