//! The client of nodes, publishers and operators: HTTP/3 first and HTTP/2 as fallback, several parents, each call
//! bounded in bytes and time.
//!
//! Every call may fail with [`Error::Connect`], [`Error::Broken`] or [`Error::Silent`] of the last parent that was asked,
//! with [`Error::Refused`] and what the parent said, or with [`Error::TooLarge`] or [`Error::Malformed`] if it answered
//! what it must not.
//!
//! A parent that answers over HTTP/2 only is remembered for five minutes. A connection that broke is made anew once
//! before the next parent is asked, and the parent that answered last is asked first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::sign::Key;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use rustls::ClientConfig;
use tokio::sync::Mutex;

use crate::body::{self, Body};
use crate::error::Error;
use crate::line::{Endpoint, Line, Patience, Protocol};
use crate::path;
use crate::problem::{PROBLEM_BYTES_MAX, Problem};
use crate::purge::Since;
use crate::signature::{self, Covered};
use crate::tls::{self, Authorities};
use crate::watch::WatchStream;
use crate::wire::{LISTING_BYTES_MAX, METADATA_BYTES_MAX, Report, ReportAnswer};

/// A parent that speaks HTTP/2 only is asked over HTTP/3 again after this, in seconds.
const H3_AGAIN_S: u64 = 300;
/// The head of a response must come within this, in seconds, and one more for each [`BODY_BYTES_PER_S`] of the request.
const HEAD_S: u64 = 60;
/// A connection that was there already may have died unnoticed, with a parent that was killed: what only reads is asked
/// again over a new one when no head has come within this, in seconds.
const STALE_S: u64 = 10;
/// The slowest link that a request's body is sent over, in bytes a second.
const BODY_BYTES_PER_S: u64 = 128 << 10;
/// A parent's connections are tried this often within one call.
const TRIES_MAX: usize = 3;

/// A bearer token. It shows itself to no log.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// The token of a text, such as the content of a credential file; white space around it is not part of it.
    pub fn new(text: &str) -> Result<Self, Error> {
        let bad = || Error::Settings("the token must be 16 to 256 visible ASCII characters".to_owned());
        let text = text.trim();
        if !(16..=256).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad());
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whom to ask, and as whom.
#[derive(Debug)]
pub struct Parents {
    /// Origins and relays, in the order they are tried: `https://origin.example:7443`.
    pub urls: Vec<String>,
    /// PEM of the authorities that may sign for them.
    pub ca_pem: Vec<u8>,
    /// A node's token.
    pub token: Option<Token>,
    /// A publisher's or operator's key.
    pub signer: Option<Key>,
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parents: Vec<Parent>,
    /// The parent that answered last.
    first: AtomicUsize,
    tls: ClientConfig,
    token: Option<Token>,
    signer: Option<Key>,
}

#[derive(Debug)]
struct Parent {
    endpoint: Endpoint,
    slot: Mutex<Slot>,
}

/// A parent's one connection.
#[derive(Debug, Default)]
struct Slot {
    line: Option<Line>,
    /// Until then HTTP/3 is not tried.
    h3_after: Option<Instant>,
}

/// A request, kept so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    /// Whether it must not be done twice: then it is sent again only if it surely was not sent.
    pub(crate) once: bool,
}

impl Ask {
    pub(crate) fn get(path: String) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: Bytes::new(), once: false }
    }

    pub(crate) fn json(method: Method, path: String, value: &impl serde::Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(|error| Error::Settings(error.to_string()))?;
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Ok(Self { method, path, headers, body: body.into(), once: false })
    }
}

/// A response and the parent that gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) response: http::Response<Body>,
}

impl Client {
    /// A client. Nothing is connected yet; wrong settings are refused.
    pub fn new(parents: Parents) -> Result<Self, Error> {
        if parents.urls.is_empty() {
            return Err(Error::Settings("no origin is named: give at least one URL".to_owned()));
        }
        let endpoints = parents.urls.iter().map(|url| {
            let endpoint = Endpoint::parse(url)?;
            if endpoint.secure { Ok(endpoint) } else { Err(Error::Settings(format!("`{url}` must be https"))) }
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(Shared {
            parents: endpoints.into_iter().map(|endpoint| Parent { endpoint, slot: Mutex::default() }).collect(),
            first: AtomicUsize::new(0),
            tls: tls::config(&Authorities::Pem(parents.ca_pem))?,
            token: parents.token,
            signer: parents.signer,
        })))
    }

    /// A metadata file's exact bytes: `timestamp.json`, `<version>.<role>.json`. `None`: there is none.
    pub async fn metadata(&self, file: &str) -> Result<Option<Bytes>, Error> {
        let answer = self.ask(&Ask::get(path::metadata(file))).await?;
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.bytes(METADATA_BYTES_MAX).await.map(Some)
    }

    /// A target's bytes, at most `length_max`; their digest is checked.
    pub async fn target(&self, target: &str, sha256: Digest, length_max: usize) -> Result<Bytes, Error> {
        let answer = self.ask(&Ask::get(path::target(target, sha256))).await?;
        let bytes = answer.bytes(length_max.min(METADATA_BYTES_MAX)).await?;
        if Digest::of(&bytes) == sha256 { Ok(bytes) } else { Err(Error::Digest { digest: sha256 }) }
    }

    /// The stream of changes after `seq`, and of purges after those that were done.
    pub async fn watch(&self, seq: u64, purged: Option<&Since>) -> Result<WatchStream, Error> {
        let answer = self.ask(&Ask::get(path::watch(seq, purged))).await?.good().await?;
        Ok(WatchStream::new(answer.response.into_body(), answer.url))
    }

    /// Tells a parent how this node is.
    pub async fn report(&self, report: &Report) -> Result<ReportAnswer, Error> {
        self.ask(&Ask::json(Method::POST, path::REPORT.to_owned(), report)?).await?.json().await
    }

    /// Asks the parents in turn. A parent's own failure (no connection, 5xx) leads to the next; the last one's is told.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Answer, Error> {
        let shared = &*self.0;
        let count = shared.parents.len();
        let first = shared.first.load(Ordering::Relaxed);
        let mut failure = None;
        for index in (0..count).map(|step| (first + step) % count) {
            let Some(parent) = shared.parents.get(index) else { continue };
            match shared.ask_parent(parent, ask).await {
                Ok(answer) if answer.response.status().is_server_error() && !ask.once => {
                    failure = answer.good().await.err();
                }
                Ok(answer) => {
                    shared.first.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if ask.once && !matches!(error, Error::Connect { .. }) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Settings("no origin is named".to_owned())))
    }
}

impl Shared {
    async fn ask_parent(&self, parent: &Parent, ask: &Ask) -> Result<Answer, Error> {
        let url = parent.endpoint.url.clone();
        let head_s = HEAD_S + ask.body.len() as u64 / BODY_BYTES_PER_S;
        let mut tries = 0;
        loop {
            tries += 1;
            let (mut line, fresh) = parent.line(&self.tls).await?;
            let request = self.request(&parent.endpoint, ask)?;
            let reads = matches!(ask.method, Method::GET | Method::HEAD);
            let head_s = if reads && !fresh { STALE_S } else { head_s };
            let failure = match tokio::time::timeout(Duration::from_secs(head_s), line.send(request)).await {
                Ok(Ok(response)) => return Ok(Answer { url, response }),
                Ok(Err(error)) => error,
                Err(_) => Error::Silent { url: url.clone(), seconds: head_s },
            };
            parent.forget(line.protocol(), fresh).await;
            let stale = reads && !fresh;
            if ask.once || tries >= TRIES_MAX || (matches!(failure, Error::Silent { .. }) && !stale) {
                return Err(failure);
            }
        }
    }

    /// The request as it is sent to one parent, with its credential. Each try is signed anew.
    fn request(&self, endpoint: &Endpoint, ask: &Ask) -> Result<http::Request<Body>, Error> {
        let failed = |error: http::Error| Error::Settings(format!("{}{}: {error}", endpoint.url, ask.path));
        let mut request = http::Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}{}", endpoint.url, ask.path))
            .body(if ask.body.is_empty() { body::empty() } else { body::full(ask.body.clone()) })
            .map_err(failed)?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("eyot/", env!("CARGO_PKG_VERSION"))));
        headers.extend(ask.headers.iter().cloned());
        if let Some(Token(value)) = &self.token {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if let Some(key) = &self.signer {
            let (path, query) =
                ask.path.split_once('?').map_or((&*ask.path, None), |(path, query)| (path, Some(query)));
            let covered = Covered { method: ask.method.as_str(), authority: endpoint.authority(), path, query };
            let created_s = jiff::Timestamp::now().as_second();
            let body = Digest::of(&ask.body);
            let fields = signature::sign(&covered, body, created_s, &nonce()?, key);
            fields.map_err(|error| Error::Settings(error.to_string()))?.insert_into(headers);
        }
        Ok(request)
    }
}

/// 128 random bits, in hexadecimal digits.
fn nonce() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Settings("the system gives no random bytes".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Parent {
    /// The parent's connection, made when there is none, and whether it was made just now.
    async fn line(&self, tls: &ClientConfig) -> Result<(Line, bool), Error> {
        let mut slot = self.slot.lock().await;
        if let Some(line) = slot.line.as_ref().filter(|line| !line.is_closed()).and_then(Line::share) {
            return Ok((line, false));
        }
        let line = slot.connect(&self.endpoint, tls).await?;
        slot.line = line.share();
        Ok((line, true))
    }

    /// A connection that failed is not used again. One that failed at its first request over HTTP/3 says that HTTP/3
    /// does not get through.
    async fn forget(&self, protocol: Protocol, fresh: bool) {
        let mut slot = self.slot.lock().await;
        slot.line = None;
        if fresh && protocol == Protocol::H3 {
            slot.h3_after = Some(Instant::now() + Duration::from_secs(H3_AGAIN_S));
        }
    }
}

impl Slot {
    async fn connect(&mut self, endpoint: &Endpoint, tls: &ClientConfig) -> Result<Line, Error> {
        let mut causes = Vec::new();
        if self.h3_after.is_none_or(|after| after <= Instant::now()) {
            match Line::connect(endpoint, Protocol::H3, tls, None, Patience::default()).await {
                Ok(line) => return Ok(line),
                Err(Error::Connect { cause, .. }) => causes.push(cause),
                Err(error) => return Err(error),
            }
        }
        match Line::connect(endpoint, Protocol::H2, tls, None, Patience::default()).await {
            Ok(line) => {
                if !causes.is_empty() {
                    tracing::info!(parent = endpoint.url, cause = causes.join("; "), "HTTP/3 fails; HTTP/2 is used");
                    self.h3_after = Some(Instant::now() + Duration::from_secs(H3_AGAIN_S));
                }
                Ok(line)
            }
            Err(Error::Connect { url, cause }) => {
                causes.push(cause);
                Err(Error::Connect { url, cause: causes.join("; ") })
            }
            Err(error) => Err(error),
        }
    }
}

impl Answer {
    /// The answer when its status is good, else what the parent said.
    pub(crate) async fn good(self) -> Result<Self, Error> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let problem = match body::read(self.response.into_body(), &self.url, PROBLEM_BYTES_MAX).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Problem::default(),
        };
        Err(Error::Refused { url: self.url, status: status.as_u16(), problem: Box::new(problem) })
    }

    pub(crate) async fn bytes(self, bytes_max: usize) -> Result<Bytes, Error> {
        let answer = self.good().await?;
        body::read(answer.response.into_body(), &answer.url, bytes_max).await
    }

    pub(crate) async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        let url = self.url.clone();
        let bytes = self.bytes(LISTING_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Malformed {
            url,
            what: "answer of this call",
            cause: error.to_string(),
        })
    }
}
