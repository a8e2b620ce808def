//! The JSON Schemas of tools, as small as they can be: a model reads every byte of them in every session.

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

/// The schema of arguments: unknown ones are refused, and the schema says so.
pub(crate) fn input<A: JsonSchema>() -> JsonObject {
    let mut schema = generate::<A>(SchemaSettings::draft2020_12());
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

/// The schema of a result.
pub(crate) fn output<R: JsonSchema>() -> JsonObject {
    generate::<R>(SchemaSettings::draft2020_12().for_serialize())
}

fn generate<T: JsonSchema>(mut settings: SchemaSettings) -> JsonObject {
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    match compact(schema.to_value()) {
        Value::Object(object) => object,
        // Only `true` and `false` are schemas without being objects; no argument type has such a schema.
        _ => JsonObject::new(),
    }
}

/// Drops what no model needs: titles, formats, defaults (they are in the descriptions where they matter), and the null
/// beside a type, since whatever may be null may as well be left out.
fn compact(value: Value) -> Value {
    compact_at(value, false)
}

fn compact_at(value: Value, names_are_data: bool) -> Value {
    match value {
        Value::Object(object) => {
            let dropped = |key: &str| {
                !names_are_data && matches!(key, "title" | "format" | "default" | "$schema" | "minimum" | "maximum")
            };
            let mut object: JsonObject = object
                .into_iter()
                .filter(|(key, value)| names_are_data || !(dropped(key) || says_nothing(key, value)))
                .map(|(key, value)| {
                    // The keys below "properties" are names of fields, which may be called "title" too.
                    let inner = compact_at(value, !names_are_data && key == "properties");
                    (key, inner)
                })
                .collect();
            if !names_are_data {
                drop_null(&mut object);
            }
            Value::Object(object)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| compact_at(item, false)).collect()),
        other => other,
    }
}

/// What is so without being said.
fn says_nothing(key: &str, value: &Value) -> bool {
    (key == "additionalProperties" && *value == Value::Bool(true)) || (key == "description" && *value == "")
}

fn drop_null(object: &mut JsonObject) {
    let Some(Value::Array(types)) = object.get("type") else { return };
    let mut left: Vec<Value> = types.iter().filter(|t| *t != "null").cloned().collect();
    if left.len() == 1
        && let Some(only) = left.pop()
    {
        object.insert("type".to_owned(), only);
    }
}
