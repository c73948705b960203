//! The doors of a function: traits that whoever runs it implements. Nothing else leads out of a guest.

mod closed;
mod edge;
mod objects;
mod stores;

use std::pin::Pin;
use std::sync::Arc;

use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use http::{Request, Response};

pub use closed::Closed;
pub use edge::{
    Caller, Client, Edge, Facts, Geo, Hint, Purge, PurgeError, Purged, Purging, Rate, Rated, Secret, SecretError,
};
pub use objects::{Looked, Looking, Made, Making, Object, Objects, Slot, Unmade};
pub use stores::{Current, Page, Store, StoreError, Stores, Storing};

/// The doors of one call.
#[derive(Clone)]
pub struct Doors {
    /// The way out.
    pub fetch: Arc<dyn Fetch>,
    /// Where its standard output and error go.
    pub log: Arc<dyn Log>,
    /// The app's share of this node.
    pub share: Arc<dyn Limit>,
    /// The stores it may open.
    pub stores: Arc<dyn Stores>,
    /// What the node knows and does.
    pub edge: Arc<dyn Edge>,
    /// What functions keep by names of their own.
    pub objects: Arc<dyn Objects>,
}

/// The way out: every request a function sends.
pub trait Fetch: Send + Sync {
    /// Sends a request with an absolute URI and streams its body. The request's extensions hold the [`crate::Sender`]:
    /// what it may lend where it lands on this fleet again. It runs on the runtime of the I/O; dropping
    /// the future or the response's body cancels it.
    fn fetch(&self, request: Request<Body>, timeouts: FetchTimeouts) -> Fetching;
}

/// A request under way.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Response<Body>, Fault>> + Send>>;

/// The timeouts a function asked for, in milliseconds; absent: it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchTimeouts {
    /// Name, connection and TLS.
    pub connect_ms: Option<u64>,
    /// From the request's last byte to the response's head.
    pub first_byte_ms: Option<u64>,
    /// Between two pieces of the response's body.
    pub between_bytes_ms: Option<u64>,
}

/// Where a function's words go: what it writes to its standard streams, and what it logs.
pub trait Log: Send + Sync {
    /// One line, without its end; at most 4 KiB, of at most 64 KiB a call. It may hold control characters.
    fn line(&self, stream: LogStream, text: &str);

    /// One message of `wasi:logging`, with the context it was said in; bounded as lines are, together with them.
    fn logged(&self, level: LogLevel, context: &str, text: &str);
}

/// How much a message of `wasi:logging` matters, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Trace.
    Trace,
    /// Debug.
    Debug,
    /// Info.
    Info,
    /// Warn.
    Warn,
    /// Error.
    Error,
    /// Critical.
    Critical,
}

impl LogLevel {
    /// The label in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// One of the two standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

impl LogStream {
    /// The label in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
        }
    }
}

/// The app's share of this node: memory, CPU a second, calls at once.
pub trait Limit: Send + Sync {
    /// Asks for memory, in bytes. Refused: the guest sees its growth fail.
    fn memory(&self, bytes: u64) -> bool;

    /// Gives memory back.
    fn memory_back(&self, bytes: u64);

    /// Draws on the allowance, in microseconds: what was spent already, so it may go into debt. `false`: it is spent. A call
    /// that runs goes on within its own budget; the next one is not let in.
    fn cpu(&self, us: u64) -> bool;

    /// Lets a call in, waiting briefly. What it gives is dropped when the call has ended.
    fn enter(&self) -> Entering;

    /// Lets in a call at this depth of its tree, 1 or more, which must never wait for what those above it hold: they wait
    /// for it. What it gives is dropped when the call has ended.
    fn enter_below(&self, depth: u8) -> Entering {
        let _ = depth;
        Box::pin(std::future::ready(Ok(Box::new(()) as Box<dyn Send>)))
    }

    /// The calling thread runs the guest from now on, or no longer: who wants to know what took a process down remembers it
    /// a thread. Called twice a turn, so it has to cost next to nothing.
    fn on_thread(&self, runs: bool) {
        let _ = runs;
    }
}

/// A call that waits to be let in.
pub type Entering = Pin<Box<dyn Future<Output = Result<Box<dyn Send>, Fault>> + Send>>;
