//! Tokens that can be told by their form.

use std::ops::Range;

use super::Secret;

/// What the characters behind a prefix are.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// Letters and digits.
    Alphanumeric,
    /// Upper-case letters and digits.
    Upper,
    /// Letters, digits, `_` and `-`.
    Word,
    /// Hexadecimal digits.
    Hex,
    /// Letters, digits, `_`, `-` and `.`.
    Dotted,
}

impl Body {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
        }
    }
}

/// The prefixes of known issuers, what follows, and at least how many characters of it. Longer prefixes come before
/// shorter ones that they begin with.
const FORMATS: [(&str, &str, Body, usize); 55] = [
    ("AKIA", "AWS key", Body::Upper, 16),
    ("ASIA", "AWS key", Body::Upper, 16),
    ("github_pat_", "GitHub token", Body::Word, 22),
    ("ghp_", "GitHub token", Body::Alphanumeric, 30),
    ("gho_", "GitHub token", Body::Alphanumeric, 30),
    ("ghu_", "GitHub token", Body::Alphanumeric, 30),
    ("ghs_", "GitHub token", Body::Alphanumeric, 30),
    ("ghr_", "GitHub token", Body::Alphanumeric, 30),
    ("glpat-", "GitLab token", Body::Word, 20),
    ("gldt-", "GitLab token", Body::Word, 20),
    ("glrt-", "GitLab token", Body::Word, 20),
    ("xoxb-", "Slack token", Body::Word, 20),
    ("xoxp-", "Slack token", Body::Word, 20),
    ("xoxa-", "Slack token", Body::Word, 20),
    ("xoxr-", "Slack token", Body::Word, 20),
    ("xoxs-", "Slack token", Body::Word, 20),
    ("xapp-", "Slack token", Body::Word, 20),
    ("sk-ant-", "Anthropic key", Body::Word, 20),
    ("sk-proj-", "OpenAI key", Body::Word, 20),
    ("sk-or-", "OpenRouter key", Body::Word, 20),
    ("sk_live_", "Stripe key", Body::Alphanumeric, 16),
    ("sk_test_", "Stripe key", Body::Alphanumeric, 16),
    ("rk_live_", "Stripe key", Body::Alphanumeric, 16),
    ("whsec_", "webhook secret", Body::Alphanumeric, 24),
    ("sk-", "API key", Body::Alphanumeric, 24),
    ("AIza", "Google API key", Body::Word, 35),
    ("ya29.", "Google OAuth token", Body::Dotted, 20),
    ("GOCSPX-", "Google OAuth secret", Body::Word, 20),
    ("npm_", "npm token", Body::Alphanumeric, 36),
    ("pypi-AgE", "PyPI token", Body::Word, 40),
    ("rubygems_", "RubyGems key", Body::Hex, 48),
    ("cio", "crates.io token", Body::Alphanumeric, 32),
    ("dop_v1_", "DigitalOcean token", Body::Hex, 64),
    ("doo_v1_", "DigitalOcean token", Body::Hex, 64),
    ("hf_", "Hugging Face token", Body::Alphanumeric, 30),
    ("gsk_", "Groq key", Body::Alphanumeric, 40),
    ("xai-", "xAI key", Body::Alphanumeric, 40),
    ("pa-", "Voyage key", Body::Word, 40),
    ("r8_", "Replicate token", Body::Alphanumeric, 36),
    ("SG.", "SendGrid key", Body::Dotted, 60),
    ("shpat_", "Shopify token", Body::Hex, 32),
    ("shpss_", "Shopify secret", Body::Hex, 32),
    ("sq0csp-", "Square secret", Body::Word, 40),
    ("EAAA", "Square token", Body::Word, 60),
    ("lin_api_", "Linear key", Body::Alphanumeric, 32),
    ("secret_", "Notion token", Body::Alphanumeric, 40),
    ("ntn_", "Notion token", Body::Alphanumeric, 40),
    ("dckr_pat_", "Docker token", Body::Word, 24),
    ("hvs.", "Vault token", Body::Word, 24),
    ("glsa_", "Grafana token", Body::Word, 32),
    ("dapi", "Databricks token", Body::Hex, 32),
    ("tskey-", "Tailscale key", Body::Word, 20),
    ("AGE-SECRET-KEY-1", "age key", Body::Upper, 50),
    ("key-", "Mailgun key", Body::Hex, 32),
    ("sbp_", "Supabase token", Body::Hex, 40),
];

/// A token of a known form inside a run, with where it is in it. It may stand behind a sign, as in `token=ghp_...`.
pub(super) fn known_token(run: &str) -> Option<(&'static str, Range<usize>)> {
    let bytes = run.as_bytes();
    let starts = (0..bytes.len())
        .filter(|at| at.checked_sub(1).and_then(|i| bytes.get(i)).is_none_or(|b| !b.is_ascii_alphanumeric()));
    for start in starts {
        let rest = run.get(start..)?;
        if let Some(length) = json_web_token(rest) {
            return Some(("JSON web token", start..start + length));
        }
        for (prefix, kind, body, least) in FORMATS {
            let Some(body_text) = rest.strip_prefix(prefix) else { continue };
            let length = body_text.bytes().take_while(|b| body.has(*b)).count();
            // A word in a row of words is no token: those of issuers all have digits.
            let has_digit = body_text.bytes().take(length).any(|b| b.is_ascii_digit());
            if length >= least && has_digit {
                return Some((kind, start..start + prefix.len() + length));
            }
        }
    }
    None
}

/// `header.payload.signature`, the first two of which are base64 of objects and so begin with `eyJ`.
fn json_web_token(text: &str) -> Option<usize> {
    let length = text.bytes().take_while(|b| Body::Dotted.has(*b)).count();
    let token = text.get(..length)?;
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = header.starts_with("eyJ") && payload.starts_with("eyJ") && header.len() >= 12 && signature.len() >= 16;
    fits.then_some(length)
}

/// Blocks of PEM and PuTTY that hold a private key. One without an end reaches to the end of the text.
pub(super) fn private_keys(text: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find("-----BEGIN ")).map(|i| at + i) {
        let rest = text.get(start..).unwrap_or_default();
        let label = rest.lines().next().unwrap_or_default();
        if !label.contains("PRIVATE KEY") {
            at = start + 11;
            continue;
        }
        // A sentence may speak of the line itself; a key follows it with its letters.
        let body = rest.get(label.len().min(rest.len())..).unwrap_or_default();
        let inline = label.split("KEY").nth(1).unwrap_or_default();
        let letters = body.chars().chain(inline.chars()).filter(char::is_ascii_alphanumeric).take(40).count();
        let end = rest.find("-----END ").map_or(text.len(), |i| {
            let tail = rest.get(i + 9..).unwrap_or_default();
            start + i + 9 + tail.find("-----").map_or(tail.len(), |j| j + 5)
        });
        if letters >= 40 {
            found.push(Secret { kind: "private key", range: start..end });
            at = end;
        } else {
            at = start + 11;
        }
    }
    let putty = text.find("PuTTY-User-Key-File-");
    let putty = putty.filter(|start| text.get(*start..).is_some_and(|rest| rest.contains("Private-Lines:")));
    found.extend(putty.map(|start| Secret { kind: "private key", range: start..text.len() }));
    found
}

/// Passwords that stand for one in examples.
const PLACEHOLDERS: [&str; 12] = [
    "password", "pass", "passwd", "pwd", "secret", "changeme", "example", "user", "postgres", "token", "hidden",
    "redacted",
];

/// Whether a value stands for a secret and is none: `***`, `<password>`, `${PASSWORD}`, `your-key-here`.
pub(super) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let first = lower.chars().next().unwrap_or('*');
    lower.chars().all(|c| c == first || matches!(c, '.' | '*'))
        || matches!(first, '<' | '$' | '{' | '%' | '[')
        || PLACEHOLDERS.contains(&lower.as_str())
        || ["your", "xxx", "***", "...", "example", "placeholder", "redacted", "dummy"]
            .iter()
            .any(|p| lower.contains(p))
}

/// The passwords in URLs such as `scheme://name:password@host`.
pub(super) fn url_passwords(text: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find("://")).map(|i| at + i + 3) {
        at = start;
        let rest = text.get(start..).unwrap_or_default();
        let length = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | ')'))
            .unwrap_or(rest.len());
        let authority = rest.get(..length).unwrap_or_default();
        // The last one: passwords are written with an `@` inside, too.
        let Some((login, _host)) = authority.rsplit_once('@') else { continue };
        let Some((name, password)) = login.split_once(':') else { continue };
        if !password.is_empty() && !is_placeholder(password) {
            let from = start + name.len() + 1;
            found.push(Secret { kind: "password in a URL", range: from..from + password.len() });
        }
    }
    found
}
