//! Connections on which nothing passes: kept while an answer is waited for, and not longer.

use std::time::Duration;

use bytes::Bytes;
use eyot_h3::Limits;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use quinn::{ConnectionError, TransportConfig};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::harness::{Server, config, connecting, head, request, serve, tunnel_head};

/// Far longer than QUIC takes a silent connection for alive.
const LONG: Duration = Duration::from_secs(600);

/// A client that sends nothing of itself.
async fn silent(server: &Server) -> quinn::Connection {
    let mut config = config(&server.tls);
    config.transport_config(TransportConfig::default().into());
    connecting(config, server.address).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_its_time_finds_its_client_and_a_silent_tunnel_stays() {
    let server = serve(Limits { connect_protocol: true, ..Limits::default() }, |request, responder| async move {
        if request.method() == http::Method::CONNECT {
            return drop(responder.send(Response::new(request.into_body())).await);
        }
        sleep(LONG).await;
        responder.send(Response::new(Full::new(Bytes::from("at last")))).await.unwrap();
    });
    let raw = silent(&server).await;
    let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"at last"));
    let (mut send, mut recv) = request(&raw, &tunnel_head(), false).await;
    recv.read_chunk(1000, true).await.unwrap().unwrap();
    sleep(LONG).await;
    send.write_all(b"\0\x04ping").await.unwrap();
    assert!(recv.read_chunk(1000, true).await.unwrap().unwrap().bytes.ends_with(b"ping"));
}

#[tokio::test(start_paused = true)]
async fn without_a_request_nothing_keeps_a_connection_nor_for_a_client_that_is_gone() {
    for is_asked in [false, true] {
        let (told, mut gone) = mpsc::channel(1);
        let server = serve(Limits::default(), move |request, mut responder| {
            let told = told.clone();
            async move {
                if request.headers().contains_key("x-wait") {
                    responder.gone().await;
                    return told.send(()).await.unwrap();
                }
                responder.send(Response::new(request.into_body().boxed())).await.unwrap();
            }
        });
        let between = crate::harness::Between::new(server.address).await;
        let raw = {
            let mut config = config(&server.tls);
            config.transport_config(TransportConfig::default().into());
            connecting(config, between.address).await.unwrap()
        };
        let since = if is_asked {
            let _streams = request(&raw, &head("GET", &[("x-wait", "yes")]), true).await;
            // Long enough for the server to have asked for a sign, and got one.
            sleep(LONG).await;
            between.mute();
            let since = Instant::now();
            gone.recv().await.unwrap();
            since
        } else {
            request(&raw, &head("GET", &[]), true).await.1.read_to_end(1000).await.unwrap();
            let since = Instant::now();
            assert!(matches!(raw.closed().await, ConnectionError::TimedOut));
            since
        };
        assert!(since.elapsed() < LONG / 10, "{is_asked} {:?}", since.elapsed());
    }
}
