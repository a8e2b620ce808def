//! The agent card: where an agent says how it is spoken to.

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{CallError, get};
use crate::egress::Egress;
use crate::executors::excerpt;

/// Where a card is when a URL does not name one itself.
const WELL_KNOWN: &str = ".well-known/agent-card.json";
/// The only binding that is spoken here.
const BINDING: &str = "JSONRPC";
/// The first number of the versions that are spoken here.
const MAJOR: &str = "1";
const NAMES_MAX: usize = 8;
const WORD_CHARS_MAX: usize = 20;
const EXTENSION_CHARS_MAX: usize = 200;

/// How an agent is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interface {
    pub(super) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
}

/// Why no interface was found.
#[derive(Debug, thiserror::Error)]
pub(super) enum CardError {
    #[error("the agent card could not be read: {0}")]
    Call(#[from] CallError),
    #[error("the agent card {0}")]
    Unusable(String),
}

impl CardError {
    /// Whether the agent was reached; nothing when that was not tried or can't be told.
    pub(super) fn reached(&self) -> Option<bool> {
        match self {
            Self::Call(error) => error.reached(),
            Self::Unusable(_) => Some(true),
        }
    }

    /// Whether the operator's file does not have what the URL names, or it is no URL.
    pub(super) fn is_refused_here(&self) -> bool {
        matches!(self, Self::Call(CallError::Egress(error)) if !error.is_transient())
    }
}

/// Reads the card and picks the interface.
pub(super) async fn resolve(egress: &Egress, url: &str) -> Result<Interface, CardError> {
    let card = get(egress, url, card_url).await?;
    interface(&card).map_err(CardError::Unusable)
}

/// Reads the card as it is.
pub(in crate::executors) async fn read(egress: &Egress, url: &str) -> Result<Value, String> {
    get(egress, url, card_url).await.map_err(|error| error.to_string())
}

/// The URL of the card: the URL itself when it names a JSON document, else the well-known place below it.
fn card_url(mut url: Url) -> Url {
    if !url.path().ends_with(".json") {
        let path = format!("{}/{WELL_KNOWN}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url
}

/// The first interface that is spoken here: the agent lists those first that it prefers.
fn interface(card: &Value) -> Result<Interface, String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(interfaces) = card.get("supportedInterfaces").and_then(Value::as_array) else {
        return Err(match card.get("protocolVersion").and_then(Value::as_str) {
            Some(version) => {
                format!("is of version {} of the protocol; version {MAJOR}.0 is spoken here", word(version))
            }
            None => "has no supportedInterfaces, so it is not a card of version 1.0 of the protocol".to_owned(),
        });
    };
    let spoken = interfaces.iter().find(|interface| {
        let version = text(interface, "protocolVersion");
        text(interface, "protocolBinding").eq_ignore_ascii_case(BINDING) && version.split('.').next() == Some(MAJOR)
    });
    let Some(spoken) = spoken else {
        let offered: Vec<String> = interfaces
            .iter()
            .take(NAMES_MAX)
            .map(|i| format!("{} {}", word(&text(i, "protocolBinding")), word(&text(i, "protocolVersion"))))
            .collect();
        return Err(format!("offers {}; {BINDING} {MAJOR}.0 is spoken here", offered.join(", ")));
    };
    if let Some(extension) = required_extension(card) {
        let extension = excerpt(extension.as_bytes(), EXTENSION_CHARS_MAX);
        return Err(format!("requires the extension {extension}, which is not spoken here"));
    }
    let tenant = Some(text(spoken, "tenant")).filter(|tenant| !tenant.is_empty());
    Ok(Interface { url: text(spoken, "url"), tenant })
}

fn word(text: &str) -> String {
    excerpt(text.as_bytes(), WORD_CHARS_MAX)
}

fn required_extension(card: &Value) -> Option<&str> {
    let extensions = card.get("capabilities")?.get("extensions")?.as_array()?;
    let required = extensions.iter().find(|extension| extension.get("required") == Some(&Value::Bool(true)))?;
    Some(required.get("uri").and_then(Value::as_str).unwrap_or("without a name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_card_is_at_the_url_or_at_the_well_known_place_below_it() {
        for (url, card) in [
            ("https://a.example", "https://a.example/.well-known/agent-card.json"),
            ("https://a.example/", "https://a.example/.well-known/agent-card.json"),
            ("https://a.example/agents/x/?v=1", "https://a.example/agents/x/.well-known/agent-card.json?v=1"),
            ("https://a.example/cards/x.json", "https://a.example/cards/x.json"),
        ] {
            assert_eq!(card_url(Url::parse(url).unwrap()).as_str(), card);
        }
    }

    #[test]
    fn the_first_interface_that_is_spoken_here_is_taken() {
        let card = json!({"supportedInterfaces": [
            {"url": "https://a.example/grpc", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
            {"url": "https://a.example/old", "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
            {"url": "https://a.example/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"},
            {"url": "https://a.example/more", "protocolBinding": "JSONRPC", "protocolVersion": "1.1"},
        ]});
        let expected = Interface { url: "https://a.example/rpc".to_owned(), tenant: Some("t".to_owned()) };
        assert_eq!(interface(&card), Ok(expected));
    }

    #[test]
    fn a_card_that_can_not_be_used_says_why() {
        for (card, said) in [
            (json!({"protocolVersion": "0.3.0", "url": "https://a.example"}), "version 0.3.0"),
            (json!([]), "no supportedInterfaces"),
            (
                json!({"supportedInterfaces": [{"protocolBinding": "GRPC", "protocolVersion": "1.0"}]}),
                "offers GRPC 1.0; JSONRPC 1.0",
            ),
            (
                json!({
                    "supportedInterfaces": [{"url": "u", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
                    "capabilities": {"extensions": [{"uri": "urn:x", "required": true}]},
                }),
                "requires the extension urn:x",
            ),
        ] {
            let problem = interface(&card).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
