//! A TCP proxy on the loopback that counts, and makes trouble on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What happens to connections.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// The first connections that carry so many bytes are closed after them.
    CutAfter { bytes: u64, connections: u64 },
    /// The first connections that carry so many bytes carry no more, and stay open.
    StallAfter { bytes: u64, connections: u64 },
    /// The first connections are answered 503 by the proxy itself.
    Unavailable { connections: u64 },
    /// Every connection is answered so by the proxy itself.
    Answer { head: String, body: Vec<u8> },
}

/// A running proxy; it ends with the runtime of its test.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    downstream: AtomicU64,
    requests: AtomicU64,
    troubled: AtomicU64,
}

impl Proxy {
    pub(crate) async fn start(upstream: &str, trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::new(Counts::default());
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let shared = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, trouble) = (upstream.clone(), trouble.clone());
                tokio::spawn(carry(client, upstream, trouble, Arc::clone(&shared)));
            }
        });
        Self { endpoint, counts }
    }

    /// Bytes that went to clients, headers included.
    pub(crate) fn downstream(&self) -> u64 {
        self.counts.downstream.load(Ordering::SeqCst)
    }

    /// Requests that clients made.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Connections that got their trouble.
    pub(crate) fn troubled(&self) -> u64 {
        self.counts.troubled.load(Ordering::SeqCst)
    }
}

/// A port that nobody listens on.
pub(crate) async fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn carry(mut client: TcpStream, upstream: String, trouble: Trouble, counts: Arc<Counts>) {
    let canned = match &trouble {
        Trouble::Answer { head, body } => Some((head.clone(), body.clone())),
        Trouble::Unavailable { connections } if take(&counts, *connections) => {
            Some(("503 Slow Down".to_owned(), Vec::new()))
        }
        Trouble::None
        | Trouble::CutAfter { .. }
        | Trouble::StallAfter { .. }
        | Trouble::Unavailable { .. } => None,
    };
    if let Some((head, body)) = canned {
        let mut request = vec![0; 16 << 10];
        drop(client.read(&mut request).await);
        let head = format!(
            "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        drop(client.write_all(head.as_bytes()).await);
        drop(client.write_all(&body).await);
        drop(client.shutdown().await);
        return;
    }
    let server = TcpStream::connect(upstream).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::spawn(up(from_client, to_server, Arc::clone(&counts)));
    down(from_server, to_client, trouble, counts).await;
}

/// Whether this connection is among the first so many.
fn take(counts: &Counts, connections: u64) -> bool {
    let more = |taken: u64| (taken < connections).then(|| taken.saturating_add(1));
    counts.troubled.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counts: Arc<Counts>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..length];
        // Requests without a body come in one piece.
        if bytes.starts_with(b"GET ") || bytes.starts_with(b"HEAD ") {
            counts.requests.fetch_add(1, Ordering::SeqCst);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    trouble: Trouble,
    counts: Arc<Counts>,
) {
    let mut carried = 0_u64;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        carried = carried.saturating_add(length as u64);
        counts.downstream.fetch_add(length as u64, Ordering::SeqCst);
        if let Trouble::CutAfter { bytes, connections } = trouble
            && carried > bytes
            && take(&counts, connections)
        {
            return;
        }
        if let Trouble::StallAfter { bytes, connections } = trouble
            && carried > bytes
            && take(&counts, connections)
        {
            std::future::pending::<()>().await;
        }
    }
}
