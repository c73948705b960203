//! One connection of which the client's side is small enough to be full at once.

use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body::Body;
use tokio::io::{AsyncWriteExt as _, duplex};
use tokio::time::Instant;

use super::*;
use crate::certificates::Certificates;
use crate::connection::{Activity, Door};
use crate::drain::drain;
use crate::guard::Guards;
use crate::settings::{Plain, Settings};

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nhost: a.net\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Accepts every tunnel, and sends back what comes through it.
struct Echo;

impl Answer for Echo {
    async fn answer(&self, arrival: Box<Arrival>) -> Response<Body> {
        Response::new(arrival.request.into_body())
    }
}

fn exchanges<A>(answer: A) -> Arc<Exchanges<A>> {
    let settings = Settings { plain: Plain::Serve, ..Settings::default() };
    let challenges = Certificates::none().challenges();
    Arc::new(Exchanges { answer: Arc::new(answer), challenges, settings, alt_svc: None, https_port: 443 })
}

fn connection() -> Arc<Connection> {
    let (door, client) = (Door::Common(Guards::none()), ([192, 0, 2, 1], 1).into());
    Arc::new(Connection { protocol: Protocol::H1, client, tls: None, door, activity: Activity::new() })
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_the_answer_which_opens_its_tunnel_is_waited_for_like_any_other() {
    let exchanges = exchanges(Echo);
    let (send_idle, tunnel_idle) = (exchanges.settings.send_idle, exchanges.settings.tunnel_idle);
    // The head of a 101 does not fit.
    let (ours, mut theirs) = duplex(64);
    let (_phase, drain) = drain();
    let serving = tokio::spawn(serve(exchanges, connection(), ours, drain));
    let began = Instant::now();
    theirs.write_all(HANDSHAKE.as_bytes()).await.expect("it is read");
    serving.await.expect("no panic");
    assert!(began.elapsed() >= send_idle && began.elapsed() < tunnel_idle, "{:?}", began.elapsed());
}

/// Accepts every tunnel, says something, and ends it without a look at what comes through it.
struct Leaves;

impl Answer for Leaves {
    async fn answer(&self, _: Box<Arrival>) -> Response<Body> {
        Response::new(eyot_plan::body::full("bye"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_still_sends_as_its_tunnel_ends_is_read_a_little_longer() {
    use tokio::io::AsyncReadExt as _;
    let (ours, mut theirs) = duplex(1024);
    let (_phase, drain) = drain();
    let serving = tokio::spawn(serve(exchanges(Leaves), connection(), ours, drain));
    theirs.write_all(HANDSHAKE.as_bytes()).await.expect("it is read");
    let mut said = String::new();
    theirs.read_to_string(&mut said).await.expect("text");
    assert!(said.starts_with("HTTP/1.1 101") && said.ends_with("\r\n\r\nbye"), "{said}");
    // A socket that is closed with this unread would be reset, and what was said would be lost with it.
    theirs.write_all(&[7; 10_000]).await.expect("it is read");
    drop(theirs);
    serving.await.expect("no panic");
}

/// Answers a POST with a head that the client's side does not hold, and leaves its body alone until that is said; tells
/// the others something before their response.
struct LeavesBodies;

impl Answer for LeavesBodies {
    async fn answer(&self, arrival: Box<Arrival>) -> Response<Body> {
        let mut response = Response::new(eyot_plan::body::empty());
        if arrival.request.method() == http::Method::POST {
            response.headers_mut().insert("x-long", HeaderValue::from_static(LONG));
            tokio::spawn(async move {
                let _unread = arrival.request.into_body();
                tokio::time::sleep(core::time::Duration::from_millis(10)).await;
            });
        } else {
            let mut head = Response::new(());
            *head.status_mut() = http::StatusCode::EARLY_HINTS;
            arrival.interim.send(head);
        }
        response
    }
}

const LONG: &str =
    "a response of which a part waits until the client has taken what came before it, and that is not soon";

#[tokio::test(start_paused = true)]
async fn what_is_told_before_a_response_does_not_get_into_the_one_before() {
    use tokio::io::AsyncReadExt as _;
    let (ours, mut theirs) = duplex(64);
    let (phase, drain) = drain();
    let serving = tokio::spawn(serve(exchanges(LeavesBodies), connection(), ours, drain));
    for piece in
        ["POST / HTTP/1.1\r\nhost: a.net\r\ncontent-length: 2\r\n\r\nx", "yGET / HTTP/1.1\r\nhost: a.net\r\n\r\n"]
    {
        theirs.write_all(piece.as_bytes()).await.expect("it is read");
        tokio::time::sleep(core::time::Duration::from_millis(1)).await;
    }
    // Whatever can happen while the client takes nothing has happened.
    tokio::time::sleep(core::time::Duration::from_secs(1)).await;
    let mut all = Vec::new();
    let _ = tokio::time::timeout(core::time::Duration::from_secs(1), theirs.read_to_end(&mut all)).await;
    let text = String::from_utf8(all).expect("text");
    let heads: Vec<_> = text.split_terminator("\r\n\r\n").collect();
    assert!(heads[0].starts_with("HTTP/1.1 200 OK") && heads[0].contains(LONG), "{text}");
    let rest: Vec<_> = heads[1..].iter().map(|head| &head[..12]).collect();
    assert!(rest == ["HTTP/1.1 200"] || rest == ["HTTP/1.1 103", "HTTP/1.1 200"], "{text}");
    drop(phase);
    serving.await.expect("no panic");
}
