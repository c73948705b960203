//! Our own client as a source of load: so many requests over so many streams. Over HTTP/3 it takes more CPU than the
//! server, so rates are its own; what the server's process takes is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use eyot_link::body;
use eyot_link::error::Error;
use eyot_link::line::{Endpoint, Line, Patience, Protocol};
use eyot_link::tls::{self, Authorities};

/// Whom to ask.
#[derive(Clone)]
pub(crate) struct Target {
    endpoint: Endpoint,
    authorities: Authorities,
    address: SocketAddr,
}

impl Target {
    /// `https://localhost:<port>` on loopback, with a certificate of this CA (PEM).
    pub(crate) fn of(port: u16, ca: Vec<u8>) -> Self {
        Self {
            endpoint: Endpoint::parse(&format!("https://localhost:{port}")).expect("an endpoint"),
            authorities: Authorities::Pem(ca),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    /// A connection.
    pub(crate) async fn connect(&self, protocol: Protocol) -> Result<Line, Error> {
        let config = tls::config(&self.authorities)?;
        Line::connect(&self.endpoint, protocol, &config, Some(self.address), Patience::default()).await
    }

    /// A handle for each of `count` streams, which share `connections`; over HTTP/1.1 each has its own.
    pub(crate) async fn streams(&self, protocol: Protocol, connections: usize, count: usize) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for at in 0..count {
            let shared = if at < connections { None } else { lines[at % connections].share() };
            let line = match shared {
                Some(line) => line,
                None => self.connect(protocol).await.expect("a connection"),
            };
            lines.push(line);
        }
        lines
    }

    /// The URI of a path, which begins with `/`.
    pub(crate) fn uri(&self, path: &str) -> http::Uri {
        format!("{}{path}", self.endpoint.url).parse().expect("a URI")
    }
}

/// One request; whether it was answered by 200 and these very bytes.
pub(crate) async fn ask(line: &mut Line, uri: &http::Uri, bytes: &Bytes) -> Result<bool, Error> {
    let mut request = http::Request::new(body::empty());
    *request.uri_mut() = uri.clone();
    let response = line.send(request).await?;
    let mut good = response.status() == http::StatusCode::OK;
    let (mut body, mut at) = (response.into_body(), 0);
    while let Some(piece) = body::next(&mut body, "the server", body::IDLE_S).await? {
        good &= bytes.get(at..at + piece.len()).is_some_and(|part| part == piece);
        at += piece.len();
    }
    Ok(good && at == bytes.len())
}

/// So many requests over all the lines at once. The lines come back, and how long each request took until its answer's end, in
/// microseconds, in no order.
pub(crate) async fn drive(lines: Vec<Line>, uri: &http::Uri, bytes: &Bytes, requests: usize) -> (Vec<Line>, Vec<f64>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let stream = |mut line: Line| {
        let (begun, uri, bytes) = (Arc::clone(&begun), uri.clone(), bytes.clone());
        tokio::spawn(async move {
            let mut times_us = Vec::new();
            while begun.fetch_add(1, Ordering::Relaxed) < requests {
                let from = Instant::now();
                assert!(ask(&mut line, &uri, &bytes).await.expect("an answer"), "{uri}: an answer of another kind");
                times_us.push(from.elapsed().as_secs_f64() * 1e6);
            }
            (line, times_us)
        })
    };
    let streams: Vec<_> = lines.into_iter().map(stream).collect();
    let (mut lines, mut all_us) = (Vec::new(), Vec::new());
    for stream in streams {
        let (line, times_us) = stream.await.expect("a stream without a fault");
        lines.push(line);
        all_us.extend(times_us);
    }
    (lines, all_us)
}
