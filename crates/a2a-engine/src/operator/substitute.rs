//! Variables of the environment in values of the operator's file.

use super::Secret;

/// Replaces `${NAME}` by that variable; `$${` is `${` itself. Returns the values of the variables too.
pub(super) fn substitute(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Secret, Vec<Secret>), String> {
    let mut variables = Vec::new();
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = after;
            continue;
        }
        result.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err("has ${ without }; write ${NAME}, or $${ for the characters themselves".to_owned());
        };
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            // The text between the braces is not repeated: a secret may have been pasted there.
            return Err("has something other than the name of a variable between ${ and }".to_owned());
        }
        match variable(name) {
            Some(value) if !value.is_empty() => {
                result.push_str(&value);
                variables.push(Secret::new(value));
            }
            _ => return Err(format!("needs the environment variable {name}, which is not set")),
        }
        rest = after;
    }
    result.push_str(rest);
    Ok((Secret::new(result), variables))
}
