//! One request and its response, the same for all protocols: checked, made an arrival, answered, and the answer made fit
//! to be sent. It never fails: a panic of the answer is a fault of this exchange alone.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, Ordering};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use eyot_h3::patience::Patience;
use eyot_plan::arrival::{Answer, Arrival, Connect, Protocol};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::request::{self, Way};
use futures_util::FutureExt as _;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::acme::Challenges;
use crate::connection::{Connection, InFlight};
use crate::interim::{GoOn, Reach};
use crate::request_body::{Awaited, incoming};
use crate::response_body::ResponseBody;
use crate::settings::{Plain, Settings};
use crate::tunnel::{Accepted, Pulse};

/// What all exchanges share.
pub(crate) struct Exchanges<A> {
    pub(crate) answer: Arc<A>,
    /// What plain listeners answer to a certificate authority.
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) settings: Settings,
    /// The `Alt-Svc` of responses over TCP.
    pub(crate) alt_svc: Option<HeaderValue>,
    /// The port that plain requests are sent to.
    pub(crate) https_port: u16,
}

impl<A: Answer> Exchanges<A> {
    /// Answers one request of a connection. What it leads to is found out at once: the future is small.
    pub(crate) fn exchange<'a, B>(
        &'a self,
        connection: &'a Connection,
        request: Request<B>,
        reach: Reach,
        in_flight: InFlight,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<'a, A, B>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
    {
        let mut asked = Asked { method: request.method().clone(), tunnel: None, is_answered: Arc::default() };
        let step = AssertUnwindSafe(|| self.arrival(connection, request, reach, &mut asked));
        let step = std::panic::catch_unwind(step);
        async move {
            let response = match step {
                Ok(Ok(Step::Answer(arrival))) => {
                    AssertUnwindSafe(self.answer.answer(arrival)).catch_unwind().await.ok()
                }
                Ok(Ok(Step::Redirect(to))) => Some(redirect(&to)),
                Ok(Ok(Step::Respond(response))) => Some(*response),
                Ok(Err(fault)) => Some(self.refusal(&fault)),
                Err(_) => None,
            };
            let response = response.unwrap_or_else(|| {
                self.settings.counts.panicked();
                tracing::error!(protocol = connection.protocol.label(), "the answer to a request panicked");
                self.refusal(&Code::InternalError.into())
            });
            self.finish(connection, &asked, response, in_flight)
        }
    }

    /// The response to a request that never became one.
    pub(crate) fn refuse(&self, connection: &Connection, fault: &Fault, in_flight: InFlight) -> Response<ResponseBody> {
        let asked = Asked { method: Method::GET, tunnel: None, is_answered: Arc::default() };
        self.finish(connection, &asked, self.refusal(fault), in_flight)
    }

    /// The response of the error contract, for what was refused before there was an answer to ask.
    fn refusal(&self, fault: &Fault) -> Response<Body> {
        self.settings.counts.fault(fault.code);
        problem(fault).map(body::full)
    }

    fn arrival<B>(
        &self,
        connection: &Connection,
        request: Request<B>,
        reach: Reach,
        asked: &mut Asked,
    ) -> Result<Step, Fault>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
    {
        let at = SystemTime::now();
        let early = request.extensions().get::<eyot_h3::server::Early>().is_some();
        let (parts, body) = request.into_parts();
        let way = Way {
            protocol: connection.protocol,
            secure: connection.tls.is_some(),
            header_bytes_max: self.settings.header_bytes_max,
        };
        let expects = parts.headers.contains_key(header::EXPECT);
        let (parts, connect) = request::normalise(parts, reach.extended.as_deref(), &way)?;
        if !way.secure
            && let Some(response) = self.challenges.http(&parts)
        {
            return Ok(Step::Respond(Box::new(response)));
        }
        connection.serves(parts.uri.host().unwrap_or_default())?;
        if !way.secure && self.settings.plain == Plain::Redirect {
            return Ok(Step::Redirect(secure(&parts.uri, self.https_port)));
        }
        let body = match connect {
            None => incoming(body, self.awaited(asked, reach.go_on.filter(|_| expects))),
            Some(Connect::WebSocket) => {
                let pulse = asked.tunnel.insert(Pulse::new(self.settings.tunnel_idle));
                pulse.through(reach.tunnel.unwrap_or_else(|| unbounded(body)))
            }
        };
        let request = Request::from_parts(parts, body);
        let tls = connection.tls.as_ref().map(|named| named.said.clone());
        let arrival = Arrival {
            request,
            protocol: connection.protocol,
            client: connection.client,
            tls,
            at,
            connect,
            early,
            interim: reach.interim,
        };
        Ok(Step::Answer(Box::new(arrival)))
    }

    fn awaited(&self, asked: &Asked, go_on: Option<GoOn>) -> Awaited {
        let patience = Patience::new(self.settings.body_idle, self.settings.body_rate_bytes_min);
        Awaited { patience, is_answered: asked.is_answered.clone(), go_on }
    }

    /// Makes an answer fit for the wire: no field of the connection, a length that is true, no body where there is none.
    fn finish(
        &self,
        connection: &Connection,
        asked: &Asked,
        response: Response<Body>,
        in_flight: InFlight,
    ) -> Response<ResponseBody> {
        let Asked { method, tunnel, is_answered } = asked;
        is_answered.store(true, Ordering::Relaxed);
        let (mut parts, body) = response.into_parts();
        // A tunnel is accepted by 200; another 2xx would be taken for that by the client (RFC 8441, section 5).
        let is_unfit = tunnel.is_some() && parts.status.is_success() && parts.status != StatusCode::OK;
        if parts.status.is_informational() || is_unfit {
            let fault = Fault::new(Code::InternalError).because("a status that is no response to this request");
            return self.finish(connection, asked, self.refusal(&fault), in_flight);
        }
        // A reason phrase or a version of another protocol must not reach the encoder.
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        // One look at each field costs less than a search for each name.
        if parts.headers.keys().any(|name| CONNECTION_ONLY.contains(name)) {
            for name in CONNECTION_ONLY {
                parts.headers.remove(name);
            }
        }
        if connection.protocol != Protocol::H1 {
            date(&mut parts.headers);
        }
        if let (true, Some(alt_svc), true) =
            (connection.is_announced(), &self.alt_svc, connection.protocol != Protocol::H3)
        {
            parts.headers.insert(header::ALT_SVC, alt_svc.clone());
        }
        if let (Some(pulse), StatusCode::OK) = (tunnel, parts.status) {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.extensions.insert(Accepted);
            let body = ResponseBody::new(Some(pulse.through(body)), None, self.settings.counts.clone(), in_flight);
            return Response::from_parts(parts, body);
        }
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
        let unsent = *method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
        let length = length(&mut parts.headers, body.size_hint().exact(), unsent);
        if parts.status == StatusCode::NO_CONTENT {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let body = (!bodiless && *method != Method::HEAD).then_some(body);
        Response::from_parts(parts, ResponseBody::new(body, length, self.settings.counts.clone(), in_flight))
    }
}

/// What its response must know of a request.
struct Asked {
    method: Method,
    /// It opens a tunnel.
    tunnel: Option<Pulse>,
    /// The response has begun.
    is_answered: Arc<AtomicBool>,
}

/// The body of a tunnel, whose time is bounded with that of its other direction.
fn unbounded<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    body.map_err(|error| Fault::new(Code::BadRequest).because(error.into())).boxed_unsync()
}

/// What a request leads to.
enum Step {
    Answer(Box<Arrival>),
    Redirect(String),
    Respond(Box<Response<Body>>),
}

/// Fields of a connection that no answer may set (RFC 9110, section 7.6.1).
pub(crate) const CONNECTION_ONLY: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The one `Content-Length`: what the body itself knows, else what the head says, if that is one number. Where the body
/// is `unsent` (`HEAD`, 304) it is that of the body which would have been sent, so the head comes first, and a body that
/// is not there knows nothing (RFC 9110, section 8.6).
fn length(headers: &mut HeaderMap, known: Option<u64>, unsent: bool) -> Option<u64> {
    let mut said = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = said.next().and_then(|value| value.to_str().ok());
    let digits = first.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let one = digits.and_then(|text| text.parse::<u64>().ok()).filter(|_| said.next().is_none());
    let length = if unsent { one.or(known.filter(|bytes| *bytes > 0)) } else { known.or(one) };
    match length {
        Some(bytes) => {
            headers.insert(header::CONTENT_LENGTH, bytes.into());
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    length
}

/// RFC 9110, section 6.6.1.
fn date(headers: &mut HeaderMap) {
    if headers.contains_key(header::DATE) {
        return;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let value = DATE.with_borrow_mut(|(second, value)| {
        if *second != now || value.is_none() {
            (*second, *value) = (now, written(now));
        }
        value.clone()
    });
    if let Some(value) = value {
        headers.insert(header::DATE, value);
    }
}

thread_local! {
    /// The last second that was written here, and as what: a busy listener writes one often.
    static DATE: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
}

/// A second since 1970, as `Date` has it.
fn written(second: u64) -> Option<HeaderValue> {
    let at = jiff::Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()?;
    HeaderValue::try_from(text).ok()
}

/// The response to a head of HTTP/3 that was too large to be kept.
pub(crate) fn too_large() -> Response<Bytes> {
    let mut response = problem(&Code::HeadersTooLarge.into());
    date(response.headers_mut());
    response
}

/// The response of the error contract.
fn problem(fault: &Fault) -> Response<Bytes> {
    let id = uuid::Uuid::now_v7().to_string();
    tracing::debug!(fault = %fault, request = id, "a request is refused");
    let mut response = fault.response(&id);
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

/// The same address over https.
fn secure(uri: &Uri, port: u16) -> String {
    let host = uri.host().unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if port == 443 { format!("https://{host}{path}") } else { format!("https://{host}:{port}{path}") }
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    match HeaderValue::from_str(to) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => problem(&Fault::new(Code::BadRequest).because("no address to send it to")).map(body::full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_that_of_the_body_which_is_or_would_have_been_sent() {
        for (said, known, unsent, expect) in [
            (&["5"][..], Some(3), false, Some(3)),
            (&["5"], None, false, Some(5)),
            (&["5", "6"], None, false, None),
            (&[], Some(0), false, Some(0)),
            (&["5"], Some(0), true, Some(5)),
            (&[], Some(5), true, Some(5)),
            (&[], Some(0), true, None),
            (&["x"], Some(0), true, None),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(header::CONTENT_LENGTH, value.parse().expect("a value"));
            }
            let found = length(&mut headers, known, unsent);
            let field = headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().expect("text").to_owned());
            assert_eq!((found, field), (expect, expect.map(|bytes: u64| bytes.to_string())), "{said:?} {known:?}");
        }
    }
}
