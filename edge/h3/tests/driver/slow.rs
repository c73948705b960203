//! Clients that take a response slowly.

use std::time::Duration;

use bytes::Bytes;
use eyot_h3::Limits;
use eyot_h3::core::code::Code;
use http::Response;
use http_body_util::Full;
use quinn::{ReadError, TransportConfig, VarInt};
use tokio::time::sleep;

use crate::harness::{config, connecting, head, request, serve};

const BODY_BYTES: usize = 200_000;

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_response_too_slowly_loses_it_and_one_that_keeps_the_rate_does_not() {
    let limits = Limits { write_time_max: Duration::from_secs(30), write_rate_bytes_min: 256, ..Limits::default() };
    // So many bytes each ten seconds.
    for (bytes, is_served) in [(5_000, true), (1_000, false), (100, false)] {
        for at_once in [false, true] {
            let server = serve(limits.clone(), move |_, responder| async move {
                let body = Bytes::from(vec![7; BODY_BYTES]);
                if at_once {
                    return drop(responder.send(Response::new(Full::new(body))).await);
                }
                let pieces = (0..BODY_BYTES / 1000).map(move |at| body.slice(at * 1000..(at + 1) * 1000));
                let pieces = pieces.map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(piece)));
                let pieces = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
                let _ = responder.send(Response::new(pieces)).await;
            });
            let mut config = config(&server.tls);
            let mut transport = TransportConfig::default();
            transport.stream_receive_window(VarInt::from_u32(8_000)).keep_alive_interval(Some(Duration::from_secs(5)));
            config.transport_config(transport.into());
            let raw = connecting(config, server.address).await.unwrap();
            let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
            let (mut taken, mut buffer) = (0, [0; 5_000]);
            let ended = loop {
                match recv.read(&mut buffer[..bytes]).await {
                    Ok(Some(bytes)) => taken += bytes,
                    Ok(None) => break Ok(()),
                    Err(ReadError::Reset(code)) => break Err(Code(code.into_inner())),
                    Err(error) => panic!("{error}"),
                }
                sleep(Duration::from_secs(10)).await;
            };
            let expect = if is_served { Ok(()) } else { Err(Code::REQUEST_CANCELLED) };
            assert_eq!(ended, expect, "{bytes} {at_once} {taken}");
            assert_eq!(taken >= BODY_BYTES, is_served, "{bytes} {at_once} {taken}");
        }
    }
}
