//! The ping, on a clock that the test moves; and what leaves together.

use core::future::pending;
use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::Context;
use std::io;

use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body::{self, Body};
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

/// Answers with a kibibyte, at once.
struct Whole;

impl Answer for Whole {
    async fn answer(&self, _: Box<Arrival>) -> Response<Body> {
        Response::new(body::full(vec![0; 1 << 10]))
    }
}

/// Counts what is written at once.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What a connection needs on which `answer` answers.
fn house<A>(answer: A, settings: &Settings) -> (Arc<Exchanges<A>>, Arc<Connection>) {
    let exchanges = Exchanges {
        answer: Arc::new(answer),
        settings: settings.clone(),
        challenges: Arc::default(),
        alt_svc: None,
        https_port: 443,
    };
    let client = SocketAddr::from(([192, 0, 2, 1], 50_000));
    let door = Door::Common(settings.tls.guards.clone());
    let connection = Connection { protocol: Protocol::H2, client, tls: None, door, activity: Activity::new() };
    (Arc::new(exchanges), Arc::new(connection))
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
        let (exchanges, connection) = house(Never, &settings);
        let (_phase, drain) = drain();
        let (ours, mut theirs) = duplex(1 << 16);
        let mut served = tokio::spawn(serve(exchanges, connection, ours, drain));
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

#[tokio::test]
async fn the_answers_to_requests_that_came_together_leave_together() {
    const REQUESTS: usize = 20;
    const ANSWER_BYTES: usize = 1 << 10;
    let settings = Settings { plain: Plain::Serve, ..Settings::default() };
    let (exchanges, connection) = house(Whole, &settings);
    let (_phase, drain) = drain();
    let (ours, mut theirs) = duplex(1 << 16);
    let writes = Arc::<AtomicUsize>::default();
    let served = tokio::spawn(serve(exchanges, connection, Counted(ours, writes.clone()), drain));
    let mut sent = OPENING.to_vec();
    for n in 1..REQUESTS {
        let stream = u8::try_from(2 * n + 1).expect("small");
        sent.extend([0, 0, 10, 1, 5, 0, 0, 0, stream]);
        sent.extend(b"\x82\x86\x84\x01\x05a.net");
    }
    theirs.write_all(&sent).await.expect("it is read");
    let mut came = 0;
    while came < REQUESTS * ANSWER_BYTES {
        let mut head = [0; 9];
        theirs.read_exact(&mut head).await.expect("a frame");
        let bytes = usize::from(u16::from_be_bytes([head[1], head[2]]));
        theirs.read_exact(&mut vec![0; bytes]).await.expect("the rest of it");
        came += if head[3] == 0 { bytes } else { 0 };
    }
    // One of the preface, and some while all that was sent is read: not one for each.
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes <= 3, "{writes} writes for {REQUESTS} answers");
    served.abort();
}
