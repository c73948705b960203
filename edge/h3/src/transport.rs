//! QUIC transport parameters with bounds that a hostile peer cannot pass. quinn's own defaults are meant for speed
//! among friends.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt, congestion};

/// What a connection may have in flight towards us and be kept in memory.
const RECEIVE_WINDOW_BYTES: u32 = 1 << 20;
/// The same for one stream.
const STREAM_RECEIVE_WINDOW_BYTES: u32 = 256 << 10;
/// What we may have written and the peer not acknowledged.
pub(crate) const SEND_WINDOW_BYTES: u64 = 2 << 20;
/// Control, two for QPACK, and some for extensions.
const UNI_STREAMS_MAX: u32 = 8;
/// Silence after which a connection is over.
const IDLE_MS: u32 = 30_000;
/// How often a client shows that it lives while it waits.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The transport of a server that takes so many requests at once on a connection.
pub fn server_transport(requests_max: u32) -> TransportConfig {
    let mut transport = common();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(requests_max));
    transport
}

/// The transport of a client: a server opens no bidirectional streams (RFC 9114, section 6.1).
pub fn client_transport() -> TransportConfig {
    let mut transport = common();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0)).keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

fn common() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(congestion::CubicConfig::default()));
    transport
}
