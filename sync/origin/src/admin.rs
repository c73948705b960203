//! Health and metrics, on loopback and on a socket in the file system: `/healthz`, `/readyz`, `/metrics`. It changes
//! nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::config::AdminAddress;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// A request's head must be there within this, in milliseconds.
const HEAD_MS: u64 = 10_000;
/// The largest head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What can be asked.
pub(crate) trait Status: Send + Sync + 'static {
    /// Why requests should not be sent here; `None`: they should.
    fn unready(&self) -> Option<String>;
    /// The metrics in Prometheus' text.
    fn metrics(&self) -> String;
}

/// A bound listener.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds an address of the configuration. A socket file that an earlier process left is replaced.
    pub(crate) fn bind(address: &AdminAddress) -> std::io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            AdminAddress::Unix(path) => {
                remove_socket(path)?;
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// Where it listens, if that is an address.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

fn remove_socket(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "a file that is no socket is there")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Answers until it is dropped; connections that are open then end with their request.
pub(crate) async fn serve(listener: Listener, status: Arc<impl Status>) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { std::future::pending().await };
        let status = Arc::clone(&status);
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    connection(stream, status).await;
                    drop(permit);
                })
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    connection(stream, status).await;
                    drop(permit);
                })
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "an admin connection was not taken");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, status: Arc<impl Status>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &*status);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(HEAD_MS)).max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an admin connection broke");
    }
}

fn answer(method: &Method, path: &str, status: &impl Status) -> Response<Full<Bytes>> {
    let (code, text) = match (method, path) {
        (&Method::GET, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") => match status.unready() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        (&Method::GET, "/metrics") => (StatusCode::OK, status.metrics()),
        (_, "/healthz" | "/readyz" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;

    /// Counts how often it was asked.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Status for Counting {
        fn unready(&self) -> Option<String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            None
        }

        fn metrics(&self) -> String {
            String::new()
        }
    }

    /// A listener that answers, and how to reach it.
    fn listening() -> (Arc<Counting>, SocketAddr, tokio::task::JoinSet<Infallible>) {
        let any = AdminAddress::Tcp("127.0.0.1:0".parse().expect("an address"));
        let listener = Listener::bind(&any).expect("a listener");
        let (status, address) = (Arc::new(Counting::default()), listener.address().expect("an address"));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&status)));
        (status, address, tasks)
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own loopback")]
    async fn connect(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("a connection")
    }

    const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n";

    /// The first bytes of an answer.
    async fn answered(stream: &mut TcpStream) -> String {
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        String::from_utf8_lossy(&head).into_owned()
    }

    #[tokio::test]
    async fn sixty_four_connections_are_taken_and_the_next_waits_until_one_ends() {
        let (status, address, _tasks) = listening();
        let mut held = Vec::new();
        for _ in 0..64 {
            let mut stream = connect(address).await;
            stream.write_all(READY).await.expect("a request");
            assert_eq!(answered(&mut stream).await, "HTTP/1.1 200");
            held.push(stream);
        }
        let mut next = connect(address).await;
        next.write_all(READY).await.expect("a request");
        // Those that are held are answered meanwhile, each once more.
        for stream in &mut held {
            stream.write_all(READY).await.expect("a request");
            let mut rest = [0; 256];
            while stream.read(&mut rest).await.expect("the rest") == rest.len() {}
        }
        while status.0.load(Ordering::Relaxed) < 128 {
            tokio::task::yield_now().await;
        }
        assert_eq!(status.0.load(Ordering::Relaxed), 128, "the one that waits was not asked for");
        held.pop();
        assert_eq!(answered(&mut next).await, "HTTP/1.1 200");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_in_ten_seconds_ends_its_connection() {
        let (_status, address, _tasks) = listening();
        let mut stream = connect(address).await;
        let begun = Instant::now();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nho").await.expect("half a head");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the end");
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn a_head_of_more_than_sixteen_kibibytes_is_not_read() {
        for (field_bytes, status) in [(15 << 10, "HTTP/1.1 200"), (17 << 10, "HTTP/1.1 431")] {
            let (_status, address, _tasks) = listening();
            let mut stream = connect(address).await;
            let head = format!("GET /readyz HTTP/1.1\r\nhost: admin\r\nx: {}\r\n\r\n", "x".repeat(field_bytes));
            stream.write_all(head.as_bytes()).await.expect("a request");
            assert_eq!(answered(&mut stream).await, status, "{field_bytes}");
        }
    }
}
