//! Which response goes first, when all are there and the network takes but one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use eyot_h3::Limits;
use http::Response;
use http_body_util::Full;
use quinn::{RecvStream, VarInt};
use tokio::sync::mpsc;

use crate::harness::{Between, config, connecting, head, request, serve, uni};

/// So long a response finds room in quinn, whatever waits there.
const BODY_BYTES: usize = 250_000;
/// What of a response may be on its way before it is another's turn: the first congestion window, and the last packets.
const SLACK_BYTES: usize = 60_000;

/// In which order two responses came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    FirstSecond,
    SecondFirst,
    Together,
}

/// What is said for two requests.
#[derive(Default)]
struct Said {
    /// The priority fields of the requests.
    asked: [Option<&'static str>; 2],
    /// The priority field of the second response.
    answered: Option<&'static str>,
    /// On the control stream before the requests.
    before: &'static [u8],
    /// On the control stream when both responses are finished, but not sent.
    after: &'static [u8],
}

/// Asks for two responses, lets go when the server has made both, and watches how they come.
async fn order(said: Said) -> Order {
    let (told, mut made) = mpsc::channel(8);
    let server = serve(Limits::default(), move |request, responder| {
        let told = told.clone();
        async move {
            let size = if request.headers().contains_key("x-large") { BODY_BYTES } else { 0 };
            let mut response = Response::builder();
            if let Some(priority) = request.headers().get("x-answer") {
                response = response.header("priority", priority);
            }
            let response = response.body(Full::new(Bytes::from(vec![7; size]))).unwrap();
            responder.send(response).await.unwrap();
            told.send(()).await.unwrap();
        }
    });
    let between = Between::new(server.address).await;
    let mut config = config(&server.tls);
    let mut transport = eyot_h3::client_transport();
    transport.receive_window(VarInt::from_u32(8 << 20)).stream_receive_window(VarInt::from_u32(4 << 20));
    config.transport_config(Arc::new(transport));
    let raw = connecting(config, between.address).await.unwrap();
    let mut control = uni(&raw, &[&[0, 4, 0][..], said.before].concat()).await;
    // Its answer means that the server has read what came before.
    request(&raw, &head("GET", &[]), true).await.1.read_to_end(1000).await.unwrap();
    made.recv().await.unwrap();
    between.hold();
    let mut streams = Vec::new();
    for (at, asked) in said.asked.into_iter().enumerate() {
        let mut fields = vec![("x-large", "yes")];
        fields.extend(asked.map(|asked| ("priority", asked)));
        fields.extend(said.answered.filter(|_| at == 1).map(|answered| ("x-answer", answered)));
        streams.push(request(&raw, &head("GET", &fields), true).await);
        made.recv().await.unwrap();
    }
    control.write_all(said.after).await.unwrap();
    let _small = request(&raw, &head("GET", &[("priority", "u=7")]), true).await;
    made.recv().await.unwrap();
    between.release();
    let [(_, first), (_, second)] = &mut streams[..] else { panic!("two streams") };
    let (first, second) = race(first, second).await;
    match (first <= SLACK_BYTES, second <= SLACK_BYTES) {
        (true, false) => Order::SecondFirst,
        (false, true) => Order::FirstSecond,
        _ => Order::Together,
    }
}

/// How much has come of each when half of one has: what was lost on the way comes late, and does not count.
async fn race(first: &mut RecvStream, second: &mut RecvStream) -> (usize, usize) {
    let mut counts = [0; 2];
    poll_fn(|cx| {
        for (stream, count) in [&mut *first, &mut *second].into_iter().zip(&mut counts) {
            while let Poll::Ready(Ok(Some(chunk))) = pin!(stream.read_chunk(4096, false)).poll(cx) {
                *count += chunk.bytes.len();
            }
        }
        if counts.iter().any(|count| *count >= BODY_BYTES / 2) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    counts.into()
}

/// PRIORITY_UPDATE of the requests 4 and 8.
const FIRST_LATER: &[u8] = &[0x80, 0xf, 7, 0, 4, 4, b'u', b'=', b'6'];
const SECOND_SOONER: &[u8] = &[0x80, 0xf, 7, 0, 4, 8, b'u', b'=', b'0'];

#[tokio::test]
async fn responses_come_in_the_order_that_was_asked_for() {
    use Order::{FirstSecond, SecondFirst, Together};
    let table = [
        ("the urgent one", Said { asked: [Some("u=5"), Some("u=1")], ..Said::default() }, SecondFirst),
        ("one after another", Said { asked: [Some("u=3"), Some("u=3")], ..Said::default() }, FirstSecond),
        ("in turns", Said { asked: [Some("i"), Some("i")], ..Said::default() }, Together),
        ("nothing is said", Said::default(), Together),
        (
            "the whole before the incremental",
            Said { asked: [Some("u=2, i"), Some("u=2")], ..Said::default() },
            SecondFirst,
        ),
        ("a broken field says nothing", Said { asked: [Some("u=1,"), Some("u=2")], ..Said::default() }, SecondFirst),
        ("the response says so", Said { answered: Some("u=0"), ..Said::default() }, SecondFirst),
        (
            "the response of what was asked",
            Said { asked: [Some("u=1"), Some("u=0, i")], answered: Some("u=6"), ..Said::default() },
            FirstSecond,
        ),
        ("said before the request", Said { before: FIRST_LATER, ..Said::default() }, SecondFirst),
        (
            "said before, and more than the request",
            Said { asked: [Some("u=0"), Some("u=5")], before: FIRST_LATER, ..Said::default() },
            SecondFirst,
        ),
        (
            "said anew when all is made",
            Said { asked: [Some("u=1"), Some("u=1")], after: SECOND_SOONER, ..Said::default() },
            SecondFirst,
        ),
        (
            "the later one anew",
            Said { asked: [Some("u=3"), Some("u=3")], after: FIRST_LATER, ..Said::default() },
            SecondFirst,
        ),
    ];
    for (what, said, expect) in table {
        assert_eq!(order(said).await, expect, "{what}");
    }
}
