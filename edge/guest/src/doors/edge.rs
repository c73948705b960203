//! The door to what the node knows and does: the client, where it is, who calls, secrets, rate limits, the cache.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use eyot_bundle::name::Name;
use eyot_plan::arrival::{Protocol, Tls};

/// What the node knows of a call and does for it.
pub trait Edge: Send + Sync {
    /// What is known of this call.
    fn facts(&self) -> Facts;

    /// Where the client is, as the operator's database has it; none: it does not say, or there is none.
    fn geo(&self) -> Option<Geo>;

    /// The secret that the release binds to `name` for this function.
    ///
    /// # Errors
    /// Where it binds none, or the node could not open it.
    fn secret(&self, name: &str) -> Result<Secret, SecretError>;

    /// Counts one more of `key` in its window, if it may still come.
    fn rate(&self, rate: &Rate<'_>) -> Rated;

    /// Says how the response of this call may be cached. Nothing waits for it.
    fn hint(&self, hint: Hint);

    /// Removes from the cache what `purge` names, all of it of the function's own app.
    fn purge(&self, purge: Purge) -> Purging;
}

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The client: who sent the request; none: no request of the public led here.
    pub client: Option<Client>,
    /// Who calls.
    pub caller: Caller,
    /// The node's id in its fleet.
    pub node: String,
    /// The node's region.
    pub region: String,
}

/// Who sent a request, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// The protocol it came by.
    pub protocol: Protocol,
    /// TLS; none: it came by plain HTTP.
    pub tls: Option<Tls>,
    /// Whether the request came in early data, so that it may be a replay.
    pub early: bool,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An event: a schedule or a message of a queue.
    Event,
    /// Another function of the app.
    Function(Name),
    /// Whoever asks the node.
    Public,
}

/// Where a client is. What is not known is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geo {
    /// ISO 3166-1, two letters.
    pub country: Option<String>,
    /// ISO 3166-2 without the country: `BE`.
    pub region: Option<String>,
    /// The city's English name.
    pub city: Option<String>,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// The number of its network.
    pub asn: Option<u32>,
}

/// A secret's value. It shows itself to nobody.
#[derive(Clone)]
pub struct Secret(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Secret {
    /// A secret that is kept by `value`: what clears its memory when it goes does so here too.
    pub fn new(value: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Self(value)
    }

    /// Its bytes.
    pub fn expose(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The release binds none of this name.
    #[error("the release binds no such secret")]
    NoSuchSecret,
    /// This node could not open it.
    #[error("this node could not open it")]
    Unavailable,
}

/// A counted window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate<'a> {
    /// What is counted: an address, a user. At most 256 bytes.
    pub key: &'a str,
    /// How many may come in a window.
    pub limit: u32,
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
    /// How many come now.
    pub cost: u32,
}

/// What came of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Whether it may come; if not, it was not counted.
    pub allowed: bool,
    /// How many more may come in this window.
    pub remaining: u32,
    /// Until the next window begins, in milliseconds.
    pub reset_ms: u64,
}

/// How the response of a call may be cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It can be purged by these keys.
    Keys(Vec<String>),
    /// It may be kept as long, in milliseconds, whatever its fields say.
    Ttl(u64),
}

/// What to remove from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What of the app.
    pub what: Purged,
    /// Whether it may still be served while it is fetched anew.
    pub soft: bool,
}

/// What of an app is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purged {
    /// All of it.
    App,
    /// What has this key.
    Key(String),
    /// What was kept for this URL.
    Url(String),
}

/// A purge under way.
pub type Purging = Pin<Box<dyn Future<Output = Result<(), PurgeError>> + Send>>;

/// Why nothing was purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The release does not say that this function may.
    #[error("the release does not let this function purge")]
    NotPermitted,
    /// There is no cache, or it did not take it.
    #[error("there is no cache")]
    Unavailable,
}
