//! Fetches the model that this program is tested with from a hub into the data folder.
//!
//! What is fetched is known by its hash, so that it does not matter where it comes from. A file has its name only when
//! it is whole; the weights come last, so that a folder with weights has everything.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use reqwest::redirect;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::egress::{Origin, own_client_builder, transport_error};

/// Where the authors publish it.
pub const HUB: &str = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main";
/// Hubs keep large files elsewhere.
const REDIRECTS_MAX: usize = 5;
/// Nothing comes for so long: the connection is dead.
const STALL: Duration = Duration::from_secs(30);

struct Wanted {
    path: &'static str,
    sha256: &'static str,
    bytes: u64,
}

/// The files of the model, Apache-2.0, as its authors publish them.
const FILES: [Wanted; 4] = [
    Wanted {
        path: "config.json",
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        bytes: 612,
    },
    Wanted {
        path: "1_Pooling/config.json",
        sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        bytes: 190,
    },
    Wanted {
        path: "vocab.txt",
        sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        bytes: 231_508,
    },
    Wanted {
        path: "model.safetensors",
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bytes: 90_868_376,
    },
];

/// Whether all files of the model are there; they are not read.
#[must_use]
pub fn is_there(folder: &Path) -> bool {
    FILES.iter().all(|wanted| fs::metadata(folder.join(wanted.path)).is_ok_and(|file| file.len() == wanted.bytes))
}

/// A file that was fetched, or was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PulledFile {
    /// Its path in the folder.
    pub path: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Whether it was there before.
    pub was_there: bool,
}

/// Fetches the model. `told` hears of each file when it is there.
///
/// # Errors
/// What went wrong, with the file. Files that are whole stay, and are not fetched again.
pub async fn pull(from: &str, folder: &Path, mut told: impl FnMut(&PulledFile)) -> Result<(), String> {
    let (origin, base) = Origin::of_url(from).map_err(|problem| format!("the address {problem}"))?;
    if !origin.is_https() && !super::external::is_near(&origin) {
        return Err(
            "the address must start with https://; plain http is for this machine and private networks".to_owned()
        );
    }
    let client = own_client_builder(origin.is_https())
        .await
        .map_err(|error| error.to_string())?
        .redirect(redirect::Policy::limited(REDIRECTS_MAX))
        .read_timeout(STALL)
        .build()
        .map_err(|error| transport_error(&error))?;
    let base = base.as_str().trim_end_matches('/').to_owned();
    for wanted in &FILES {
        let target = folder.join(wanted.path);
        let was_there = hash_of(&target).await.is_some_and(|hash| hash == wanted.sha256);
        if !was_there {
            let fetched = fetch(&client, &format!("{base}/{}", wanted.path), wanted, &target).await;
            fetched.map_err(|problem| format!("{}: {problem}", wanted.path))?;
        }
        told(&PulledFile { path: wanted.path, bytes: wanted.bytes, was_there });
    }
    Ok(())
}

async fn hash_of(path: &Path) -> Option<String> {
    let path = path.to_owned();
    let hash = move || {
        let mut file = File::open(path).ok()?;
        let (mut hasher, mut part) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match file.read(&mut part).ok()? {
                0 => return Some(hex(hasher)),
                read => hasher.update(part.get(..read).unwrap_or_default()),
            }
        }
    };
    // The largest takes a third of a second.
    tokio::task::spawn_blocking(hash).await.ok().flatten()
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn fetch(client: &reqwest::Client, url: &str, wanted: &Wanted, target: &Path) -> Result<(), String> {
    let mut response = client.get(url).send().await.map_err(|error| transport_error(&error))?;
    if !response.status().is_success() {
        return Err(format!("the hub answers {}", response.status().as_u16()));
    }
    let folder = target.parent().ok_or("has no folder")?;
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    // In the same folder, so that giving it its name is one step; gone again if this ends early.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| error.to_string())?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    while let Some(part) = response.chunk().await.map_err(|error| transport_error(&error))? {
        bytes += part.len() as u64;
        if bytes > wanted.bytes {
            return Err(format!("it has more than the {} bytes that it should have", wanted.bytes));
        }
        hasher.update(&part);
        file.write_all(&part).map_err(|error| error.to_string())?;
    }
    let hash = hex(hasher);
    if hash != wanted.sha256 {
        return Err(format!("it is not what it should be: its SHA-256 is {hash} and not {}", wanted.sha256));
    }
    file.as_file().sync_all().map_err(|error| error.to_string())?;
    file.persist(target).map_err(|error| error.to_string())?;
    Ok(())
}
