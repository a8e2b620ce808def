//! A webhook on this machine whose effects are counted by idempotency key.
//!
//! It does what a well-behaved receiver does: the first request with a key has an effect and is remembered with its
//! answer, every other one with that key gets the same answer again. So a test can tell how often something was asked
//! for, how often it took effect, and what the one right answer is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a request takes at most before it has its effect, so that senders die in the middle of some.
const WORK_MAX: Duration = Duration::from_millis(20);
/// One of so many requests is refused for now.
const REFUSED_ONE_OF: u32 = 12;

/// A running webhook; it ends with the test process.
#[derive(Debug, Clone)]
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    effects: Mutex<BTreeMap<String, Value>>,
    count: watch::Sender<usize>,
    requests: AtomicUsize,
}

impl Webhook {
    /// Listens on a free port of the loopback interface.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { effects: Mutex::default(), count: watch::Sender::new(0), requests: AtomicUsize::new(0) });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                // A sender that was killed leaves in the middle of a request, which is what this is for.
                tokio::spawn(async move { serve(stream, &shared).await });
            }
        });
        Self { address, shared }
    }

    /// Where it is, without a path.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The one right answer for each key that has had its effect.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<String, Value> {
        self.shared.effects.lock().unwrap().clone()
    }

    /// Follows the number of effects.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<usize> {
        self.shared.count.subscribe()
    }

    /// How many requests came in, repetitions included.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut key, mut length, mut line) = (None, 0_usize, String::new());
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
                    "idempotency-key" => key = Some(value.trim().to_owned()),
                    "content-length" => length = value.trim().parse().ok()?,
                    _ => {}
                }
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let pause = WORK_MAX.mul_f64(rand::rng().random_range(0.0..1.0));
        tokio::time::sleep(pause).await;
        let (status, answer) = match key {
            _ if rand::rng().random_ratio(1, REFUSED_ONE_OF) => ("503 Service Unavailable", json!({"busy": true})),
            Some(key) => ("200 OK", effect(shared, key)),
            None => ("400 Bad Request", json!({"error": "no idempotency key"})),
        };
        let answer = answer.to_string();
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.get_mut().write_all(response.as_bytes()).await.ok()?;
    }
}

fn effect(shared: &Shared, key: String) -> Value {
    let mut effects = shared.effects.lock().unwrap();
    let number = effects.len();
    let answer = effects.entry(key).or_insert_with_key(|key| json!({"key": key, "number": number})).clone();
    let count = effects.len();
    shared.count.send_if_modified(|known| std::mem::replace(known, count) != count);
    answer
}
