//! The doors of one call: how a function's fetches leave, and where its words go. Nothing else leads out of a guest.

use std::sync::Arc;
use std::time::Duration;

use eyot_bundle::host;
use eyot_bundle::release::upstream::Timeouts;
use eyot_bundle::web_origin::Scheme;
use eyot_guest::{FetchTimeouts, Fetching, Log, LogLevel, LogStream, Remaining, Sender, Tree};
use eyot_link::tail::{self, Line, Said};
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::{self, DEPTH_MAX, Lent};
use eyot_plan::way::Way;
use http::{HeaderMap, Request, Response, Uri};

use crate::cached::fetched::Out;
use crate::call::{Kin, Place};
use crate::entry::Function;
use crate::secrets;

/// What comes before this is the name of the function that is called.
const FUNCTION: &str = ".function.eyot.internal";
/// Bytes that the log line of a refusal is counted as.
const REFUSAL_LINE_BYTES: usize = 256;

/// The doors of one call: out, and to the log.
pub(crate) struct Door {
    kin: Arc<Kin>,
    function: Arc<Function>,
}

impl Door {
    pub(crate) fn new(kin: Arc<Kin>, function: &Arc<Function>) -> Self {
        Self { kin, function: Arc::clone(function) }
    }

    /// Tells those who follow the app what the function said.
    fn told(&self, stream: &str, logged: Option<(LogLevel, &str)>, text: &str) {
        self.kin.access.tap().tell(&self.kin.entry.label, || {
            Line::Log(Said {
                time: jiff::Timestamp::now(),
                id: self.kin.request_id.clone(),
                app: self.kin.entry.label.to_string(),
                release: self.kin.entry.release,
                function: self.function.label.to_string(),
                stream: stream.to_owned(),
                level: logged.map(|(level, _)| level.label().to_owned()),
                context: logged.map(|(_, context)| context.to_owned()),
                text: text.to_owned(),
            })
        });
    }

    /// What is done with a request: it leaves, or another function of the app is called.
    fn sent(&self, mut request: Request<Body>, timeouts: FetchTimeouts) -> Result<Fetching, Fault> {
        let sender = request.extensions_mut().remove::<Sender>();
        let sender = sender.ok_or_else(|| Fault::new(Code::InternalError).because("nobody sent it"))?;
        let (scheme, host, port) = origin(request.uri())?;
        if host::is_internal(&host) {
            return self.call(&host, request, &sender, timeouts);
        }
        if !self.function.egress.iter().any(|egress| egress.allows(scheme, &host, port)) {
            let origin = format!("{}://{host}:{port} is not in the function's `egress`", scheme.as_str());
            return Err(Fault::new(Code::EgressDenied).because(origin));
        }
        let way = Way { timeouts: within(self.function.way.timeouts, timeouts), ..self.function.way.clone() };
        let caching = self.kin.entry.fetches.clone();
        let out = Out::new(&self.kin, way, sender, self.kin.snapshots.names(&host));
        Ok(Box::pin(out.fetch(caching, request)))
    }

    /// Calls the function that `host` names, if this one may.
    fn call(
        &self,
        host: &str,
        mut request: Request<Body>,
        sender: &Sender,
        timeouts: FetchTimeouts,
    ) -> Result<Fetching, Fault> {
        let denied = |cause: String| Fault::new(Code::EgressDenied).because(cause);
        let name = host.strip_suffix(FUNCTION).ok_or_else(|| denied(format!("there is no host `{host}`")))?;
        if !self.function.calls.iter().any(|it| it.as_str() == name) {
            let own = &self.function.label;
            return Err(denied(format!("`{own}` may not call `{name}`: the `calls` of its release do not name it")));
        }
        let called = self.kin.entry.function(name).ok_or_else(|| denied(format!("there is no function `{name}`")))?;
        let depth = sender.depth + 1;
        let hops = self.kin.trail.hops().saturating_add(depth);
        if hops >= DEPTH_MAX {
            return Err(Fault::new(Code::LoopDetected).over("hops", DEPTH_MAX.into(), hops.into()));
        }
        forward::request_within(request.headers_mut(), &self.kin.request_id);
        let caller = Some(self.function.guest.name.clone());
        let place = Place { tree: Some(Arc::clone(&sender.tree)), depth, caller };
        let (kin, called) = (Arc::clone(&self.kin), Arc::clone(called));
        Ok(Box::pin(async move {
            let calling = Arc::clone(&kin).call(&called, request, place);
            let answer = match timeouts.first_byte_ms {
                Some(ms) => tokio::time::timeout(Duration::from_millis(ms), calling).await,
                None => Ok(calling.await),
            };
            let answer = answer.unwrap_or_else(|_| Err(Code::UpstreamTimeout.into()));
            match answer {
                Ok(mut response) => {
                    forward::response_back(response.headers_mut());
                    Ok(response)
                }
                Err(fault) => {
                    refused(&kin, &called, &fault);
                    Err(fault)
                }
            }
        }))
    }
}

/// Says why something that a function asked for was refused or failed: the function itself is told no causes.
fn refused(kin: &Kin, function: &Function, fault: &Fault) {
    let cause = fault.cause.as_deref().unwrap_or_default();
    let function = &*function.label;
    kin.access.tap().tell(&kin.entry.label, || {
        Line::Fault(tail::Fault {
            time: jiff::Timestamp::now(),
            id: kin.request_id.clone(),
            app: kin.entry.label.to_string(),
            release: Some(kin.entry.release),
            target: format!("function:{function}"),
            code: fault.code.name().to_owned(),
            cause: cause.to_owned(),
        })
    });
    if kin.entry.share.log(REFUSAL_LINE_BYTES) {
        let (app, id, code) = (&*kin.entry.label, &kin.request_id, fault.code.name());
        tracing::info!(id, app, function, code, cause, "a fault that its caller is told as an error");
    }
}

/// Outbound requests that are lent with a request, until it is known what became of them.
pub(crate) struct Loan {
    tree: Arc<Tree>,
    subrequests: u32,
}

impl Loan {
    /// A loan of what the sender has left, and what is said of it.
    pub(crate) fn of(sender: &Sender, is_ours: bool) -> (Self, Lent) {
        let Remaining { cpu_us, subrequests } = sender.remaining;
        let mut lent = Lent::of(cpu_us, subrequests, sender.depth, is_ours);
        if !sender.tree.take(lent.subrequests) {
            lent.subrequests = 0;
        }
        (Self { tree: Arc::clone(&sender.tree), subrequests: lent.subrequests }, lent)
    }

    /// Gives back what is known not to have been used: all, where it reached nobody; else what the fleet's answer says.
    pub(crate) fn settle(self, answer: &Result<Response<Body>, Fault>) {
        let made = match answer {
            Ok(response) => made(response.headers()).unwrap_or(self.subrequests),
            Err(fault) => match fault.code {
                Code::EgressDenied | Code::UpstreamTls | Code::UpstreamUnreachable => 0,
                _ => self.subrequests,
            },
        };
        self.tree.back(self.subrequests.saturating_sub(made));
    }
}

/// What an answer of this fleet says of the requests that were made of those it was lent. Whoever else says so gives back
/// no more than was lent to it.
fn made(headers: &HeaderMap) -> Option<u32> {
    headers.get(forward::EYOT_CALLS)?.to_str().ok()?.parse().ok()
}

/// Scheme, host in lower case and port of a URI that a function made.
fn origin(uri: &Uri) -> Result<(Scheme, String, u16), Fault> {
    let denied = |cause: &str| Fault::new(Code::EgressDenied).because(cause);
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(denied("the scheme is neither http nor https")),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| denied("no host"))?;
    Ok((scheme, host.to_ascii_lowercase(), uri.port_u16().unwrap_or(scheme.default_port())))
}

/// The timeouts a function asked for, no longer than it may.
fn within(may: Timeouts, asked: FetchTimeouts) -> Timeouts {
    let least = |may: u64, asked: Option<u64>| asked.map_or(may, |asked| asked.min(may));
    Timeouts {
        connect_ms: least(may.connect_ms, asked.connect_ms),
        first_byte_ms: least(may.first_byte_ms, asked.first_byte_ms),
        between_bytes_ms: least(may.between_bytes_ms, asked.between_bytes_ms),
        ..may
    }
}

impl eyot_guest::Fetch for Door {
    fn fetch(&self, request: Request<Body>, timeouts: FetchTimeouts) -> Fetching {
        self.sent(request, timeouts).unwrap_or_else(|fault| {
            refused(&self.kin, &self.function, &fault);
            Box::pin(std::future::ready(Err(fault)))
        })
    }
}

impl Log for Door {
    fn line(&self, stream: LogStream, text: &str) {
        let clean = secrets::without(&self.function.secrets, text);
        let text = clean.as_deref().unwrap_or(text);
        if self.kin.entry.share.log(text.len()) {
            tracing::info!(
                target: "function", app = &*self.kin.entry.label, function = &*self.function.label,
                release = self.kin.entry.release, id = self.kin.request_id, stream = stream.label(), text
            );
            self.told(stream.label(), None, text);
        }
    }

    fn logged(&self, level: LogLevel, context: &str, text: &str) {
        let clean = [context, text].map(|said| secrets::without(&self.function.secrets, said));
        let [context, text] = [clean[0].as_deref().unwrap_or(context), clean[1].as_deref().unwrap_or(text)];
        if self.kin.entry.share.log(context.len() + text.len()) {
            tracing::info!(
                target: "function", app = &*self.kin.entry.label, function = &*self.function.label,
                release = self.kin.entry.release, id = self.kin.request_id, stream = "log", severity = level.label(), context, text
            );
            self.told("log", Some((level, context)), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_fetch_is_what_its_uri_says_in_lower_case() {
        for (uri, expect) in [
            ("https://API.example/x", Some("https api.example 443")),
            ("http://api.example:8080/", Some("http api.example 8080")),
            ("https://[2001:db8::1]/", Some("https [2001:db8::1] 443")),
            ("ftp://api.example/", None),
            ("/path", None),
        ] {
            let found = origin(&uri.parse().expect("a URI")).ok();
            let found = found.map(|(scheme, host, port)| format!("{} {host} {port}", scheme.as_str()));
            assert_eq!(found.as_deref(), expect, "{uri}");
        }
    }

    #[test]
    fn a_function_may_shorten_its_timeouts_and_not_lengthen_them() {
        let may = Timeouts::default();
        let asked = FetchTimeouts { connect_ms: Some(10), first_byte_ms: Some(u64::MAX), between_bytes_ms: None };
        assert_eq!(within(may, asked), Timeouts { connect_ms: 10, ..may });
    }
}
