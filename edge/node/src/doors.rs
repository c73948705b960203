//! The doors of one call: how a function's fetches leave, and where its words go. Nothing else leads out of a guest.

use std::sync::Arc;

use eyot_bundle::release::Timeouts;
use eyot_bundle::web_origin::Scheme;
use eyot_fetch::Fetch;
use eyot_guest::{FetchTimeouts, Fetching, Log, LogLevel, LogStream};
use eyot_link::tail::{Line, Said};
use eyot_plan::arrival::Protocol;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::{self, Facts, Trail};
use eyot_plan::way::Way;
use http::{Request, Uri};

use crate::access;
use crate::entry::{Entry, Function};
use crate::line::Asked;
use crate::node::Node;

/// Both doors of one call.
pub(crate) struct Door {
    fetch: Fetch,
    entry: Arc<Entry>,
    function: Arc<Function>,
    fleet: String,
    protocol: Protocol,
    request_id: String,
    trail: Trail,
    access: Arc<access::Log>,
}

impl Door {
    pub(crate) fn new(node: &Node, entry: &Arc<Entry>, function: &Arc<Function>, asked: &Asked) -> Self {
        Self {
            fetch: node.fetch.clone(),
            entry: Arc::clone(entry),
            function: Arc::clone(function),
            fleet: node.config.node.fleet.clone(),
            protocol: asked.protocol,
            request_id: asked.id.clone(),
            trail: asked.trail.clone(),
            access: Arc::clone(&node.access),
        }
    }

    /// Tells those who follow the app what the function said.
    fn told(&self, stream: &str, logged: Option<(LogLevel, &str)>, text: &str) {
        self.access.tap().tell(&self.entry.label, || {
            Line::Log(Said {
                time: jiff::Timestamp::now(),
                id: self.request_id.clone(),
                app: self.entry.label.to_string(),
                release: self.entry.release,
                function: self.function.label.to_string(),
                stream: stream.to_owned(),
                level: logged.map(|(level, _)| level.label().to_owned()),
                context: logged.map(|(_, context)| context.to_owned()),
                text: text.to_owned(),
            })
        });
    }

    /// The request as it leaves, and its way; refused where the release does not name the origin.
    fn outgoing(&self, mut request: Request<Body>, timeouts: FetchTimeouts) -> Result<(Request<Body>, Way), Fault> {
        let (scheme, host, port) = origin(request.uri())?;
        if !self.function.egress.iter().any(|egress| egress.allows(scheme, &host, port)) {
            let origin = format!("{}://{host}:{port} is not in the function's `egress`", scheme.as_str());
            return Err(Fault::new(Code::EgressDenied).because(origin));
        }
        let facts = Facts {
            fleet: &self.fleet,
            protocol: self.protocol,
            request_id: &self.request_id,
            trail: &self.trail,
            client: None,
        };
        forward::request_out(request.headers_mut(), &facts);
        let way = Way { timeouts: within(self.function.way.timeouts, timeouts), ..self.function.way.clone() };
        Ok((request, way))
    }
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
        let fetch = self.fetch.clone();
        match self.outgoing(request, timeouts) {
            Ok((request, way)) => Box::pin(async move { fetch.send(&way, request).await }),
            Err(fault) => Box::pin(std::future::ready(Err(fault))),
        }
    }
}

impl Log for Door {
    fn line(&self, stream: LogStream, text: &str) {
        if self.entry.share.log(text.len()) {
            tracing::info!(
                target: "function", app = &*self.entry.label, function = &*self.function.label,
                release = self.entry.release, id = self.request_id, stream = stream.label(), text
            );
            self.told(stream.label(), None, text);
        }
    }

    fn logged(&self, level: LogLevel, context: &str, text: &str) {
        if self.entry.share.log(context.len() + text.len()) {
            tracing::info!(
                target: "function", app = &*self.entry.label, function = &*self.function.label,
                release = self.entry.release, id = self.request_id, stream = "log", severity = level.label(), context, text
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
