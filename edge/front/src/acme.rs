//! Proving to a certificate authority that a name leads here: HTTP-01 on plain listeners (RFC 8555, section 8.3) and
//! TLS-ALPN-01 on those with TLS (RFC 8737). It answers what it was given; whom to ask for certificates, and for which
//! names, it must never know.

mod issued;
mod proof;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use eyot_plan::body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, request};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

pub(crate) use issued::Issued;

use crate::error::Error;

/// The protocol of TLS-ALPN-01 (RFC 8737, section 6.2).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where HTTP-01 asks (RFC 8555, section 8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// Challenges held at once; the oldest gives way.
const CHALLENGES_MAX: usize = 256;
/// How long a challenge is answered.
const KEPT: Duration = Duration::from_secs(600);
/// A name longer than this is none, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// A token or a thumbprint longer than this is none, in bytes; those in use have 43.
const TOKEN_BYTES_MAX: usize = 128;

/// One challenge and what answers it, well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    name: String,
    token: String,
    /// The key authorization (RFC 8555, section 8.1): token, a dot, thumbprint of the account's key.
    answer: String,
}

impl Challenge {
    /// A challenge for the DNS name `name`. `None`: the name, the token or the answer cannot be one.
    pub fn new(name: &str, token: &str, answer: &str) -> Option<Self> {
        let thumbprint = answer.strip_prefix(token)?.strip_prefix('.')?;
        let named = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
        let made = is_base64url(token) && is_base64url(thumbprint);
        (named && made).then(|| Self { name: name.to_owned(), token: token.to_owned(), answer: answer.to_owned() })
    }

    /// The name that is to be proven.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The answer.
    pub fn answer(&self) -> &str {
        &self.answer
    }
}

fn is_base64url(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(inside)
}

/// The challenges that are answered now.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<Vec<Held>>);

#[derive(Debug)]
struct Held {
    challenge: Challenge,
    /// What TLS-ALPN-01 wants to see.
    proof: Arc<CertifiedKey>,
    until: Instant,
}

impl Challenges {
    /// Answers `challenge` from now on: for ten minutes, or until it is removed, or 256 later ones have come.
    ///
    /// # Errors
    /// [`Error::Challenge`], when no certificate can be made for it.
    pub fn put(&self, challenge: Challenge) -> Result<(), Error> {
        let proof = proof::certificate(&challenge)?;
        let mut held = self.held();
        held.retain(|other| other.challenge.token != challenge.token || other.challenge.name != challenge.name);
        if held.len() >= CHALLENGES_MAX {
            held.remove(0);
        }
        held.push(Held { challenge, proof, until: Instant::now() + KEPT });
        Ok(())
    }

    /// Answers `challenge` no more.
    pub fn remove(&self, challenge: &Challenge) {
        self.held().retain(|held| held.challenge != *challenge);
    }

    /// The response to a request on a plain listener, when it asks for a challenge that is held for its host.
    pub(crate) fn http(&self, request: &request::Parts) -> Option<Response<body::Body>> {
        let token = request.uri.path().strip_prefix(PATH)?;
        let host = request.uri.host()?;
        let asks = [Method::GET, Method::HEAD].contains(&request.method);
        let held = self.held();
        let fits = |held: &&Held| held.challenge.token == token && held.challenge.name.eq_ignore_ascii_case(host);
        let answer = held.iter().filter(|_| asks).find(fits)?.challenge.answer.clone();
        let mut response = Response::new(body::full(Bytes::from(answer)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// The certificate for a client that speaks TLS-ALPN-01 and nothing else; `None` inside: its name has no challenge.
    /// Of several for a name the newest counts.
    pub(crate) fn tls(&self, hello: &ClientHello<'_>) -> Option<Option<Arc<CertifiedKey>>> {
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(ACME_TLS) || protocols.next().is_some() {
            return None;
        }
        let of_name = |name: &str| {
            let held = self.held();
            let found = held.iter().rev().find(|held| held.challenge.name.eq_ignore_ascii_case(name));
            found.map(|held| held.proof.clone())
        };
        Some(hello.server_name().and_then(of_name))
    }

    /// Those whose time is not over.
    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        held.retain(|held| held.until > now);
        held
    }
}
