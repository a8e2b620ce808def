//! Cuts text into lower-case words.
//!
//! A word is a run of letters and digits. `C++`, `C#` and `.NET` keep their signs, `don't` becomes `dont`, and each
//! Chinese, Japanese or Korean character is a word of its own. `JavaScript` gives the word itself and its parts `java`
//! and `script`, so that both ways of writing an identifier find it.

/// Longest word in bytes; what is longer is an encoded blob, and its beginning is enough to find it.
const WORD_BYTES_MAX: usize = 64;

/// How a word stands to the text that it was cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The whole word as written.
    Whole,
    /// A part of the whole word that came before it.
    Part,
}

/// Calls `emit` with each word of `text`, a whole word before its parts.
pub(crate) fn tokens(text: &str, emit: &mut impl FnMut(&str, Cut)) {
    let mut lowered = String::new();
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        if byte.is_ascii() {
            if !byte.is_ascii_alphanumeric() {
                at += 1;
                continue;
            }
        } else {
            let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
            let end = at + c.len_utf8();
            if is_ideographic(c) {
                emit(text.get(at..end).unwrap_or_default(), Cut::Whole);
                at = end;
                continue;
            }
            if !c.is_alphanumeric() {
                at = end;
                continue;
            }
        }
        let run = Run::at(text, at);
        at = run.emit(text, &mut lowered, emit);
    }
}

/// A run of letters and digits, with apostrophes inside.
struct Run {
    start: usize,
    end: usize,
    /// Lower-case ASCII letters and digits only: the text itself is the word.
    plain: bool,
    /// Whether there is an upper-case letter behind the first character.
    inner_upper: bool,
}

impl Run {
    fn at(text: &str, start: usize) -> Self {
        let bytes = text.as_bytes();
        let mut run = Self { start, end: start, plain: true, inner_upper: false };
        while let Some(&byte) = bytes.get(run.end) {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' => run.end += 1,
                b'A'..=b'Z' => {
                    run.plain = false;
                    run.inner_upper |= run.end > start;
                    run.end += 1;
                }
                b'\'' if bytes.get(run.end + 1).is_some_and(u8::is_ascii_alphabetic) => {
                    run.plain = false;
                    run.end += 1;
                }
                _ if byte.is_ascii() => break,
                _ => {
                    let mut rest = text.get(run.end..).unwrap_or_default().chars();
                    let Some(c) = rest.next() else { break };
                    let apostrophe = c == '’' && rest.next().is_some_and(char::is_alphabetic);
                    if !apostrophe && (!c.is_alphanumeric() || is_ideographic(c)) {
                        break;
                    }
                    run.plain = false;
                    run.inner_upper |= run.end > start && c.is_uppercase();
                    run.end += c.len_utf8();
                }
            }
        }
        run
    }

    /// Emits the words of this run; returns where to go on.
    fn emit(&self, text: &str, lowered: &mut String, emit: &mut impl FnMut(&str, Cut)) -> usize {
        let word = text.get(self.start..self.end).unwrap_or_default();
        let rest = text.get(self.end..).unwrap_or_default();
        let sign = sign_after(word, rest);
        let dotted = is_dotted(text, self.start);
        if !dotted && sign.is_empty() && self.plain {
            emit(cut_long(word), Cut::Whole);
            return self.end;
        }
        lowered.clear();
        if dotted {
            lowered.push('.');
        }
        lower_into(word, lowered);
        lowered.push_str(sign);
        emit(cut_long(lowered), Cut::Whole);
        if dotted {
            emit(cut_long(lowered.get(1..).unwrap_or_default()), Cut::Part);
        }
        if self.inner_upper {
            emit_parts(word, lowered, emit);
        }
        self.end + sign.len()
    }
}

fn lower_into(word: &str, lowered: &mut String) {
    for c in word.chars() {
        if c.is_ascii() {
            if c != '\'' {
                lowered.push(c.to_ascii_lowercase());
            }
        } else if c != '’' {
            lowered.extend(c.to_lowercase());
        }
    }
}

fn cut_long(word: &str) -> &str {
    if word.len() <= WORD_BYTES_MAX {
        return word;
    }
    let end = (0..=WORD_BYTES_MAX).rev().find(|&end| word.is_char_boundary(end)).unwrap_or(0);
    word.get(..end).unwrap_or_default()
}

/// `++` or `#` behind one or two letters, as in `C++`, `C#` and `F#`.
fn sign_after(word: &str, rest: &str) -> &'static str {
    if word.len() > 2 || !word.bytes().all(|b| b.is_ascii_alphabetic()) {
        return "";
    }
    let sign = if rest.starts_with("++") {
        "++"
    } else if rest.starts_with('#') {
        "#"
    } else {
        return "";
    };
    let follows = rest.get(sign.len()..).and_then(|rest| rest.chars().next());
    if follows.is_some_and(char::is_alphanumeric) { "" } else { sign }
}

/// Whether the word at `start` is written with a dot before it, as `.NET` and `.env` are.
fn is_dotted(text: &str, start: usize) -> bool {
    let bytes = text.as_bytes();
    let before = |n: usize| start.checked_sub(n).and_then(|i| bytes.get(i));
    before(1) == Some(&b'.')
        && bytes.get(start).is_some_and(u8::is_ascii_alphabetic)
        && before(2).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'(' | b'"' | b'\'' | b'`' | b',' | b'['))
}

/// Emits the parts of a word in camel case. `HTTPServer` is `http` and `server`, `APIs` stays whole.
fn emit_parts(word: &str, lowered: &mut String, emit: &mut impl FnMut(&str, Cut)) {
    let mut part_start = 0;
    let mut previous: Option<char> = None;
    for (i, c) in word.char_indices() {
        let rest = word.get(i..).unwrap_or_default();
        let boundary = c.is_uppercase()
            && previous.is_some_and(|p| {
                if p.is_uppercase() {
                    // The last capital of an acronym begins the next word, unless only a plural `s` follows it.
                    rest.chars().nth(1).is_some_and(char::is_lowercase)
                        && rest.chars().nth(2).is_some_and(char::is_lowercase)
                } else {
                    true
                }
            });
        if boundary {
            emit_part(word.get(part_start..i).unwrap_or_default(), lowered, emit);
            part_start = i;
        }
        previous = Some(c);
    }
    if part_start > 0 {
        emit_part(word.get(part_start..).unwrap_or_default(), lowered, emit);
    }
}

fn emit_part(part: &str, lowered: &mut String, emit: &mut impl FnMut(&str, Cut)) {
    // A single letter says nothing about what the identifier means.
    if part.chars().nth(1).is_some() {
        lowered.clear();
        lower_into(part, lowered);
        emit(cut_long(lowered), Cut::Part);
    }
}

/// Characters of scripts that are written without spaces between words.
fn is_ideographic(c: char) -> bool {
    matches!(u32::from(c),
        0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7AF
        | 0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        tokens(text, &mut |word, cut| {
            words.push(if cut == Cut::Part { format!("+{word}") } else { word.to_owned() });
        });
        words
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("Deploy_to k8s-Clusters, 24/7!"), ["deploy", "to", "k8s", "clusters", "24", "7"]);
        assert_eq!(words("ÉCOLE straße Ärger"), ["école", "straße", "ärger"]);
        assert_eq!(words("  \u{0} -- \u{1F600} "), Vec::<String>::new());
    }

    #[test]
    fn camel_case_gives_the_whole_and_its_parts() {
        assert_eq!(words("PostgresTuner"), ["postgrestuner", "+postgres", "+tuner"]);
        assert_eq!(words("parseHTTPServer"), ["parsehttpserver", "+parse", "+http", "+server"]);
        assert_eq!(words("APIs iOS Rust"), ["apis", "ios", "+os", "rust"]);
    }

    #[test]
    fn signs_of_language_names_are_kept() {
        assert_eq!(words("C++, C# and F#."), ["c++", "c#", "and", "f#"]);
        assert_eq!(words("uses .NET; node.js"), ["uses", ".net", "+net", "node", "js"]);
        assert_eq!(words("well... and.so abc#1"), ["well", "and", "so", "abc", "1"]);
    }

    #[test]
    fn apostrophes_inside_words_are_dropped() {
        assert_eq!(words("don't the user’s 'quoted'"), ["dont", "the", "users", "quoted"]);
    }

    #[test]
    fn ideographs_are_words_of_their_own() {
        assert_eq!(words("数据 analysis検索"), ["数", "据", "analysis", "検", "索"]);
    }

    #[test]
    fn long_words_are_cut_at_a_character() {
        assert_eq!(words(&"a".repeat(500)), ["a".repeat(64)]);
        assert_eq!(words(&"é".repeat(500)), ["é".repeat(32)]);
        assert_eq!(words(&format!("a{}", "é".repeat(500))), [format!("a{}", "é".repeat(31))]);
    }
}
