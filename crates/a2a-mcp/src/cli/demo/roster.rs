//! The roster that ships in `examples/agents`.

use serde_json::Value;

use super::{DemoError, failed};

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../../examples/agents/", $name)))
    };
}

const FILES: [(&str, &str); 8] = [
    file!("business.yaml"),
    file!("data.yaml"),
    file!("engineering.yaml"),
    file!("operations.yaml"),
    file!("product.yaml"),
    file!("research.json"),
    file!("security.yaml"),
    file!("writing.yaml"),
];

/// All documents of the roster.
pub(super) fn documents() -> Result<Vec<Value>, DemoError> {
    let mut documents = Vec::new();
    for (name, text) in FILES {
        // YAML holds JSON too.
        let read: Vec<Value> =
            serde_saphyr::from_str(text).map_err(|error| failed(format!("examples/agents/{name}: {error}")))?;
        documents.extend(read);
    }
    Ok(documents)
}
