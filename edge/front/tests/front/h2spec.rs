//! The cases of h2spec (its sections of RFC 7540, whose rules stand in RFC 9113, and of RFC 7541), as a table: what a
//! client sends, and what must be said to it. Where a more telling code stands in the RFC, the library may end the
//! connection with PROTOCOL_ERROR; h2spec, too, is content with its end.

mod cases;

use eyot_front::Settings;
use eyot_plan::arrival::Arrival;
use http_body_util::BodyExt as _;

use crate::frames::{Raw, frame};
use crate::harness::{Front, text};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// END_STREAM, END_HEADERS, PADDED, PRIORITY; ACK is 1 too.
const END: u8 = 1;
const WHOLE: u8 = 4;
const PADDED: u8 = 8;
const RANKED: u8 = 32;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// What must follow.
#[derive(Debug)]
enum Then {
    /// An acknowledged ping: the connection lives.
    Pong,
    /// The head of a response, on this stream.
    Head(u32),
    /// An answer 400, or what `Stream` says.
    Malformed,
    /// The stream or the connection ends, with one of these.
    Stream(&'static [u32]),
    /// The connection ends, with one of these.
    Ends(&'static [u32]),
    /// The connection ends, or the ping is acknowledged.
    Either,
    /// DATA of so many bytes in all, and no more.
    Data(usize),
}
use Then::{Data, Either, Ends, Head, Malformed, Pong, Stream};

/// One case: the section, what is sent, what must follow.
struct Case(&'static str, Vec<Vec<u8>>, Then);

/// `GET https://a.net/` (static table, and a literal that is not indexed).
const GET: &[u8] = b"\x82\x87\x84\x01\x05a.net";
/// The same, POST.
const POST: &[u8] = b"\x83\x87\x84\x01\x05a.net";

/// A literal field with a new name, not indexed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("short");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

fn head(flags: u8, stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, fields)
}

fn get(stream: u32) -> Vec<u8> {
    head(WHOLE | END, stream, GET)
}

/// A request whose fields are these and one more.
fn with(fields: &[u8], more: &[u8]) -> Vec<Vec<u8>> {
    vec![head(WHOLE | END, 1, &[fields, more].concat())]
}

fn data(flags: u8, stream: u32) -> Vec<u8> {
    frame(DATA, flags, stream, b"test")
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn rank(stream: u32, on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[16]].concat())
}

fn ping(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(PING, flags, stream, payload)
}

/// What the server says that decides a case.
async fn holds(raw: &mut Raw, then: &Then) -> Result<(), String> {
    let mut data = 0;
    let mut last = None;
    loop {
        let Some((kind, flags, stream, payload)) = raw.frame().await else {
            let closed = matches!(then, Stream(_) | Ends(_) | Either | Malformed);
            return if closed {
                Ok(())
            } else {
                Err(format!("closed, after GOAWAY {last:?} and {data} bytes of DATA"))
            };
        };
        let code = |at: usize| payload.get(at..at + 4).map(|code| u32::from_be_bytes(code.try_into().expect("four")));
        match (kind, then) {
            (GOAWAY, Stream(codes) | Ends(codes)) if code(4) != Some(0) => {
                let code = code(4).expect("a code");
                let is_right = code == PROTOCOL_ERROR || codes.contains(&code);
                return is_right.then_some(()).ok_or(format!("GOAWAY {code}"));
            }
            (GOAWAY, Malformed) => return Ok(()),
            (GOAWAY, _) => last = code(4),
            (RST_STREAM, Stream(codes)) => {
                return codes
                    .contains(&code(0).expect("a code"))
                    .then_some(())
                    .ok_or(format!("RST_STREAM {:?}", code(0)));
            }
            (RST_STREAM, Malformed) if code(0) == Some(PROTOCOL_ERROR) => return Ok(()),
            // 400 of the static table.
            (HEADERS, Malformed) => return (payload[0] == 0x8c).then_some(()).ok_or("a response".to_owned()),
            (HEADERS, Head(of)) if *of == stream => return Ok(()),
            (PING, Pong | Either) if flags & END != 0 && payload == *b"last-one" => return Ok(()),
            (PING, Ends(_) | Stream(_) | Malformed | Head(_)) if payload == *b"last-one" => {
                // It was answered in turn; what must follow may still come.
            }
            (DATA, Data(bytes)) => {
                data += payload.len();
                if data >= *bytes {
                    return (data == *bytes).then_some(()).ok_or(format!("{data} bytes of DATA"));
                }
            }
            _ => {}
        }
    }
}

async fn check(cases: Vec<Case>) {
    let settings = Settings::default();
    let counts = settings.counts.clone();
    let front = Front::with(settings, |arrival: Arrival| async move {
        if arrival.request.uri().path() == "/held" {
            std::future::pending::<()>().await;
        }
        match arrival.request.into_body().collect().await {
            Ok(_) => text("served"),
            // Its client is told by the reset of the stream.
            Err(_) => std::future::pending().await,
        }
    });
    let mut wrong = Vec::new();
    for Case(section, frames, then) in cases {
        let mut raw = Raw::connect(&front).await;
        let sent = frames.concat();
        raw.send(&sent).await;
        if matches!(then, Pong | Either) {
            raw.send(&ping(0, 0, b"last-one")).await;
        }
        match tokio::time::timeout(std::time::Duration::from_secs(5), holds(&mut raw, &then)).await {
            Ok(Ok(())) => {}
            Ok(Err(said)) => wrong.push(format!("{section}: {said}, not {then:?}")),
            Err(_) => wrong.push(format!("{section}: nothing, not {then:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(counts.panics(), 0);
    front.ended().await;
}

#[tokio::test]
async fn what_a_client_may_say_is_understood() {
    check(cases::generic()).await;
}

#[tokio::test]
async fn frames_are_held_to_the_rules_of_http_2() {
    check(cases::framing()).await;
}

#[tokio::test]
async fn messages_are_held_to_the_rules_of_http_2() {
    check(cases::messages()).await;
}

#[tokio::test]
async fn compression_of_fields_is_held_to_its_rules() {
    check(cases::compression()).await;
}

#[tokio::test]
async fn a_client_that_begins_with_something_else_is_closed() {
    let front = Front::answering(|_| async { text("served") });
    let mut raw = Raw::silent(&front).await;
    raw.send(b"INVALID CONNECTION PREFACE\r\n\r\n").await;
    while let Some((kind, _, _, payload)) = raw.frame().await {
        assert!(kind == SETTINGS || (kind == GOAWAY && payload[7] == 1));
    }
    front.ended().await;
}

/// 5.1.2: over the streams at once.
#[tokio::test]
async fn a_stream_beyond_those_at_once_is_refused() {
    let front = Front::with(Settings { streams_max: 1, ..Settings::default() }, |_| std::future::pending());
    let mut raw = Raw::connect(&front).await;
    raw.send(&[get(1), get(3)].concat()).await;
    let refused = Stream(&[PROTOCOL_ERROR, REFUSED_STREAM]);
    holds(&mut raw, &refused).await.expect("it is refused");
    drop(raw);
    front.ended().await;
}
