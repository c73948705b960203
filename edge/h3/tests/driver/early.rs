//! What comes before the handshake is over, and who was here before.

use std::time::Duration;

use bytes::Bytes;
use eyot_h3::Limits;
use eyot_h3::server::{Connection, Early, Responder};
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::mpsc;

use crate::harness::{Between, PATIENCE, Tls, config, connecting, head, listen_with, request, tls};

type Arrived = (Request<eyot_h3::RecvBody>, Responder);

/// TLS whose sessions may be resumed with early data.
fn resumable() -> Tls {
    let mut tls = tls();
    tls.server.max_early_data_size = u32::MAX;
    tls.client.enable_early_data = true;
    tls
}

/// A server that takes connections before their handshakes are over, and gives what arrives.
fn eager(tls: &Tls, limits: Limits) -> (std::net::SocketAddr, mpsc::Receiver<Arrived>) {
    let (told, hear) = mpsc::channel(8);
    let endpoint = listen_with(tls, |_| {});
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok((quinn, proven)) = incoming.accept().unwrap().into_0rtt() else { panic!("a server always can") };
            let mut connection = Connection::early(quinn, proven, limits.clone()).await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                while let Ok(Some(arrived)) = connection.accept().await {
                    told.send(arrived).await.unwrap();
                }
            });
        }
    });
    (address, hear)
}

/// A client that was here before, and has what it needs to send early data.
async fn known(tls: &Tls, address: std::net::SocketAddr, hear: &mut mpsc::Receiver<Arrived>) -> quinn::ClientConfig {
    let config = config(tls);
    let first = connecting(config.clone(), address).await.unwrap();
    let (_send, mut recv) = request(&first, &head("GET", &[]), true).await;
    let (request, responder) = hear.recv().await.unwrap();
    assert!(request.extensions().get::<Early>().is_none(), "it came after the handshake");
    responder.send(Response::new(Full::new(Bytes::from("first")))).await.unwrap();
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"first"));
    config
}

#[tokio::test]
async fn an_early_request_is_marked_until_the_handshake_proves_it() {
    let tls = resumable();
    let (address, mut hear) = eager(&tls, Limits::default());
    let between = Between::new(address).await;
    let config = known(&tls, between.address, &mut hear).await;
    between.hold();
    let Ok((again, accepted)) = connecting(config, between.address).into_0rtt() else { panic!("it was here before") };
    let (_send, mut recv) = request(&again, &head("GET", &[]), true).await;
    let (early, responder) = hear.recv().await.unwrap();
    let proven = early.extensions().get::<Early>().expect("it came before the handshake was over").clone().proven();
    let mut proven = Box::pin(proven);
    assert!(proven.as_mut().now_or_never().is_none());
    between.release();
    assert!(proven.await);
    assert!(accepted.await);
    responder.send(Response::new(Full::new(Bytes::from("early")))).await.unwrap();
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"early"));
    let (_send, _recv) = request(&again, &head("GET", &[]), true).await;
    let (late, _responder) = hear.recv().await.unwrap();
    assert!(late.extensions().get::<Early>().is_none());
}

#[tokio::test]
async fn early_data_whose_handshake_never_ends_is_never_proven_and_ends() {
    let tls = resumable();
    let limits = Limits { header_time_max: Duration::from_millis(200), ..Limits::default() };
    let (address, mut hear) = eager(&tls, limits);
    let between = Between::new(address).await;
    let config = known(&tls, between.address, &mut hear).await;
    between.hold();
    let Ok((again, _accepted)) = connecting(config, between.address).into_0rtt() else { panic!("it was here before") };
    let _streams = request(&again, &head("GET", &[]), false).await;
    let (early, mut responder) = hear.recv().await.unwrap();
    let proven = early.extensions().get::<Early>().unwrap().clone().proven();
    assert!(!tokio::time::timeout(PATIENCE, proven).await.expect("it is told"));
    tokio::time::timeout(PATIENCE, responder.gone()).await.expect("the connection ends");
}

#[tokio::test]
async fn a_client_that_was_here_need_not_prove_its_address_again() {
    let tls = tls();
    let endpoint = listen_with(&tls, |config| {
        config.validation_token_config(eyot_h3::tokens());
    });
    let address = endpoint.local_addr().unwrap();
    let (told, mut hear) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let is_proven = incoming.remote_address_validated();
            told.send((is_proven, incoming.may_retry())).await.unwrap();
            if is_proven {
                let quinn = incoming.await.unwrap();
                tokio::spawn(async move { quinn.closed().await });
            } else {
                incoming.retry().unwrap();
            }
        }
    });
    let config = config(&tls);
    // Each connection gives two tokens and uses one up.
    for (is_known, retries) in [(false, 1), (true, 0), (true, 0)] {
        let quinn = connecting(config.clone(), address).await.unwrap();
        for _ in 0..retries {
            assert_eq!(hear.recv().await, Some((false, true)), "{is_known}: it is asked to prove its address");
        }
        assert_eq!(hear.recv().await.map(|(is_proven, _)| is_proven), Some(true));
        let tokens = async {
            while quinn.stats().frame_rx.new_token == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, tokens).await.expect("it is given tokens");
        quinn.close(quinn::VarInt::from_u32(0), b"");
    }
}
