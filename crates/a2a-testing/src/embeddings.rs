//! An endpoint on this machine that speaks the protocol of OpenAI for embeddings, and counts what it has read.
//!
//! What a text means to it are the first letters of its words, so that a test can ask for what no table of words knows:
//! `zeppelin` is near to `zebra`. It answers in the wrong order, which the protocol allows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How the endpoint behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Reads,
    /// It answers with this status, and asks to be left alone for so many seconds.
    Status(u16, Option<u64>),
    /// It takes requests and never answers them.
    Silent,
    /// Its answer never ends.
    Endless,
    /// Its answer is no JSON.
    Garbled,
    /// The vectors of one answer have different lengths.
    Uneven,
    /// It takes no text with this word.
    RefusesWord(String),
}

/// A running endpoint; it ends with the test process.
#[derive(Debug, Clone)]
pub struct EmbeddingEndpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    key: Option<String>,
    dimensions: Mutex<usize>,
    behaviour: Mutex<Behaviour>,
    changed: Notify,
    /// How often a vector of each text was given, by model.
    given: Mutex<BTreeMap<(String, String), usize>>,
    requests: Mutex<usize>,
}

impl EmbeddingEndpoint {
    /// Listens on a free port of the loopback interface. With a key it takes no requests without.
    pub async fn start(key: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            key: key.map(ToOwned::to_owned),
            dimensions: Mutex::new(48),
            behaviour: Mutex::new(Behaviour::Reads),
            changed: Notify::new(),
            given: Mutex::default(),
            requests: Mutex::default(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                // A client that ends leaves in the middle of a request.
                tokio::spawn(async move { serve(stream, &shared).await });
            }
        });
        Self { address, shared }
    }

    /// The address of its API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Behaves so from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
        self.shared.changed.notify_waiters();
    }

    /// Gives vectors of so many dimensions from now on.
    pub fn set_dimensions(&self, dimensions: usize) {
        *self.shared.dimensions.lock().unwrap() = dimensions;
    }

    /// How often a vector of each text was given by a model.
    #[must_use]
    pub fn given(&self, model: &str) -> BTreeMap<String, usize> {
        let given = self.shared.given.lock().unwrap();
        given.iter().filter(|((by, _), _)| by == model).map(|((_, text), count)| (text.clone(), *count)).collect()
    }

    /// How many requests came in.
    #[must_use]
    pub fn requests(&self) -> usize {
        *self.shared.requests.lock().unwrap()
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut key, mut length, mut line) = (None, 0_usize, String::new());
        stream.read_line(&mut line).await.ok()?;
        let is_ours = line.starts_with("POST /v1/embeddings HTTP/1.1");
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "authorization" => key = value.trim().strip_prefix("Bearer ").map(ToOwned::to_owned),
                    "content-length" => length = value.trim().parse().ok()?,
                    _ => {}
                }
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        *shared.requests.lock().unwrap() += 1;
        let mut behaviour = shared.behaviour.lock().unwrap().clone();
        while behaviour == Behaviour::Silent {
            shared.changed.notified().await;
            behaviour = shared.behaviour.lock().unwrap().clone();
        }
        if behaviour == Behaviour::Endless {
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            loop {
                let chunk = [b"10000\r\n".as_slice(), &[b'['; 0x10000], b"\r\n"].concat();
                stream.get_mut().write_all(&chunk).await.ok()?;
            }
        }
        let (status, after, answer) = answer(shared, &behaviour, is_ours, key.as_deref(), &body);
        let after = after.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{after}content-length: ");
        let response = format!("{head}{}\r\n\r\n{answer}", answer.len());
        stream.get_mut().write_all(response.as_bytes()).await.ok()?;
    }
}

fn answer(
    shared: &Shared,
    behaviour: &Behaviour,
    is_ours: bool,
    key: Option<&str>,
    body: &[u8],
) -> (u16, Option<u64>, String) {
    let error = |text: String| json!({"error": {"message": text, "type": "error"}}).to_string();
    if !is_ours {
        return (404, None, error("no such path".to_owned()));
    }
    if shared.key.as_deref() != key {
        return (401, None, error(format!("Incorrect API key provided: {}", key.unwrap_or_default())));
    }
    let question: Value = serde_json::from_slice(body).unwrap();
    let texts: Vec<&str> = question["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let model = question["model"].as_str().unwrap();
    match behaviour {
        Behaviour::Status(status, after) => {
            return (*status, *after, error(format!("not now, {}", key.unwrap_or_default())));
        }
        Behaviour::Garbled => return (200, None, "<html>".to_owned()),
        Behaviour::RefusesWord(word) if texts.iter().any(|text| text.contains(word.as_str())) => {
            return (400, None, error("the input is too long".to_owned()));
        }
        _ => {}
    }
    let dimensions = *shared.dimensions.lock().unwrap();
    let mut given = shared.given.lock().unwrap();
    let mut data: Vec<Value> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        *given.entry((model.to_owned(), (*text).to_owned())).or_default() += 1;
        let length = dimensions + if *behaviour == Behaviour::Uneven { index } else { 0 };
        data.push(json!({"object": "embedding", "index": index, "embedding": meaning(text, length)}));
    }
    data.reverse();
    (200, None, json!({"object": "list", "data": data, "model": model}).to_string())
}

fn meaning(text: &str, dimensions: usize) -> Vec<f32> {
    let mut direction = vec![0.01; dimensions];
    for letter in text.split_whitespace().filter_map(|word| word.bytes().next()) {
        direction[usize::from(letter.to_ascii_lowercase()) % dimensions] += 1.0;
    }
    direction
}
