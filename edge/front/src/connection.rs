//! What one connection knows of itself: who came, by what name, and how many exchanges it carries.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eyot_plan::arrival::{Protocol, Tls};
use eyot_plan::fault::{Code, Fault};
use tokio::sync::Notify;
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
    /// Its version, and the name the client gave.
    pub(crate) said: Tls,
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
pub(crate) struct Activity(Arc<Shared>);

struct Shared {
    exchanges: Mutex<Exchanges>,
    /// Told when one begins.
    begun: Notify,
}

struct Exchanges {
    begun: u64,
    ended: u64,
    changed: Instant,
}

impl Activity {
    pub(crate) fn new() -> Self {
        let exchanges = Mutex::new(Exchanges { begun: 0, ended: 0, changed: Instant::now() });
        Self(Arc::new(Shared { exchanges, begun: Notify::new() }))
    }

    fn exchanges(&self) -> MutexGuard<'_, Exchanges> {
        self.0.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an exchange; it ends when what is given back is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        let mut exchanges = self.exchanges();
        exchanges.begun += 1;
        let number = exchanges.begun;
        drop(exchanges);
        self.0.begun.notify_waiters();
        InFlight { activity: self.clone(), number }
    }

    /// How many exchanges have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.exchanges().ended
    }

    /// Resolves when there is an exchange.
    pub(crate) async fn busy(&self) {
        loop {
            let begun = self.0.begun.notified();
            let is_busy = {
                let exchanges = self.exchanges();
                exchanges.begun != exchanges.ended
            };
            if is_busy {
                return;
            }
            begun.await;
        }
    }

    /// Resolves when no exchange has been for this long.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let from = {
                let exchanges = self.exchanges();
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
        let mut exchanges = self.activity.exchanges();
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
        activity.busy().await;
        let ended = Instant::now();
        drop(exchange);
        let begins = tokio::time::timeout(limit / 2, activity.busy()).await;
        assert!(begins.is_err(), "none is open");
        activity.idle(limit).await;
        assert!(ended.elapsed() >= limit);
    }
}
