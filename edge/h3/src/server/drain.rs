//! Ending a connection without losing a request (RFC 9114, section 5.2).

use std::pin::Pin;
use std::time::Duration;

use quinn::SendStream;
use tokio::time::{Sleep, sleep};

use super::connection::request_id_after;
use crate::core::code::Code;
use crate::core::varint;
use crate::driver::shared::Shared;

/// The first GOAWAY: no request is refused yet, but no new one should be begun here.
const NOTICE_ID: u64 = varint::MAX - 3;
/// What is added to the round-trip times that a notice is given: acknowledgements may be delayed so long.
const NOTICE_MIN: Duration = Duration::from_millis(25);
/// No notice is longer.
const NOTICE_MAX: Duration = Duration::from_secs(1);
/// A client that is asked for what it has not acknowledged, and of which nothing is heard for this long and
/// [`SILENCE_ROUNDS`] round-trips, has left without a word: it died, or its network did.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// The round-trips that are added: room for several probes (RFC 9002, section 6.2), each with twice the pause.
const SILENCE_ROUNDS: u32 = 8;

/// How far the end has come.
#[derive(Default)]
pub(super) enum Drain {
    /// It has not begun.
    #[default]
    No,
    /// The client is told; what it has sent meanwhile is still answered.
    Notice(Pin<Box<Sleep>>),
    /// The last request is named, later ones are rejected. What was answered may still be on the way.
    Last { id: u64, landing: Option<Vec<SendStream>> },
    /// All has arrived; what the client sent before it heard is still rejected properly.
    Linger { id: u64, until: Pin<Box<Sleep>> },
}

impl Drain {
    /// Begins, if it has not.
    pub(super) fn begin(&mut self, shared: &Shared) {
        if matches!(self, Self::No) {
            shared.goaway_out.send_replace(Some(NOTICE_ID));
            *self = Self::Notice(Box::pin(sleep(notice(shared))));
        }
    }

    /// The first request that is not answered any more.
    pub(super) fn refused_from(&self) -> Option<u64> {
        match self {
            Self::No | Self::Notice(_) => None,
            Self::Last { id, .. } | Self::Linger { id, .. } => Some(*id),
        }
    }

    /// Goes one step further; true when the end has come. Pending for ever if it has not begun. Cancel-safe.
    pub(super) async fn step(&mut self, shared: &Shared, last: Option<u64>) -> bool {
        match self {
            Self::No => std::future::pending().await,
            Self::Notice(until) => {
                until.await;
                let id = request_id_after(last);
                shared.goaway_out.send_replace(Some(id));
                *self = Self::Last { id, landing: None };
            }
            Self::Last { id, landing } => {
                let streams = match landing {
                    Some(streams) => streams,
                    None => landing.insert(shared.landed().await),
                };
                let arrived = async {
                    while let Some(stream) = streams.last() {
                        let _ = stream.stopped().await;
                        streams.pop();
                    }
                };
                tokio::select! {
                    () = arrived => {}
                    () = silence(shared) => {
                        close(shared);
                        return true;
                    }
                }
                *self = Self::Linger { id: *id, until: Box::pin(sleep(notice(shared))) };
            }
            Self::Linger { until, .. } => {
                until.await;
                close(shared);
                return true;
            }
        }
        false
    }
}

fn close(shared: &Shared) {
    shared.quinn.close(crate::driver::varint(Code::NO_ERROR), b"drained");
}

/// Resolves when nothing has come from the client for so long that it must have left. For a connection that waits for
/// acknowledgements: QUIC asks for those again and again, so a client that is there is not silent.
async fn silence(shared: &Shared) {
    let patience = SILENCE_MIN + shared.quinn.rtt() * SILENCE_ROUNDS;
    loop {
        let heard = shared.quinn.stats().udp_rx.datagrams;
        sleep(patience).await;
        if shared.quinn.stats().udp_rx.datagrams == heard {
            return;
        }
    }
}

/// How long what was sent may take to be heard, and what was sent against it to be here.
fn notice(shared: &Shared) -> Duration {
    (shared.quinn.rtt() * 2 + NOTICE_MIN).min(NOTICE_MAX)
}
