//! Upstreams as a release names them: the servers, how one is chosen, what makes one healthy, and what is done when one
//! fails. What is the default is not written, so that releases stay readable to what does not know the key.

mod tls;
mod words;

use serde::{Deserialize, Serialize};

pub use tls::{ClientCertificate, TlsVersion, UpstreamTls};
pub use words::{HashBy, HashByError, Statuses, StatusesError};

/// An upstream: servers that answer the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Origins such as `https://api-1.internal:8443`.
    pub servers: Vec<String>,
    /// How one of them is chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// How much each takes beside the others, one for each server; none: all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<u32>,
    /// What of a request is hashed, where they are chosen by a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashBy>,
    /// How servers are asked whether they are well; absent: they are not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What requests themselves tell of a server's health.
    #[serde(default, skip_serializing_if = "is_default")]
    pub passive: Passive,
    /// When a request is tried again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// When a second server is asked beside one that is slow; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// When the upstream as a whole is left alone; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// How long a server that is new or came back takes to get its full part, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slow_start_ms: u64,
    /// Connections to each server at most; absent: as many as the app may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Who waits for one of these.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue: Queue,
    /// How TLS is spoken, when not by the server's own name and the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// The newest version of HTTP that is spoken, where the server does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub http: Http,
    /// Whether each connection begins by saying who the client is; absent: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// The region whose nodes ask it for those of all others, as far as answers are kept; absent: each node asks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shield: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How a server is chosen among those that are healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The first in their order.
    Failover,
    /// By a hash of something of the request, so that the same goes to the same.
    Hash,
    /// Of two drawn by lot, that with fewer requests under way.
    #[default]
    LeastRequests,
    /// By turns, each as often as its weight says.
    Weighted,
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked: `GET` of this path.
    pub path: String,
    /// How often, in milliseconds.
    pub interval_ms: u64,
    /// How long the answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// The statuses that are well.
    pub expect: Statuses,
    /// Good answers in a row that make a server healthy.
    pub healthy: u32,
    /// Bad ones in a row that make it unhealthy.
    pub unhealthy: u32,
}

impl Default for Health {
    fn default() -> Self {
        let expect = Statuses { first: 200, last: 299 };
        Self { path: "/".to_owned(), interval_ms: 10_000, timeout_ms: 2_000, expect, healthy: 2, unhealthy: 3 }
    }
}

/// What requests themselves tell of a server's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passive {
    /// Failures in a row that take a server out; 0: never.
    pub failures: u32,
    /// How long it is out the first time, in milliseconds; each next time twice as long.
    pub eject_ms: u64,
}

impl Default for Passive {
    fn default() -> Self {
        Self { failures: 5, eject_ms: 10_000 }
    }
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Tries after the first.
    pub attempts: u32,
    /// Tries again, and hedges, that a hundred requests may cause.
    pub budget_percent: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20, on: vec![RetryOn::Connect, RetryOn::Reset] }
    }
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// 502.
    #[serde(rename = "502")]
    BadGateway,
    /// No connection, or none with TLS: nothing was sent.
    Connect,
    /// 504.
    #[serde(rename = "504")]
    GatewayTimeout,
    /// The connection ended before anything of an answer came.
    Reset,
    /// No answer in time.
    Timeout,
    /// 503.
    #[serde(rename = "503")]
    Unavailable,
}

/// When a second server is asked beside one that is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// After how long without the head of an answer, in milliseconds.
    pub after_ms: u64,
}

/// When the upstream as a whole is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a hundred tries that open it.
    pub failures_percent: u32,
    /// Tries within the window before it may open.
    pub requests: u32,
    /// How far back it looks, in milliseconds.
    pub window_ms: u64,
    /// How long it is open before it lets one request through, in milliseconds.
    pub open_ms: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures_percent: 50, requests: 20, window_ms: 10_000, open_ms: 5_000 }
    }
}

/// Who waits for a connection where there may be no more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Requests that wait at each server at most.
    pub length: u32,
    /// How long each of them may wait, in milliseconds.
    pub wait_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { length: 128, wait_ms: 1_000 }
    }
}

/// The newest version of HTTP that is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Http {
    /// HTTP/2, else HTTP/1.1, as TLS agrees.
    #[default]
    #[serde(rename = "2")]
    H2,
    /// HTTP/3, and what comes before it where nothing answers over QUIC.
    #[serde(rename = "3")]
    H3,
}

impl Http {
    /// Whether HTTP/3 is not newer than this.
    pub fn takes_3(self) -> bool {
        self == Self::H3
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// The binary one.
    V2,
}

impl ProxyProtocol {
    /// The version as it is written.
    pub fn label(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Timeouts towards an upstream, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Name, connection and TLS.
    pub connect_ms: u64,
    /// From the request's last byte to the response's head.
    pub first_byte_ms: u64,
    /// Between two pieces of the response's body.
    pub between_bytes_ms: u64,
    /// All of it, but for tunnels.
    pub total_ms: u64,
    /// How long an open tunnel (a WebSocket) may be silent both ways.
    #[serde(skip_serializing_if = "is_tunnel_idle_default")]
    pub tunnel_idle_ms: u64,
}

const TUNNEL_IDLE_MS: u64 = 300_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_tunnel_idle_default(ms: &u64) -> bool {
    *ms == TUNNEL_IDLE_MS
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 3_000,
            first_byte_ms: 30_000,
            between_bytes_ms: 30_000,
            total_ms: 300_000,
            tunnel_idle_ms: TUNNEL_IDLE_MS,
        }
    }
}
