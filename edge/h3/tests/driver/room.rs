//! What waits in quinn of a long response, and what comes later and is more urgent.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_h3::Limits;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use quinn::{RecvStream, VarInt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::harness::{Between, PATIENCE, config, connecting, head, request, serve};

/// A piece of a body.
const PIECE_BYTES: usize = 16 << 10;
/// The long response: more than the network and all buffers take.
const LONG_BYTES: usize = 32 << 20;
/// What of a long response may be before an urgent one: what waits unsent, what is on its way, and a batch being written.
const BEFORE_BYTES: usize = 512 << 10;

/// What has come of a stream, without waiting.
fn come(stream: &mut RecvStream) -> usize {
    let mut bytes = 0;
    while let Some(Ok(Some(chunk))) = pin!(stream.read_chunk(1 << 16, false)).now_or_never() {
        bytes += chunk.bytes.len();
    }
    bytes
}

#[tokio::test]
async fn an_urgent_response_gets_out_soon_whatever_a_long_lazy_one_has_to_send() {
    // Short enough to find room at once, and so long that it must be preferred again and again.
    for urgent_bytes in [200 << 10, 4 << 20] {
        let (taken, made) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let server = serve(Limits::default(), {
            let (taken, made) = (Arc::clone(&taken), Arc::clone(&made));
            move |request, responder| {
                let (taken, made) = (Arc::clone(&taken), Arc::clone(&made));
                async move {
                    let is_urgent = request.headers()["priority"] == "u=0";
                    let bytes = if is_urgent { urgent_bytes } else { LONG_BYTES };
                    let pieces = stream::iter(0..bytes / PIECE_BYTES).map(move |_| {
                        if !is_urgent {
                            taken.fetch_add(PIECE_BYTES, Ordering::Relaxed);
                        }
                        Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![7; PIECE_BYTES])))
                    });
                    let _ = responder.send(Response::new(StreamBody::new(pieces))).await;
                    if is_urgent {
                        made.notify_one();
                    }
                }
            }
        });
        let between = Between::new(server.address).await;
        let mut config = config(&server.tls);
        let mut transport = eyot_h3::client_transport();
        transport.receive_window(VarInt::from_u32(64 << 20)).stream_receive_window(VarInt::from_u32(64 << 20));
        config.transport_config(Arc::new(transport));
        let raw = connecting(config, between.address).await.unwrap();
        between.hold();
        let (_up, mut lazy) = request(&raw, &head("GET", &[("priority", "u=7")]), true).await;
        while taken.load(Ordering::Relaxed) < 256 << 10 {
            tokio::task::yield_now().await;
        }
        let (_up, mut urgent) = request(&raw, &head("GET", &[("priority", "u=0")]), true).await;
        if urgent_bytes <= 200 << 10 {
            timeout(PATIENCE, made.notified()).await.expect("there is room while nothing leaves");
            assert!(taken.load(Ordering::Relaxed) <= BEFORE_BYTES, "{}", taken.load(Ordering::Relaxed));
        }
        between.release();
        let mut before = 0;
        while let Some(chunk) = urgent.read_chunk(1 << 16, true).await.unwrap() {
            before += come(&mut lazy);
            drop(chunk);
        }
        before += come(&mut lazy);
        assert!(
            before <= BEFORE_BYTES + urgent_bytes / 2,
            "{before} of the lazy one came before all of the urgent one"
        );
    }
}
