//! Which address a kept connection goes to, and when that was last found under its name. It resolves nothing.

use core::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The address of a connection.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// None: the socket no longer says.
    ip: Option<IpAddr>,
    looked_at: Mutex<Instant>,
}

impl Fresh {
    /// Of a connection that was just made to this one.
    pub(crate) fn at(ip: Option<IpAddr>) -> Self {
        Self { ip, looked_at: Mutex::new(Instant::now()) }
    }

    /// Whether the name was not looked up for so long. Who is told so looks it up; the others go on.
    pub(crate) fn is_due(&self, every: Duration) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked_at.elapsed() >= every;
        if is_due {
            *looked_at = Instant::now();
        }
        is_due
    }

    /// Whether it is one of these.
    pub(crate) fn is_among(&self, found: &[IpAddr]) -> bool {
        self.ip.is_none_or(|ip| found.contains(&ip))
    }
}
