//! What one connection knows of itself: who came, by what name, and how many exchanges it carries.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_plan::arrival::Protocol;
use eyot_plan::fault::{Code, Fault};
use tokio::time::{Instant, sleep_until};

use crate::certificates::Entry;
use crate::guard::Guards;

/// One connection.
pub(crate) struct Connection {
    pub(crate) protocol: Protocol,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// TLS, or `None` in the clear.
    pub(crate) tls: Option<Named>,
    /// Whom it may ask for.
    pub(crate) door: Door,
    pub(crate) activity: Activity,
}

/// What TLS says of a connection.
pub(crate) struct Named {
    /// The name the client gave, in lower case.
    pub(crate) sni: Option<String>,
    /// The certificates that name could have chosen.
    pub(crate) certificates: Vec<Arc<Entry>>,
}

/// The door that a connection came through.
pub(crate) enum Door {
    /// One for all hosts but these.
    Common(Arc<Guards>),
    /// One that asks for certificates: good for this host, or for none.
    Guarded(Option<String>),
}

impl Connection {
    /// Whether this connection may be asked for `host`: only for what its certificate is good for (RFC 9110, section
    /// 7.4; RFC 9113, section 9.1.2). In the clear there is nothing to compare with. A guarded host is for the
    /// connections that were let in for it, and they are for nothing else.
    pub(crate) fn serves(&self, host: &str) -> Result<(), Fault> {
        let is_the_door = match &self.door {
            Door::Common(guards) => !guards.holds(host),
            Door::Guarded(admitted) => admitted.as_deref() == Some(host),
        };
        if !is_the_door {
            return Err(Code::Misdirected.into());
        }
        match &self.tls {
            Some(named) if !named.certificates.iter().any(|entry| entry.covers(host)) => Err(Code::Misdirected.into()),
            _ => Ok(()),
        }
    }
}

impl Connection {
    /// Whether its client may be told where HTTP/3 is: that is the common door, which leads to no guarded host.
    pub(crate) fn is_announced(&self) -> bool {
        self.tls.is_some() && matches!(self.door, Door::Common(_))
    }
}

/// How many exchanges a connection carries, and since when none.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<Exchanges>>);

struct Exchanges {
    begun: u64,
    ended: u64,
    changed: Instant,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Exchanges { begun: 0, ended: 0, changed: Instant::now() })))
    }

    /// Begins an exchange; it ends when what is given back is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        let mut exchanges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges.begun += 1;
        InFlight { activity: self.clone(), number: exchanges.begun }
    }

    /// How many exchanges have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended
    }

    /// Resolves when no exchange has been for this long.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let from = {
                let exchanges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if exchanges.begun == exchanges.ended { exchanges.changed } else { now }
            };
            if from + limit <= now {
                return;
            }
            sleep_until(from + limit).await;
        }
    }
}

/// One exchange of a connection.
pub(crate) struct InFlight {
    activity: Activity,
    number: u64,
}

impl InFlight {
    /// The how-manieth exchange of its connection this is; the first is 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut exchanges = self.activity.0.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges.ended += 1;
        exchanges.changed = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_after_its_last_exchange_ended() {
        let (activity, limit) = (Activity::new(), Duration::from_secs(60));
        let exchange = activity.begin();
        let waits = tokio::time::timeout(limit * 5, activity.idle(limit)).await;
        assert!(waits.is_err(), "an exchange is open");
        let ended = Instant::now();
        drop(exchange);
        activity.idle(limit).await;
        assert!(ended.elapsed() >= limit);
    }
}
