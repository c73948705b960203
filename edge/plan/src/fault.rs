//! Faults: requests that cannot be answered as asked, and the side at fault. The one table of the error contract.

use std::fmt;

/// What went wrong. A code never changes its name, its status or its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The app's CPU, memory or concurrency on this node is spent.
    AllowanceSpent,
    /// The request is malformed.
    BadRequest,
    /// The client was too slow.
    ClientTimeout,
    /// One call spent its CPU.
    CpuBudgetExceeded,
    /// The address or origin may not be reached by this app.
    EgressDenied,
    /// The client may not have this.
    Forbidden,
    /// The function ended without a response.
    FunctionGaveNoResponse,
    /// The function trapped.
    FunctionTrapped,
    /// The request's head is too large.
    HeadersTooLarge,
    /// This node failed: a mistake of eyot itself.
    InternalError,
    /// The request has passed here too often.
    LoopDetected,
    /// The app is in maintenance.
    Maintenance,
    /// One call's memory is spent.
    MemoryExceeded,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The connection is not for this host.
    Misdirected,
    /// No route is for this host and path.
    NoRoute,
    /// No server of the upstream is healthy.
    NoHealthyUpstream,
    /// What is asked for is not spoken here.
    NotImplemented,
    /// The release is not ready on this node.
    NotReady,
    /// The node is full.
    Overloaded,
    /// The client asks too often.
    RateLimited,
    /// The request's body is too large.
    RequestTooLarge,
    /// The response is too large: its head, or its body where a route limits that.
    ResponseTooLarge,
    /// One call's outbound requests are spent.
    SubrequestsExceeded,
    /// The app is suspended by its operator.
    Suspended,
    /// The request came as early data to a route that does not take it.
    TooEarly,
    /// Who asks must say who they are.
    Unauthorized,
    /// The upstream's response is no HTTP.
    UpstreamBadResponse,
    /// The upstream was too slow.
    UpstreamTimeout,
    /// TLS with the upstream failed.
    UpstreamTls,
    /// The upstream could not be reached.
    UpstreamUnreachable,
    /// One call's wall time is spent.
    WallTimeExceeded,
}

/// The side at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who sent the request.
    Client,
    /// The function.
    Function,
    /// This node.
    Node,
    /// Who was asked in turn.
    Upstream,
}

impl Side {
    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Function => "function",
            Self::Node => "node",
            Self::Upstream => "upstream",
        }
    }
}

/// The contract's row of a code: name, HTTP status, side, registered proxy error type (RFC 9209, section 2.3), title.
struct Row(&'static str, u16, Side, &'static str, &'static str);

impl Code {
    /// All codes, in the order of their names.
    pub const ALL: [Self; 32] = [
        Self::AllowanceSpent,
        Self::BadRequest,
        Self::ClientTimeout,
        Self::CpuBudgetExceeded,
        Self::EgressDenied,
        Self::Forbidden,
        Self::FunctionGaveNoResponse,
        Self::FunctionTrapped,
        Self::HeadersTooLarge,
        Self::InternalError,
        Self::LoopDetected,
        Self::Maintenance,
        Self::MemoryExceeded,
        Self::MethodNotAllowed,
        Self::Misdirected,
        Self::NoRoute,
        Self::NoHealthyUpstream,
        Self::NotImplemented,
        Self::NotReady,
        Self::Overloaded,
        Self::RateLimited,
        Self::RequestTooLarge,
        Self::ResponseTooLarge,
        Self::SubrequestsExceeded,
        Self::Suspended,
        Self::TooEarly,
        Self::Unauthorized,
        Self::UpstreamBadResponse,
        Self::UpstreamTimeout,
        Self::UpstreamTls,
        Self::UpstreamUnreachable,
        Self::WallTimeExceeded,
    ];

    fn row(self) -> Row {
        use Side::{Client, Function, Node, Upstream};
        match self {
            Self::AllowanceSpent => {
                Row("allowance_spent", 503, Node, "connection_limit_reached", "The app's share of this node is spent")
            }
            Self::BadRequest => Row("bad_request", 400, Client, "http_request_error", "The request is malformed"),
            Self::ClientTimeout => {
                Row("client_timeout", 408, Client, "http_request_error", "The request took too long to arrive")
            }
            Self::CpuBudgetExceeded => Row(
                "cpu_budget_exceeded",
                503,
                Function,
                "http_response_incomplete",
                "The function spent its CPU budget",
            ),
            Self::EgressDenied => {
                Row("egress_denied", 502, Upstream, "destination_ip_prohibited", "The address may not be reached")
            }
            Self::Forbidden => Row("forbidden", 403, Client, "http_request_denied", "The request is not allowed"),
            Self::FunctionGaveNoResponse => Row(
                "function_gave_no_response",
                502,
                Function,
                "http_response_incomplete",
                "The function ended without a response",
            ),
            Self::FunctionTrapped => {
                Row("function_trapped", 502, Function, "http_response_incomplete", "The function failed")
            }
            Self::HeadersTooLarge => {
                Row("headers_too_large", 431, Client, "http_request_error", "The request's header fields are too large")
            }
            Self::InternalError => Row("internal_error", 500, Node, "proxy_internal_error", "This node failed"),
            Self::LoopDetected => {
                Row("loop_detected", 508, Upstream, "proxy_loop_detected", "The request has passed here too often")
            }
            Self::Maintenance => Row("maintenance", 503, Node, "destination_unavailable", "The app is in maintenance"),
            Self::MemoryExceeded => {
                Row("memory_exceeded", 503, Function, "http_response_incomplete", "The function spent its memory")
            }
            Self::MethodNotAllowed => {
                Row("method_not_allowed", 405, Client, "http_request_denied", "The method is not allowed here")
            }
            Self::Misdirected => {
                Row("misdirected", 421, Client, "http_request_error", "This connection does not serve that host")
            }
            Self::NoRoute => Row("no_route", 404, Client, "destination_not_found", "Nothing is served here"),
            Self::NoHealthyUpstream => {
                Row("no_healthy_upstream", 503, Upstream, "destination_unavailable", "No upstream server is healthy")
            }
            Self::NotImplemented => Row("not_implemented", 501, Node, "http_request_denied", "This is not spoken here"),
            Self::NotReady => {
                Row("not_ready", 503, Node, "destination_unavailable", "The app is not ready on this node")
            }
            Self::Overloaded => Row("overloaded", 503, Node, "connection_limit_reached", "This node is full"),
            Self::RateLimited => Row("rate_limited", 429, Client, "http_request_denied", "Too many requests"),
            Self::RequestTooLarge => {
                Row("request_too_large", 413, Client, "http_request_error", "The request's body is too large")
            }
            Self::ResponseTooLarge => Row(
                "response_too_large",
                502,
                Function,
                "http_response_header_section_size",
                "The response is too large",
            ),
            Self::SubrequestsExceeded => Row(
                "subrequests_exceeded",
                503,
                Function,
                "http_response_incomplete",
                "The function made too many requests",
            ),
            Self::Suspended => Row("suspended", 503, Node, "destination_unavailable", "The app is suspended"),
            Self::TooEarly => Row("too_early", 425, Client, "http_request_denied", "Not in early data"),
            Self::Unauthorized => {
                Row("unauthorized", 401, Client, "http_request_denied", "Who asks must say who they are")
            }
            Self::UpstreamBadResponse => Row(
                "upstream_bad_response",
                502,
                Upstream,
                "http_protocol_error",
                "The upstream's response is malformed",
            ),
            Self::UpstreamTimeout => {
                Row("upstream_timeout", 504, Upstream, "http_response_timeout", "The upstream took too long")
            }
            Self::UpstreamTls => {
                Row("upstream_tls", 502, Upstream, "tls_protocol_error", "TLS with the upstream failed")
            }
            Self::UpstreamUnreachable => {
                Row("upstream_unreachable", 502, Upstream, "connection_refused", "The upstream cannot be reached")
            }
            Self::WallTimeExceeded => {
                Row("wall_time_exceeded", 504, Function, "http_response_timeout", "The function took too long")
            }
        }
    }

    /// The code's name: in `Proxy-Status`, the problem document, log and metrics.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn status(self) -> http::StatusCode {
        http::StatusCode::from_u16(self.row().1).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The side at fault.
    pub fn side(self) -> Side {
        self.row().2
    }

    /// The registered error type of `Proxy-Status` (RFC 9209, section 2.3).
    pub fn proxy_error(self) -> &'static str {
        self.row().3
    }

    /// The title, for people.
    pub fn title(self) -> &'static str {
        self.row().4
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault: the code, what was exceeded and by how much, and the cause, which is for the log and never for the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}{}", .cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default())]
pub struct Fault {
    /// What went wrong.
    pub code: Code,
    /// The limit that was passed, where there is one.
    pub limit: Option<Limit>,
    /// After how many seconds to try again (`Retry-After`).
    pub retry_after: Option<u32>,
    /// The cause, for the log.
    pub cause: Option<String>,
}

/// A limit that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name, with its unit last: `cpu_us`.
    pub name: &'static str,
    /// What it allows.
    pub allowed: u64,
    /// What was used when it ended.
    pub used: u64,
}

impl Fault {
    /// A fault of this code.
    pub fn new(code: Code) -> Self {
        let retry_after = match code {
            Code::AllowanceSpent | Code::NotReady | Code::Overloaded => Some(1),
            Code::Maintenance | Code::Suspended => Some(60),
            _ => None,
        };
        Self { code, limit: None, retry_after, cause: None }
    }

    /// The same, with a cause for the log.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// The same, with the limit that was passed.
    #[must_use]
    pub fn over(mut self, name: &'static str, allowed: u64, used: u64) -> Self {
        self.limit = Some(Limit { name, allowed, used });
        self
    }

    /// The registered error type of `Proxy-Status`; a response has two parts that can be too large.
    fn proxy_error(&self) -> &'static str {
        match self.limit {
            Some(Limit { name: "response_body_bytes", .. }) => "http_response_body_size",
            _ => self.code.proxy_error(),
        }
    }

    /// The response of the error contract: status, `Proxy-Status` (RFC 9209), `Retry-After`, and the body
    /// `application/problem+json` (RFC 9457) `{type, title, status, code, limit, allowed, used, request_id}`.
    pub fn response(&self, request_id: &str) -> http::Response<bytes::Bytes> {
        use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
        let code = self.code;
        let mut problem = serde_json::json!({
            "type": format!("urn:eyot:fault:{code}"), "title": code.title(), "status": code.status().as_u16(),
            "code": code.name(), "request_id": request_id,
        });
        if let Some(limit) = self.limit {
            problem["limit"] = limit.name.into();
            problem["allowed"] = limit.allowed.into();
            problem["used"] = limit.used.into();
        }
        let mut response = http::Response::new(bytes::Bytes::from(problem.to_string()));
        *response.status_mut() = code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let status = format!("eyot; error={}; details=\"{code}\"", self.proxy_error());
        if let Ok(value) = HeaderValue::from_str(&status) {
            headers.insert(HeaderName::from_static("proxy-status"), value);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_a_status_that_says_its_side() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.status().is_client_error(), code.side() == Side::Client, "{code}");
        }
    }

    #[test]
    fn a_response_tells_the_code_and_the_limit_and_never_the_cause() {
        let fault = Fault::new(Code::CpuBudgetExceeded).over("cpu_us", 50_000, 50_412).because("secret words");
        let response = fault.response("0193");
        assert_eq!(response.status(), 503);
        assert_eq!(
            response.headers()["proxy-status"],
            "eyot; error=http_response_incomplete; details=\"cpu_budget_exceeded\""
        );
        let body = std::str::from_utf8(response.body()).expect("JSON is UTF-8");
        assert!(!body.contains("secret"));
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&body["allowed"], &body["used"]), (&50_000.into(), &50_412.into()));
    }
}
