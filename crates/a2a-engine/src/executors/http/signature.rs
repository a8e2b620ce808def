//! Signatures of webhooks.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;

use crate::operator::Secret;

/// `t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<body>`. The time is signed too, so that the receiver can refuse
/// an old request that somebody has recorded.
pub(super) fn header(key: &Secret, now: SystemTime, body: &[u8]) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let mut header = format!("t={seconds},v1=");
    for byte in context.sign().as_ref() {
        let _infallible = write!(header, "{byte:02x}");
    }
    header
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_signature_is_that_of_other_implementations() {
        // Made with `printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac k3y`.
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let header = header(&Secret::new("k3y"), now, br#"{"a":1}"#);
        assert_eq!(header, "t=1700000000,v1=fd5a70e965043f7df6309c2c3b5ff5a8ffa99b1f5175e9a311459e73c4634d4a");
    }
}
