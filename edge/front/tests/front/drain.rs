//! The end: what is in flight ends well, what takes too long is cut, nothing new is taken.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use eyot_front::steer::{Generation, Keys, Relay};
use eyot_front::{Lineage, Settings, Turn};
use eyot_plan::arrival::{Arrival, Protocol};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};

use crate::harness::{ALL, Client, Front, listening, nothing, read, tcp, text};

#[tokio::test]
async fn what_is_in_flight_ends_well_and_then_listening_ends() {
    for protocol in ALL {
        let (sender, mut asked) = mpsc::unbounded_channel();
        let release = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&release);
        let mut front = Front::answering(move |_| {
            let (sender, held) = (sender.clone(), Arc::clone(&held));
            async move {
                let _ = sender.send(());
                let _ = held.acquire().await;
                text("whole")
            }
        });
        let mut client = front.client(protocol).await;
        let idle = front.client(protocol).await;
        let asking = tokio::spawn(async move {
            let response = client.get("https://a.net/").await.expect("a response");
            (read(response).await.expect("a body"), client)
        });
        asked.recv().await.expect("it is asked");
        front.stop();
        // Nothing new: once the listener is gone, or the connection refused.
        while front.client_of(protocol, "a.net").await.is_ok() {}
        release.add_permits(1);
        let (said, client) = asking.await.expect("no panic");
        assert_eq!(said, "whole", "{protocol:?}");
        front.ended().await;
        drop((client, idle));
    }
}

#[tokio::test]
async fn what_never_ends_is_cut_when_the_time_is_over() {
    for protocol in ALL {
        let (sender, mut asked) = mpsc::unbounded_channel();
        let settings = Settings { drain: Duration::from_millis(100), ..Settings::default() };
        let front = Front::with(settings, move |arrival: Arrival| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(());
                if arrival.request.uri().path() == "/half" {
                    return Response::new(arrival.request.into_body());
                }
                std::future::pending().await
            }
        });
        let mut client = front.client(protocol).await;
        let half = http_body_util::StreamBody::new(futures_util::stream::pending()).boxed_unsync();
        let half = Request::post("https://a.net/half").body(half).expect("a request");
        let response = client.send(half).await.expect("a response");
        asked.recv().await.expect("it is asked");
        let mut other = front.client(protocol).await;
        let never = tokio::spawn(async move {
            let request = Request::get("https://a.net/never").body(nothing()).expect("a request");
            other.send(request).await.is_err()
        });
        asked.recv().await.expect("it is asked");
        front.ended().await;
        assert!(response.into_body().collect().await.is_err(), "{protocol:?}");
        assert!(never.await.expect("no panic"), "{protocol:?}");
    }
}

#[tokio::test]
async fn who_has_passed_its_turn_serves_what_comes_over_quic_and_accepts_over_tcp_when_it_has_it_again() {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let turn = Turn::new(false);
    let (generation, keys) = (Generation::Even, Keys::random().expect("randomness"));
    let mut sockets = listening(1);
    let turns = Arc::clone(&turn);
    sockets.lineage = Some(Lineage { generation, keys, is_handed_over: false, turn: turns, relay: Relay::default() });
    let mut front = Front::on(sockets, Settings::default(), move |_| {
        let (sender, held) = (sender.clone(), Arc::clone(&held));
        async move {
            let _ = sender.send(());
            let _ = held.acquire().await;
            text("whole")
        }
    });
    let asking = |mut client: Client| {
        tokio::spawn(async move {
            let response = client.get("https://a.net/").await.expect("a response");
            read(response).await.expect("a body")
        })
    };
    let before = asking(front.client(Protocol::H2).await);
    asked.recv().await.expect("it is asked");
    turn.pass();
    // Its connection waits with the kernel.
    let mut waits = tcp(front.tls).await.expect("connected");
    waits.write_all(b"no TLS\r\n\r\n").await.expect("sent");
    let after = asking(front.client(Protocol::H3).await);
    asked.recv().await.expect("it is asked over QUIC");
    assert!(matches!(waits.try_read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock));
    turn.alone();
    waits.read_u8().await.expect("it is told what is wrong");
    let again = asking(front.client(Protocol::H1).await);
    asked.recv().await.expect("it is asked over TCP");
    front.hand_over();
    release.add_permits(3);
    for asking in [before, after, again] {
        assert_eq!(asking.await.expect("no panic"), "whole");
    }
    front.ended().await;
}

/// Clients that begin in the very moment of the end.
const CROWD: usize = 20;

#[tokio::test]
async fn who_had_begun_to_connect_before_the_end_is_answered() {
    let mut front = Front::answering(|_| async { text("served") });
    // Nothing is accepted meanwhile: this thread runs the listener, too.
    let waits: Vec<_> = (0..2 * CROWD).map(|_| connect_now(front.tls)).collect();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(front.trust(&["h3"])).expect("TLS 1.3");
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let connecting = || endpoint.connect_with(config.clone(), front.tls, "a.net").expect("a name");
    let begun: Vec<_> = (0..CROWD).map(|_| connecting()).collect();
    front.stop();
    for (at, stream) in waits.into_iter().enumerate() {
        let protocol = if at % 2 == 0 { Protocol::H1 } else { Protocol::H2 };
        let mut client = front.client_on(protocol, stream).await.expect("it was connected");
        let response = client.get("https://a.net/").await.expect("a response");
        let is_last = response.headers().get("connection").is_some_and(|value| value == "close");
        assert_eq!(is_last, protocol == Protocol::H1);
        assert_eq!(read(response).await.expect("a body"), "served", "{at}");
    }
    for connecting in begun {
        connecting.await.expect("it had begun");
    }
    front.ended().await;
}

#[tokio::test]
async fn who_begins_to_connect_after_the_end_is_refused() {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let mut front = Front::answering(move |_| {
        let (sender, held) = (sender.clone(), Arc::clone(&held));
        async move {
            let _ = sender.send(());
            let _ = held.acquire().await;
            text("whole")
        }
    });
    let mut client = front.client(Protocol::H3).await;
    let asking = tokio::spawn(async move { read(client.get("https://a.net/").await.expect("a response")).await });
    asked.recv().await.expect("it is asked");
    front.stop();
    // The system asks again for a connection that is not heard, until nobody listens.
    let refused = loop {
        match tcp(front.tls).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(front.trust(&["h3"])).expect("TLS 1.3");
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let late = endpoint.connect_with(quinn::ClientConfig::new(Arc::new(tls)), front.tls, "a.net").expect("a name");
    match late.await.expect_err("it is refused") {
        quinn::ConnectionError::ConnectionClosed(close) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        }
        other => panic!("{other}"),
    }
    release.add_permits(1);
    assert_eq!(asking.await.expect("no panic").expect("a body"), "whole");
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_on_its_way_to_a_connection_that_is_idle_at_the_end_is_answered() {
    for protocol in ALL {
        let mut front = Front::answering(|_| async { text("served") });
        let mut client = front.client(protocol).await;
        let mut silent = front.client(protocol).await;
        for client in [&mut client, &mut silent] {
            let first = client.get("https://a.net/").await.expect("a response");
            assert_eq!(read(first).await.expect("a body"), "served");
        }
        front.stop();
        tokio::time::sleep(Duration::from_millis(400)).await; // of the paused clock
        let last = client.get("https://a.net/").await.expect("a response");
        let is_last = last.headers().get("connection").is_some_and(|value| value == "close");
        assert_eq!(is_last, protocol == Protocol::H1, "{protocol:?}");
        assert_eq!(read(last).await.expect("a body"), "served");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(silent.get("https://a.net/").await.is_err(), "{protocol:?}");
        drop((client, silent));
        front.ended().await;
    }
}

#[tokio::test]
async fn an_idle_connection_that_is_closed_at_the_end_is_read_to_its_own_end() {
    let mut front = Front::answering(|_| async { text("served") });
    let mut stream = tcp(front.plain).await.expect("a listener");
    let ask = b"GET / HTTP/1.1\r\nhost: a.net\r\n\r\n";
    stream.write_all(ask).await.expect("it is read");
    let mut said = vec![0; 12];
    stream.read_exact(&mut said).await.expect("an answer");
    assert_eq!(said, b"HTTP/1.1 308");
    front.stop();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("an end");
    // It crossed with the end: no reset takes from the client what it was told, nor comes later.
    for _ in 0..3 {
        stream.write_all(ask).await.expect("it is taken");
        tokio::task::yield_now().await;
    }
    assert_eq!(stream.read(&mut said).await.expect("no reset"), 0);
    drop(stream);
    front.ended().await;
}

/// Connects while nothing else runs.
#[allow(clippy::disallowed_methods, reason = "a client of the tests, not a way out")]
fn connect_now(address: std::net::SocketAddr) -> tokio::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).expect("a listener");
    stream.set_nonblocking(true).expect("a socket");
    tokio::net::TcpStream::from_std(stream).expect("a socket")
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_accepted_and_waits_for_its_place_is_served_when_another_process_takes_over() {
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let mut front = Front::with(settings, |_| async { text("served") });
    let first = front.client(Protocol::H2).await;
    let waits = tcp(front.tls).await.expect("connected");
    tokio::time::sleep(Duration::from_secs(1)).await;
    front.hand_over();
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.leave();
    let mut client = front.client_on(Protocol::H1, waits).await.expect("its turn came");
    assert_eq!(read(client.get("https://a.net/").await.expect("a response")).await.expect("a body"), "served");
    front.ended().await;
}
