//! Which servers did not answer over QUIC of late, so that not every connection to them begins by waiting for it. It
//! connects to nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Server;

/// How long a server that did not answer is not tried again.
const FOR: Duration = Duration::from_secs(60);
/// Servers remembered at most; past it they are tried again.
const SERVERS_MAX: usize = 1024;

/// The servers that are reached over TCP for now.
#[derive(Default)]
pub(crate) struct Detours(Mutex<HashMap<Server, Instant>>);

impl Detours {
    /// Whether this server did not answer of late.
    pub(crate) fn is_known(&self, server: &Server) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(server).is_some_and(|since| since.elapsed() < FOR)
    }

    /// This server did not answer.
    pub(crate) fn note(&self, server: &Server) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SERVERS_MAX {
            known.retain(|_, since| since.elapsed() < FOR);
        }
        if known.len() >= SERVERS_MAX {
            known.clear();
        }
        known.insert(server.clone(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use eyot_plan::way::Way;
    use http::Uri;

    use super::*;
    use crate::key::{Destination, Key};

    fn server(number: usize) -> Server {
        let way = Way::new("a".parse().expect("a name"), Vec::new(), Default::default());
        let uri: Uri = format!("https://s{number}.test/").parse().expect("a URI");
        Key::of(&way, &Destination::of(&uri).expect("a destination")).server
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_did_not_answer_is_left_alone_for_a_minute_and_only_so_many_are_remembered() {
        let detours = Detours::default();
        detours.note(&server(0));
        assert!(detours.is_known(&server(0)) && !detours.is_known(&server(1)));
        tokio::time::advance(FOR).await;
        assert!(!detours.is_known(&server(0)));
        for number in 0..=SERVERS_MAX {
            detours.note(&server(number));
            assert!(detours.0.lock().expect("no panic").len() <= SERVERS_MAX);
        }
        assert!(detours.is_known(&server(SERVERS_MAX)));
    }
}
