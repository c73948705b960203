//! Doors that are shut: of a probe, and of whoever wants none.

use std::sync::Arc;

use eyot_plan::body::Body;
use eyot_plan::fault::Code;

use super::{
    Caller, Doors, Edge, Entering, Facts, Fetch, FetchTimeouts, Fetching, Geo, Hint, Limit, Log, LogLevel, LogStream,
    Looked, Looking, Objects, Purge, PurgeError, Purging, Rate, Rated, Secret, SecretError, Store, Stores,
};

/// Every door, shut: no request leaves, nothing is heard, no store is bound, nothing is known. The share has no end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed;

impl Doors {
    /// All doors shut.
    pub fn closed() -> Self {
        let closed = Arc::new(Closed);
        Self {
            fetch: closed.clone(),
            log: closed.clone(),
            share: closed.clone(),
            stores: closed.clone(),
            edge: closed.clone(),
            objects: closed,
        }
    }
}

impl Fetch for Closed {
    fn fetch(&self, _request: http::Request<Body>, _timeouts: FetchTimeouts) -> Fetching {
        Box::pin(std::future::ready(Err(Code::EgressDenied.into())))
    }
}

impl Log for Closed {
    fn line(&self, _stream: LogStream, _text: &str) {}

    fn logged(&self, _level: LogLevel, _context: &str, _text: &str) {}
}

impl Limit for Closed {
    fn memory(&self, _bytes: u64) -> bool {
        true
    }

    fn memory_back(&self, _bytes: u64) {}

    fn cpu(&self, _us: u64) -> bool {
        true
    }

    fn enter(&self) -> Entering {
        Box::pin(std::future::ready(Ok(Box::new(()) as Box<dyn Send>)))
    }
}

impl Stores for Closed {
    fn open(&self, _name: &str) -> Option<Arc<dyn Store>> {
        None
    }
}

impl Edge for Closed {
    fn facts(&self) -> Facts {
        Facts { client: None, caller: Caller::Public, node: String::new(), region: String::new() }
    }

    fn geo(&self) -> Option<Geo> {
        None
    }

    fn secret(&self, _name: &str) -> Result<Secret, SecretError> {
        Err(SecretError::NoSuchSecret)
    }

    fn rate(&self, rate: &Rate<'_>) -> Rated {
        Rated { allowed: false, remaining: 0, reset_ms: rate.window_ms }
    }

    fn hint(&self, _hint: Hint) {}

    fn purge(&self, _purge: Purge) -> Purging {
        Box::pin(std::future::ready(Err(PurgeError::Unavailable)))
    }
}

impl Objects for Closed {
    fn find(&self, _name: String) -> Looking {
        Box::pin(std::future::ready(None::<Looked>))
    }

    fn lookup(&self, _name: String) -> Looking {
        Box::pin(std::future::ready(None::<Looked>))
    }
}
