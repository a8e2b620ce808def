//! Finds the id of a request in text that is not parsed as a whole.

use rmcp::model::RequestId;

/// Longest raw id that is recovered; ids of real clients are a few bytes.
const ID_BYTES_MAX: usize = 1024;
/// Longest key of the envelope that matters, `method`, and one more to tell a longer key apart.
const KEY_BYTES_MAX: usize = 7;

/// Reads the outermost object of a JSON-RPC message byte by byte, in constant memory, and remembers its id.
///
/// Some clients write the id first and some write it last, so that only the whole message tells it. The scanner
/// judges nothing: it is meant for text that was refused, where a wrong guess only means an answer without an id.
#[derive(Debug, Default)]
pub(super) struct EnvelopeScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    key_expected: bool,
    reading_key: bool,
    reading_id: bool,
    key: Vec<u8>,
    id_raw: Vec<u8>,
    ids_seen: usize,
    id: Option<RequestId>,
    method_seen: bool,
}

impl EnvelopeScanner {
    /// Scans a whole text.
    pub(super) fn id_of(text: &[u8]) -> Option<RequestId> {
        let mut scanner = Self::default();
        scanner.feed(text);
        scanner.id()
    }

    /// The id, if the text was a request with exactly one. The id of a response is not the peer's own and is not told:
    /// an error with it would be taken for the answer to another request.
    pub(super) fn id(self) -> Option<RequestId> {
        if self.method_seen && self.ids_seen == 1 { self.id } else { None }
    }

    /// Takes the next bytes of the text.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            if self.in_string {
                self.string_byte(byte);
                if self.in_string && !self.escaped && !self.reading_key && !self.reading_id {
                    // Long strings are most of a long message; only their end and escapes matter.
                    let uninteresting = bytes.iter().take_while(|b| !matches!(b, b'"' | b'\\')).count();
                    bytes = bytes.get(uninteresting..).unwrap_or_default();
                }
            } else {
                self.structure_byte(byte);
            }
        }
    }

    fn string_byte(&mut self, byte: u8) {
        if self.reading_id {
            self.id_byte(byte);
        }
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            self.reading_key = false;
            return;
        }
        if self.reading_key && self.key.len() < KEY_BYTES_MAX {
            self.key.push(byte);
        }
    }

    fn structure_byte(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 && self.key_expected {
                    self.key.clear();
                    self.reading_key = true;
                    self.key_expected = false;
                }
            }
            b':' if self.depth == 1 && !self.reading_id => {
                match self.key.as_slice() {
                    b"method" => self.method_seen = true,
                    b"id" => {
                        self.reading_id = true;
                        self.id_raw.clear();
                        return;
                    }
                    _ => {}
                }
                self.key.clear();
            }
            b',' if self.depth == 1 => {
                self.id_ended();
                self.key_expected = true;
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.key_expected = self.depth == 1 && byte == b'{';
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.id_ended();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        if self.reading_id {
            self.id_byte(byte);
        }
    }

    fn id_byte(&mut self, byte: u8) {
        if self.id_raw.len() <= ID_BYTES_MAX {
            self.id_raw.push(byte);
        }
    }

    fn id_ended(&mut self) {
        if std::mem::take(&mut self.reading_id) {
            self.ids_seen += 1;
            self.id = serde_json::from_slice(&self.id_raw).ok();
            self.key.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_first_last_and_between() {
        for text in [
            r#"{"id":7,"method":"tools/call","params":{"id":9,"a":[{"id":8}]}}"#,
            r#"{"method":"tools/call","params":{"id":9,"text":"\"id\":3,"},"jsonrpc":"2.0","id":7}"#,
            r#"{ "method" : "x" , "id" : 7 , "params" : [1,2,"}"] }"#,
        ] {
            assert_eq!(EnvelopeScanner::id_of(text.as_bytes()), Some(RequestId::Number(7)), "{text}");
            let mut scanner = EnvelopeScanner::default();
            text.as_bytes().iter().for_each(|byte| scanner.feed(std::slice::from_ref(byte)));
            assert_eq!(scanner.id(), Some(RequestId::Number(7)), "{text} byte by byte");
        }
        let text = r#"{"id":"a\"b,}","method":"x"}"#;
        assert_eq!(EnvelopeScanner::id_of(text.as_bytes()), Some(RequestId::String("a\"b,}".into())));
    }

    #[test]
    fn an_id_that_is_not_sure_is_not_told() {
        for text in [
            r#"{"method":"x","params":{"id":7}}"#,
            r#"{"id":7,"result":{}}"#,
            r#"{"id":7,"id":8,"method":"x"}"#,
            r#"{"id":null,"method":"x"}"#,
            r#"{"id":{"a":1},"method":"x"}"#,
            r#"[{"id":7,"method":"x"}]"#,
            r#"{"idle":7,"method":"x"}"#,
            r#"{"methods":"id","idx":7}"#,
            r#"{"method":"x","id":7"#,
            "",
            "}}}}]]",
        ] {
            assert_eq!(EnvelopeScanner::id_of(text.as_bytes()), None, "{text}");
        }
        let long = format!(r#"{{"method":"x","id":"{}"}}"#, "i".repeat(100_000));
        assert_eq!(EnvelopeScanner::id_of(long.as_bytes()), None);
    }
}
