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
