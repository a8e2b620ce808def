//! JSON Schema 2020-12, without any access to the network.

use serde_json::Value;

use crate::error::{Problem, Problems};
use crate::json_text::JsonText;

/// What is wrong with a JSON Schema 2020-12. Nothing is fetched: a reference must stay inside the schema.
#[must_use]
pub fn problems(schema: &Value) -> Vec<Problem> {
    const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
    let mut problems = Vec::new();
    if let Some(dialect) = schema.get("$schema")
        && dialect.as_str().map(|d| d.trim_end_matches('#')) != Some(DRAFT)
    {
        problems.push(Problem {
            path: ".$schema".to_owned(),
            message: format!("must be {DRAFT:?} or left out; other drafts are not supported"),
        });
        return problems;
    }
    if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
        problems.push(Problem {
            path: dotted(error.instance_path().as_str()),
            message: format!("is not valid JSON Schema 2020-12: {}", short(&error.to_string())),
        });
        return problems;
    }
    // The meta-schema does not look at references and patterns; building a validator does.
    if let Err(error) = jsonschema::draft202012::new(schema) {
        problems.push(Problem {
            path: dotted(error.instance_path().as_str()),
            message: format!(
                "can't be used as JSON Schema: {}; references must stay inside the schema (#/$defs/...)",
                short(&error.to_string())
            ),
        });
    }
    problems
}

/// A JSON pointer as the rest of a dotted path.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            path.push('.');
            path.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    path
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Most violations that are told at once: the first ones are enough to mend the rest.
const VIOLATIONS_SHOWN: usize = 20;

/// Checks a value against a schema that [`problems`] had nothing against. `path` begins the path of each violation.
///
/// # Errors
/// What is wrong with the value, or that the stored schema cannot be used.
pub fn check(schema: &JsonText, value: &Value, path: &str) -> Result<(), Problems> {
    let unusable = |error: String| Problems::one(path, format!("can't be checked: {}", short(&error)));
    let schema = schema.value().map_err(|error| unusable(error.to_string()))?;
    let validator = jsonschema::draft202012::new(&schema).map_err(|error| unusable(error.to_string()))?;
    let violations: Vec<Problem> = validator
        .iter_errors(value)
        .take(VIOLATIONS_SHOWN)
        .map(|error| Problem {
            path: format!("{path}{}", dotted(error.instance_path().as_str())),
            message: short(&error.to_string()),
        })
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(Problems(violations)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_violation_is_told_with_its_path() {
        let schema = JsonText::new(&json!({
            "type": "object", "required": ["title"],
            "properties": {"title": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}}
        }));
        assert!(check(&schema, &json!({"title": "x", "lines": [1]}), "output").is_ok());
        let problems = check(&schema, &json!({"lines": [1, "two"]}), "output").unwrap_err();
        let paths: Vec<&str> = problems.0.iter().map(|p| p.path.as_str()).collect();
        assert!(paths.contains(&"output") && paths.contains(&"output.lines[1]"), "{problems}");
    }
}
