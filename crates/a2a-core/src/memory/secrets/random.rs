//! Values that are told by the name they are given to, or by being too random for anything else.

use std::ops::Range;

use super::formats::is_placeholder;

/// Names whose value is a secret, without separators and in lower case; a name may end with one.
const SECRET_NAMES: [&str; 20] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secretkey",
    "apikey",
    "accesskey",
    "secretaccesskey",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "clientsecret",
    "privatekey",
    "token",
    "bearer",
    "credential",
    "credentials",
    "signingkey",
    "encryptionkey",
];
/// A value that is assigned to such a name counts from this length on.
const ASSIGNED_MIN: usize = 8;
/// A token without a name counts from this length on. Shorter ones are taken for ids.
const RANDOM_MIN: usize = 24;
/// Bits of each character, from the frequencies of characters in the token itself: English in this length has about 3.5,
/// random letters and digits have over 4.
const RANDOM_BITS_MIN: f32 = 3.9;
/// How many of the pairs of neighbours change between lower case, upper case and digit: words in camel case change once
/// in five letters or less, random letters and digits twice in three.
const CHANGES_MIN: f32 = 0.4;

/// Whether the run is a value that a name of a secret is given, as in `api_key = "..."` or `Bearer ...`.
pub(super) fn is_assigned_secret(text: &str, run: &Range<usize>) -> bool {
    let Some(value) = text.get(run.clone()) else { return false };
    // `API_KEY=value` is one run.
    if let Some((name, assigned)) = value.split_once('=') {
        return is_secret_name(name) && has_secret_form(assigned, true);
    }
    let before = text.get(..run.start).unwrap_or_default().trim_end_matches(['"', '\'', '`', ' ']);
    if let Some(rest) = before.strip_suffix(':').or_else(|| before.strip_suffix('=')) {
        let rest = rest.trim_end_matches(['"', '\'', '`', ' ', ':']);
        return is_secret_name(last_word(rest)) && has_secret_form(value, true);
    }
    let word = last_word(before);
    if word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic") {
        return has_secret_form(value, false);
    }
    if word.eq_ignore_ascii_case("is") {
        let rest = before.get(..before.len() - word.len()).unwrap_or_default().trim_end();
        return is_secret_name(last_word(rest)) && has_secret_form(value, false);
    }
    false
}

fn last_word(text: &str) -> &str {
    let start = text
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .map_or(0, |i| i + text.get(i..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
    text.get(start..).unwrap_or_default()
}

fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|secret| plain.ends_with(secret))
}

/// Whether a value has the form of a secret: long enough, letters with digits or signs. A value that is `assigned` to the
/// name with a sign may be shorter than one that a sentence speaks of.
fn has_secret_form(value: &str, assigned: bool) -> bool {
    let value = value.trim_end_matches(['.', '!', '=']);
    let least = if assigned { ASSIGNED_MIN } else { 2 * ASSIGNED_MIN };
    if value.len() < least || is_placeholder(value) || is_path_or_address(value) {
        return false;
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let upper = value.bytes().any(|b| b.is_ascii_uppercase());
    let lower = value.bytes().any(|b| b.is_ascii_lowercase());
    let signs = value.bytes().filter(|b| matches!(b, b'!' | b'@' | b'%' | b'^' | b'*' | b'+' | b'~')).count();
    // Two digits at least: `v2-token-format` is a name.
    letters >= 2 && (digits >= 2 || signs >= 1) && (signs >= 1 || digits >= 3 || upper && lower)
}

fn is_path_or_address(value: &str) -> bool {
    value.starts_with(['/', '.', '~']) || value.contains("//") || value.split('/').count() > 2 || value.contains(".com")
}

/// Whether a run is too random for a word, a name, a path, a version, a hash or an id.
pub(super) fn is_random(run: &str) -> bool {
    // Signs at which names are put together: a path or a host has short parts, a token one long one.
    let part_is_random = |part: &str| {
        let part = part.trim_end_matches('=');
        part.len() >= RANDOM_MIN
            && has_three_classes(part)
            && bits(part) >= RANDOM_BITS_MIN
            && changes(part) >= CHANGES_MIN
    };
    run.split(['.', '@', '!', '%', '^', '*', '~', '=']).any(|part| {
        // Base64 has these signs too, but seldom; names and paths are put together with them, and their pieces are short.
        let pieces = part.split(['/', '_', '-', '+']);
        let longest = pieces.map(str::len).max().unwrap_or(0);
        2 * longest >= RANDOM_MIN && part_is_random(part)
    })
}

fn has_three_classes(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    digits >= 2 && text.bytes().any(|b| b.is_ascii_lowercase()) && text.bytes().any(|b| b.is_ascii_uppercase())
}

fn bits(text: &str) -> f32 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = text.len() as f32;
    counts.iter().filter(|count| **count > 0).map(|count| *count as f32 / total).map(|p| -p * p.log2()).sum()
}

fn changes(text: &str) -> f32 {
    let class = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let pairs = text.bytes().zip(text.bytes().skip(1));
    let changed = pairs.filter(|(a, b)| class(*a) != class(*b)).count();
    changed as f32 / (text.len().max(2) - 1) as f32
}
