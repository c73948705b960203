//! Requests that come before the handshake is over: whoever recorded them can send them again (RFC 8470).

use std::sync::Arc;

use quinn::ZeroRttAccepted;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::core::code::Code;
use crate::driver::shared::Shared;
use crate::driver::varint;

/// An extension of a request that came before the handshake was over. It may be the replay of one that was answered
/// before.
#[derive(Clone, Debug)]
pub struct Early {
    proven: watch::Receiver<Option<bool>>,
}

impl Early {
    pub(super) fn new(shared: &Shared) -> Self {
        Self { proven: shared.proven.subscribe() }
    }

    /// Waits for the end of the handshake (RFC 8470, section 3). True: the request is no replay. False: the connection
    /// ended before.
    pub async fn proven(mut self) -> bool {
        self.proven.wait_for(Option::is_some).await.is_ok_and(|proven| *proven == Some(true))
    }
}

/// Says when the handshake is over; ends a connection on which it takes too long.
pub(super) async fn prove(shared: Arc<Shared>, proven: ZeroRttAccepted) {
    let proven = timeout(shared.limits.header_time_max, proven).await;
    if proven.is_err() {
        shared.quinn.close(varint(Code::NO_ERROR), b"a slow handshake");
    }
    // What quinn says here is of use to a client only: at a server it is false also when all went well.
    shared.proven.send_replace(Some(proven.is_ok() && shared.quinn.close_reason().is_none()));
}
