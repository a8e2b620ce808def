//! The client's side of the Postgres protocol: framing, and which statement a message executes.

use std::collections::HashMap;

/// Codes in the place of a protocol version.
pub(super) const SSL_REQUEST: u32 = 80_877_103;
pub(super) const GSS_REQUEST: u32 = 80_877_104;
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;

/// How many prepared statements are remembered; a client that never closes its statements would fill the memory.
const STATEMENTS_MAX: usize = 10_000;

/// Returns the length of the typed message at the start of the bytes once all of it is there.
pub(super) fn message_length(bytes: &[u8]) -> Option<usize> {
    // One byte of type, then a length that counts itself but not the type.
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?);
    let length = 1 + length.max(4) as usize;
    (bytes.len() >= length).then_some(length)
}

/// Returns length and code of the untyped first message once all of it is there.
pub(super) fn startup_message(bytes: &[u8]) -> Option<(usize, u32)> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let code = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    (bytes.len() >= length).then_some((length.max(8), code))
}

/// What a message asks of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Executes a statement and ends with a ReadyForQuery of its own.
    Simple(String),
    /// Executes a statement; its ReadyForQuery comes at the next Sync.
    Extended(String),
    /// Ends a group of messages with a ReadyForQuery.
    Sync,
    /// Nothing of interest here.
    Other,
}

/// The statements and portals that a client has named.
#[derive(Debug, Default)]
pub(super) struct Statements {
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
}

impl Statements {
    /// Looks at one whole typed message.
    pub(super) fn see(&mut self, message: &[u8]) -> Asks {
        let (kind, body) = (message[0], &message[5..]);
        match kind {
            b'Q' => Asks::Simple(text(c_string(body).0)),
            b'S' => Asks::Sync,
            b'P' => {
                let (name, rest) = c_string(body);
                if self.statements.len() >= STATEMENTS_MAX {
                    self.statements.clear();
                }
                self.statements.insert(name.to_vec(), text(c_string(rest).0));
                Asks::Other
            }
            b'B' => {
                let (portal, rest) = c_string(body);
                if self.portals.len() >= STATEMENTS_MAX {
                    self.portals.clear();
                }
                self.portals.insert(portal.to_vec(), c_string(rest).0.to_vec());
                Asks::Other
            }
            b'E' => {
                let statement = self.portals.get(c_string(body).0).and_then(|name| self.statements.get(name));
                Asks::Extended(statement.cloned().unwrap_or_default())
            }
            b'C' => {
                let name = c_string(body.get(1..).unwrap_or_default()).0;
                match body.first() {
                    Some(b'S') => drop(self.statements.remove(name)),
                    _ => drop(self.portals.remove(name)),
                }
                Asks::Other
            }
            _ => Asks::Other,
        }
    }
}

/// The bytes up to the first zero, and those after it.
fn c_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend_from_slice(body);
        message
    }

    #[test]
    fn a_message_is_whole_or_not_there() {
        let whole = message(b'Q', b"select 1\0");
        assert_eq!(message_length(&whole), Some(whole.len()));
        assert_eq!(message_length(&whole[..whole.len() - 1]), None);
        assert_eq!(message_length(&whole[..3]), None);
        assert_eq!(message_length(b""), None);
        let two = [whole.clone(), whole.clone()].concat();
        assert_eq!(message_length(&two), Some(whole.len()));
    }

    #[test]
    fn the_first_message_has_no_type() {
        let request = [8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat();
        assert_eq!(startup_message(&request), Some((8, SSL_REQUEST)));
        assert_eq!(startup_message(&request[..7]), None);
    }

    #[test]
    fn an_execution_leads_to_the_text_that_was_parsed() {
        let mut statements = Statements::default();
        assert_eq!(statements.see(&message(b'Q', b"COMMIT\0")), Asks::Simple("COMMIT".into()));
        assert_eq!(statements.see(&message(b'P', b"s1\0commit\0\0\0")), Asks::Other);
        assert_eq!(statements.see(&message(b'B', b"p\0s1\0\0\0\0\0\0\0")), Asks::Other);
        assert_eq!(statements.see(&message(b'E', b"p\0\0\0\0\0")), Asks::Extended("commit".into()));
        assert_eq!(statements.see(&message(b'S', b"")), Asks::Sync);
        assert_eq!(statements.see(&message(b'C', b"Ss1\0")), Asks::Other);
        assert_eq!(statements.see(&message(b'E', b"p\0\0\0\0\0")), Asks::Extended(String::new()));
    }
}
