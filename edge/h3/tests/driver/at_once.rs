//! Requests at once: an honest client waits with what is over, and one that does not is cut.

use std::any::Any;
use std::sync::Arc;

use bytes::Buf as _;
use eyot_h3::Limits;
use futures_util::FutureExt as _;
use http::Response;
use http_body_util::Full;
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::coding::Codec as _;
use quinn_proto::crypto::{ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};
use tokio::sync::Semaphore;

use crate::harness::{PATIENCE, REQUESTS_MAX, Server, head, raw_with, request, serve};

const AT_ONCE: usize = REQUESTS_MAX as usize;

/// A server that answers as often as it is let.
fn holding() -> (Server, Arc<Semaphore>) {
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let server = serve(Limits::default(), move |_, responder| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            let _ = responder.send(Response::new(Full::new(bytes::Bytes::from("answered")))).await;
        }
    });
    (server, release)
}

#[tokio::test]
async fn a_client_waits_with_what_is_over_the_requests_at_once() {
    let (server, release) = holding();
    let raw = server.raw().await;
    let mut streams = Vec::new();
    for _ in 0..AT_ONCE {
        streams.push(request(&raw, &head("GET", &[]), true).await);
    }
    assert!(raw.open_bi().now_or_never().is_none());
    release.add_permits(AT_ONCE + 1);
    for (_, recv) in &mut streams {
        assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"answered"));
    }
    let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"answered"));
}

#[tokio::test]
async fn a_client_that_does_not_keep_to_the_requests_at_once_is_cut() {
    for (requests, is_cut) in [(AT_ONCE, false), (AT_ONCE + 1, true)] {
        let (server, release) = holding();
        let raw = raw_with(&server.tls, server.address, |honest| Arc::new(Deaf(Arc::new(honest)))).await;
        let mut streams = Vec::new();
        for _ in 0..requests {
            streams.push(request(&raw, &head("GET", &[]), true).await);
        }
        if is_cut {
            let closed = tokio::time::timeout(PATIENCE, raw.closed()).await.expect("it is cut");
            let quinn::ConnectionError::ConnectionClosed(close) = closed else { panic!("{closed}") };
            assert_eq!(close.error_code, quinn::TransportErrorCode::STREAM_LIMIT_ERROR);
        } else {
            release.add_permits(requests);
            for (_, recv) in &mut streams {
                assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"answered"));
            }
        }
    }
}

/// A client that hears from its server that it may open as many streams as it likes.
struct Deaf(Arc<QuicClientConfig>);

impl ClientConfig for Deaf {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(Box::new(DeafSession(Arc::clone(&self.0).start_session(version, name, params)?)))
    }
}

/// Its TLS, which is sound.
struct DeafSession(Box<dyn Session>);

impl Session for DeafSession {
    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.0.transport_parameters()?.map(|told| misheard(&told)))
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.0.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.0.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.0.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.0.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.0.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.0.read_handshake(buf)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.0.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.0.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.0.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.0.export_keying_material(output, label, context)
    }
}

/// The same parameters, but for `initial_max_streams_bidi` (RFC 9000, section 18.2).
fn misheard(told: &TransportParameters) -> TransportParameters {
    const INITIAL_MAX_STREAMS_BIDI: u32 = 8;
    let mut wire = Vec::new();
    told.write(&mut wire);
    let (mut left, mut heard) = (&wire[..], Vec::new());
    while left.has_remaining() {
        let id = VarInt::decode(&mut left).unwrap();
        let length = VarInt::decode(&mut left).unwrap();
        let (value, rest) = left.split_at(usize::try_from(length.into_inner()).unwrap());
        left = rest;
        let many = [0x7f, 0xff];
        let value = if id == VarInt::from_u32(INITIAL_MAX_STREAMS_BIDI) { &many[..] } else { value };
        id.encode(&mut heard);
        VarInt::try_from(value.len()).unwrap().encode(&mut heard);
        heard.extend_from_slice(value);
    }
    TransportParameters::read(Side::Client, &mut &heard[..]).unwrap()
}
