//! The ping, on a clock that the test moves.

use core::future::pending;
use core::net::SocketAddr;

use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body::Body;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::connection::{Activity, Door};
use crate::drain::drain;
use crate::settings::{Plain, Settings};

/// Answers nothing, ever.
struct Never;

impl Answer for Never {
    async fn answer(&self, _: Box<Arrival>) -> Response<Body> {
        pending().await
    }
}

/// Preface, SETTINGS, and HEADERS that open stream 1 with `GET http://a.net/`.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x0a\x01\x05\0\0\0\x01\x82\x86\x84\x01\x05a.net";

/// The types of frames (RFC 9113, section 6).
const PING: u8 = 6;
const ACK: u8 = 1;

/// Reads frames until the server closes, and gives `each` those that are pings.
async fn pings(client: &mut DuplexStream, until: Instant, mut each: impl AsyncFnMut(&mut DuplexStream, [u8; 8])) {
    while Instant::now() < until {
        let mut head = [0; 9];
        if client.read_exact(&mut head).await.is_err() {
            return;
        }
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        client.read_exact(&mut payload).await.expect("the rest of a frame");
        if head[3] == PING && head[4] & ACK == 0 {
            each(client, payload.try_into().expect("a ping has 8 bytes")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_a_ping_is_gone_and_one_that_does_may_wait() {
    let settings = Settings { plain: Plain::Serve, ..Settings::default() };
    for (answers, stays) in [(false, PING_EVERY + PING_TIMEOUT), (true, PING_EVERY * 30)] {
        let exchanges = Exchanges {
            answer: Arc::new(Never),
            settings: settings.clone(),
            challenges: Arc::default(),
            alt_svc: None,
            https_port: 443,
        };
        let client = SocketAddr::from(([192, 0, 2, 1], 50_000));
        let door = Door::Common(settings.tls.guards.clone());
        let connection = Connection { protocol: Protocol::H2, client, tls: None, door, activity: Activity::new() };
        let (_phase, drain) = drain();
        let (ours, mut theirs) = duplex(1 << 16);
        let mut served = tokio::spawn(serve(Arc::new(exchanges), Arc::new(connection), ours, drain));
        let from = Instant::now();
        theirs.write_all(OPENING).await.expect("it is read");
        let mut asked = 0_u32;
        let answer = async |client: &mut DuplexStream, payload: [u8; 8]| {
            asked += 1;
            let ack = [&[0, 0, 8, PING, ACK, 0, 0, 0, 0][..], &payload].concat();
            if answers {
                client.write_all(&ack).await.expect("it is read");
            }
        };
        timeout(stays * 2, pings(&mut theirs, from + stays, answer)).await.expect("a ping, or the end");
        let is_gone = timeout(PING_EVERY / 2, &mut served).await.is_ok();
        assert_eq!((is_gone, asked > 1), (!answers, answers), "{asked} pings");
        assert!(from.elapsed() >= stays && from.elapsed() < stays + PING_EVERY * 2, "{:?}", from.elapsed());
        served.abort();
    }
}
