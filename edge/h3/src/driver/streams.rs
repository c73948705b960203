//! The unidirectional streams of a connection: our control stream out, all of the peer's in. One task runs them; it
//! ends with the connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{Chunk, ReadError, RecvStream};
use tokio::time::sleep;

use super::shared::Shared;
use super::varint;
use crate::Error;
use crate::core::code::{Code, Failure};
use crate::core::encode;
use crate::core::peer::{Event, Peer, Role, Uni};

/// How many bytes of one stream are looked at before another has its turn.
const TURN_BYTES: usize = 4 << 10;

/// How often it is looked whether something came from a client, and after how many looks in vain it is asked for a sign.
/// That is longer than our own client's pause, and soon enough before a silent connection is over.
const LOOK: Duration = Duration::from_secs(6);
const LOOKS_IN_VAIN: u32 = 2;

/// Runs the streams until the connection ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let result = tokio::select! {
        result = send(&shared) => result,
        result = receive(&shared) => result,
    };
    if let Err(Error::Peer(failure)) = result {
        shared.fail(failure);
    }
}

/// Opens our control stream, says our settings, and GOAWAY when asked to.
async fn send(shared: &Shared) -> Result<(), Error> {
    let mut control = shared.quinn.open_uni().await?;
    // Before any response: a client that waits for it waits for nothing else.
    let _ = control.set_priority(i32::MAX);
    let stopped = control.stopped();
    let write = async {
        control.write_chunk(encode::control_prelude(shared.limits.settings())).await?;
        let mut goaway = shared.goaway_out.subscribe();
        let mut said = None;
        loop {
            let id = *goaway.borrow_and_update();
            if let Some(id) = id.filter(|_| id != said) {
                control.write_chunk(encode::goaway(id)).await?;
                said = Some(id);
            }
            tokio::select! {
                changed = goaway.changed() => if changed.is_err() {
                    return Ok(());
                },
                // A client must acknowledge it, and that keeps the connection on both sides (RFC 9000, section 10.1.2).
                () = silence(shared) => control.write_chunk(encode::nothing()).await?,
            }
        }
    };
    let result = tokio::select! {
        result = write => result,
        _ = stopped => Err(Error::Stopped(Code::NO_ERROR)),
    };
    match result {
        Err(Error::Stopped(_)) if shared.quinn.close_reason().is_none() => {
            Err(Error::Peer(Failure::connection(Code::CLOSED_CRITICAL_STREAM, "our control stream was stopped")))
        }
        other => other,
    }
}

/// Resolves when nothing has come for a while from a client that waits for an answer, or has a tunnel: QUIC would take
/// the connection for dead, but it is the answer that takes its time. Without requests nothing keeps a connection.
async fn silence(shared: &Shared) {
    let (mut heard, mut in_vain) = (shared.quinn.stats().udp_rx.datagrams, 0);
    loop {
        sleep(LOOK).await;
        let is_waited_for = shared.role == Role::Server && !shared.is_idle();
        let before = std::mem::replace(&mut heard, shared.quinn.stats().udp_rx.datagrams);
        in_vain = if is_waited_for && heard == before { in_vain + 1 } else { 0 };
        if in_vain == LOOKS_IN_VAIN {
            return;
        }
    }
}

/// Reads all streams of the peer.
async fn receive(shared: &Shared) -> Result<(), Error> {
    let mut peer = Peer::new(shared.role);
    let mut reads = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = shared.quinn.accept_uni() => {
                let uni = peer.open(shared.requests.load(Ordering::Relaxed)).map_err(Error::Peer)?;
                reads.push(read(stream?, uni));
            }
            Some((stream, uni, result)) = reads.next(), if !reads.is_empty() => {
                if let Some((stream, uni)) = take(shared, &mut peer, stream, uni, result)? {
                    reads.push(read(stream, uni));
                }
            }
        }
    }
}

type Read = Result<Option<Chunk>, ReadError>;

async fn read(mut stream: RecvStream, uni: Uni) -> (RecvStream, Uni, Read) {
    let result = stream.read_chunk(TURN_BYTES, true).await;
    (stream, uni, result)
}

/// Takes what one stream gave; gives the stream back while it is worth reading.
fn take(
    shared: &Shared,
    peer: &mut Peer,
    mut stream: RecvStream,
    mut uni: Uni,
    result: Read,
) -> Result<Option<(RecvStream, Uni)>, Error> {
    let bytes = match result {
        Ok(Some(chunk)) => chunk.bytes,
        Ok(None) => Bytes::new(),
        Err(ReadError::ConnectionLost(error)) => return Err(error.into()),
        Err(_) => Bytes::new(),
    };
    if bytes.is_empty() {
        return peer.closed(&uni).map(|()| None).map_err(Error::Peer);
    }
    let mut input = &bytes[..];
    let requests = shared.requests.load(Ordering::Relaxed);
    while let Some(event) = peer.read(&mut uni, &mut input, requests).map_err(Error::Peer)? {
        match event {
            Event::Goaway(id) => drop(shared.goaway_in.send_replace(Some(id))),
            Event::Priority { stream, priority } => shared.prioritise(stream, priority),
            Event::Settings(settings) => shared.settle(settings),
            Event::Stop(code) => {
                let _ = stream.stop(varint(code));
                return Ok(None);
            }
        }
    }
    Ok(Some((stream, uni)))
}
