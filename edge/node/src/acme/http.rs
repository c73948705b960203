//! How the authority is asked: each request over a connection of its own, bounded in bytes and time. Where it goes is
//! the operator's choice (`tls.acme.directory`), and from there the authority's; nothing that an app says gets here.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use eyot_link::body;
use eyot_link::get::{Get, get};
use eyot_link::line::{Patience, Protocol};
use eyot_link::tls::Authorities;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

/// A response larger than this is refused, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The head of a response must come within this, in milliseconds.
const HEAD_MS: u64 = 30_000;
/// A whole exchange ends within this.
const EXCHANGE: Duration = Duration::from_secs(60);
/// An authority that wants to be left alone is left alone no longer than this, in seconds.
const LATER_S_MAX: u64 = 86_400;

/// The way to the authority.
#[derive(Clone)]
pub(super) struct Http {
    authorities: Authorities,
    /// When the authority wants to be asked again, as it last said with a refusal.
    later: Arc<Mutex<Option<SystemTime>>>,
}

impl Http {
    pub(super) fn new(authorities: Authorities) -> Self {
        Self { authorities, later: Arc::default() }
    }

    /// When the authority wants to be asked again, if it said so since this was last asked.
    pub(super) fn later(&self) -> Option<SystemTime> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        if request.uri().scheme_str() != Some("https") {
            return Err(Error::Other(format!("{} is not https", request.uri()).into()));
        }
        let other = |error: eyot_link::error::Error| Error::Other(Box::new(error));
        let (parts, content) = request.into_parts();
        let content = content.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let url = parts.uri.to_string();
        let asked = Get {
            url: parts.uri,
            protocol: Protocol::H1,
            connect: None,
            authorities: self.authorities,
            method: parts.method,
            headers: headers(parts.headers),
            body: if content.is_empty() { body::empty() } else { body::full(content) },
            patience: Patience::default(),
            head_ms: HEAD_MS,
        };
        let (head, answer) = get(asked).await.map_err(other)?.into_parts();
        if matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            *self.later.lock().unwrap_or_else(PoisonError::into_inner) = later(&head.headers);
        }
        let bytes = body::read(answer, &url, BODY_BYTES_MAX).await.map_err(other)?;
        Ok(BytesResponse::from(Response::from_parts(head, Full::new(bytes))))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            match tokio::time::timeout(EXCHANGE, exchange).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Other(format!("no whole answer in {} s", EXCHANGE.as_secs()).into())),
            }
        })
    }
}

/// The fields with our name in them (RFC 8555, section 6.1).
fn headers(mut headers: HeaderMap) -> HeaderMap {
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("eyot/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// What `Retry-After` says, in seconds (RFC 9110, section 10.2.3); a date is passed over.
fn later(headers: &HeaderMap) -> Option<SystemTime> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    SystemTime::now().checked_add(Duration::from_secs(seconds.min(LATER_S_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_authority_is_asked_over_https_alone() {
        let http = Http::new(Authorities::Public);
        for url in ["http://127.0.0.1:1/dir", "ftp://127.0.0.1/dir", "/dir"] {
            let request = Request::get(url).body(BodyWrapper::default()).expect("a request");
            let error = http.request(request).await.err().expect("refused").to_string();
            assert!(error.contains("is not https"), "{error}");
        }
    }

    #[test]
    fn an_authority_is_left_alone_for_as_long_as_it_wants_to_a_day() {
        for (value, expect) in [("120", Some(120)), ("999999999", Some(86_400)), ("-1", None), ("Fri", None)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let begun = SystemTime::now();
            let seconds = later(&headers).map(|at| at.duration_since(begun).expect("later").as_secs());
            assert!(seconds.is_some() == expect.is_some() && seconds >= expect, "{value}: {seconds:?}");
            assert!(seconds <= expect.map(|seconds| seconds + 60), "{value}: {seconds:?}");
        }
    }
}
