#![allow(clippy::type_complexity, reason = "the rows of tables")]

use super::super::bytes_of::{REQUEST, cut, frame, headers};
use super::super::code::Scope;
use super::*;

const BOUNDS: Bounds =
    Bounds { header_bytes_max: 1000, extra_frames_max: 4, extra_bytes_max: 100, connect_protocol: true };

/// What a message gave: words for its events, and how it ended.
type Told = (Vec<String>, Result<(), Failure>);

/// How many bytes it keeps; a buffer that grows is doubled.
fn held(message: &Message) -> usize {
    match &message.frame {
        Frame::Headers { buffer, .. } => buffer.capacity(),
        _ => 0,
    }
}

/// Reads a whole message; data that follows data is joined.
fn tell(mut message: Message, parts: Vec<Bytes>) -> Told {
    let mut told: Vec<String> = Vec::new();
    let run = || {
        for mut part in parts {
            loop {
                let event = message.read(&mut part);
                assert!(held(&message) <= 2 * BOUNDS.header_bytes_max, "it keeps {} bytes", held(&message));
                let Some(event) = event? else { break };
                let word = match event {
                    Event::Data(bytes) => {
                        assert!(!bytes.is_empty());
                        let bytes = bytes.escape_ascii().to_string();
                        match told.last_mut() {
                            Some(last) if last.starts_with("data ") => {
                                last.push_str(&bytes);
                                continue;
                            }
                            _ => format!("data {bytes}"),
                        }
                    }
                    Event::Interim(response) => format!("interim {}", response.status().as_str()),
                    Event::Request(request) => format!("{} {}", request.method(), request.uri().path()),
                    Event::Response(response) => response.status().as_str().to_owned(),
                    Event::TooLarge => "too large".to_owned(),
                    Event::Trailers(trailers) => format!("trailers {}", trailers.len()),
                };
                told.push(word);
            }
            assert!(part.is_empty(), "without an event all is taken");
        }
        message.finish()
    };
    let result = run();
    (told, result)
}

fn head(more: &[(&str, &str)]) -> Vec<u8> {
    headers(&[&REQUEST[..], more].concat())
}

/// The head of an extended CONNECT.
fn connect(more: &[(&str, &str)]) -> Vec<u8> {
    headers(&[&[(":method", "CONNECT"), (":protocol", "websocket")], &REQUEST[1..], more].concat())
}

#[test]
fn an_extended_connect_is_taken_where_it_was_offered() {
    let bytes = Bytes::from([connect(&[]), frame(0, b"ab"), frame(0x21, b""), frame(0, b"cd")].concat());
    let (told, result) = tell(Message::request(BOUNDS), vec![bytes.clone()]);
    assert_eq!((told, result), (vec!["CONNECT /".to_owned(), "data abcd".to_owned()], Ok(())));
    let (told, result) = tell(Message::request(Bounds { connect_protocol: false, ..BOUNDS }), vec![bytes]);
    assert_eq!((told, result.map_err(|it| it.code)), (vec![], Err(Code::MESSAGE_ERROR)));
}

#[test]
fn requests_give_their_events() {
    let trailers = headers(&[("x", "y")]);
    let table: [(&str, Vec<u8>, &[&str]); 8] = [
        ("a head alone", head(&[]), &["POST /"]),
        ("a body", [head(&[]), frame(0, b"ab"), frame(0, b"cd")].concat(), &["POST /", "data abcd"]),
        ("empty DATA", [head(&[]), frame(0, b""), frame(0, b"cd")].concat(), &["POST /", "data cd"]),
        ("trailers", [head(&[]), frame(0, b"ab"), trailers.clone()].concat(), &["POST /", "data ab", "trailers 1"]),
        ("trailers without a body", [head(&[]), trailers.clone()].concat(), &["POST /", "trailers 1"]),
        ("a length that is kept", [head(&[("content-length", "2")]), frame(0, b"ab")].concat(), &["POST /", "data ab"]),
        (
            "unknown frames everywhere",
            [
                frame(0x21, b"x"),
                head(&[]),
                frame(0x21, b""),
                frame(0, b"a"),
                frame(0x3f, b"xyz"),
                trailers,
                frame(0x21, b"z"),
            ]
            .concat(),
            &["POST /", "data a", "trailers 1"],
        ),
        (
            "a frame of 2^40 bytes of which none came",
            [head(&[]), vec![0, 0xc0, 0, 1, 0, 0, 0, 0, 0], b"ab".to_vec()].concat(),
            &["POST /", "data ab"],
        ),
    ];
    for (what, bytes, expect) in table {
        let (told, result) = tell(Message::request(BOUNDS), vec![Bytes::from(bytes)]);
        assert_eq!(told, expect, "{what}");
        assert_eq!(result.is_err(), what.contains("2^40"), "{what}");
    }
}

#[test]
fn breaches_have_their_codes() {
    use Scope::{Connection, Stream};
    let after = |more: &[u8]| [&head(&[]), more].concat();
    let huge = |kind: u8| [&[kind][..], &[0xc0, 0, 1, 0, 0, 0, 0, 0]].concat();
    let large = |kind: [u8; 4], payload: &[u8]| [&kind[..], &[1], payload].concat();
    let tunnel = |more: &[(&str, &str)], bytes: &[u8]| [connect(more), bytes.to_vec()].concat();
    let table: [(&str, Vec<u8>, Scope, Code); 30] = [
        ("nothing", vec![], Stream, Code::REQUEST_INCOMPLETE),
        ("no head", frame(0x21, b""), Stream, Code::REQUEST_INCOMPLETE),
        ("half a frame head", vec![0x1], Connection, Code::FRAME_ERROR),
        ("half an integer", after(&[0x40]), Connection, Code::FRAME_ERROR),
        ("half a head", head(&[])[..9].to_vec(), Connection, Code::FRAME_ERROR),
        ("half a DATA", after(&frame(0, b"abc")[..4]), Connection, Code::FRAME_ERROR),
        ("half an unknown frame", after(&frame(0x21, b"abc")[..4]), Connection, Code::FRAME_ERROR),
        ("DATA first", frame(0, b"a"), Connection, Code::FRAME_UNEXPECTED),
        ("empty DATA first", frame(0, b""), Connection, Code::FRAME_UNEXPECTED),
        ("a third HEADERS", after(&[headers(&[]), headers(&[])].concat()), Connection, Code::FRAME_UNEXPECTED),
        ("DATA after trailers", after(&[headers(&[]), frame(0, b"")].concat()), Connection, Code::FRAME_UNEXPECTED),
        ("CANCEL_PUSH", frame(3, &[0]), Connection, Code::FRAME_UNEXPECTED),
        ("SETTINGS", frame(4, b""), Connection, Code::FRAME_UNEXPECTED),
        ("PUSH_PROMISE", frame(5, &[0, 0, 0]), Connection, Code::FRAME_UNEXPECTED),
        ("GOAWAY", after(&frame(7, &[0])), Connection, Code::FRAME_UNEXPECTED),
        ("MAX_PUSH_ID", frame(0xd, &[0]), Connection, Code::FRAME_UNEXPECTED),
        ("PRIORITY_UPDATE", large([0x80, 0xf, 7, 0], &[0]), Connection, Code::FRAME_UNEXPECTED),
        ("PRIORITY_UPDATE of a push", large([0x80, 0xf, 7, 1], &[0]), Connection, Code::FRAME_UNEXPECTED),
        ("trailers in a tunnel", tunnel(&[], &headers(&[("x", "y")])), Connection, Code::FRAME_UNEXPECTED),
        ("a tunnel with a length", tunnel(&[("content-length", "0")], &[]), Stream, Code::MESSAGE_ERROR),
        ("half a frame of a tunnel", tunnel(&[], &frame(0, b"abc")[..4]), Connection, Code::FRAME_ERROR),
        ("HTTP/2's PRIORITY", frame(2, b""), Connection, Code::FRAME_UNEXPECTED),
        ("HTTP/2's CONTINUATION", after(&frame(9, b"")), Connection, Code::FRAME_UNEXPECTED),
        ("an empty HEADERS", frame(1, b""), Connection, Code::QPACK_DECOMPRESSION_FAILED),
        ("a huge unknown frame", huge(0x21), Connection, Code::EXCESSIVE_LOAD),
        ("many unknown frames", frame(0x21, b"").repeat(5), Connection, Code::EXCESSIVE_LOAD),
        ("many empty DATA", after(&frame(0, b"").repeat(5)), Connection, Code::EXCESSIVE_LOAD),
        ("trailers that are too large", after(&huge(1)), Stream, Code::EXCESSIVE_LOAD),
        (
            "a body that is too long",
            [head(&[("content-length", "1")]), frame(0, b"ab")].concat(),
            Stream,
            Code::MESSAGE_ERROR,
        ),
        (
            "a body that is too short",
            [head(&[("content-length", "3")]), frame(0, b"ab")].concat(),
            Stream,
            Code::MESSAGE_ERROR,
        ),
    ];
    for (what, bytes, scope, code) in table {
        let (_, result) = tell(Message::request(BOUNDS), vec![Bytes::from(bytes)]);
        assert_eq!(result.map_err(|it| (it.scope, it.code)), Err((scope, code)), "{what}");
    }
}

#[test]
fn a_head_that_is_too_large_is_told_before_it_is_kept() {
    let fields: Vec<_> = (0..40).map(|_| ("x", "")).collect();
    let table =
        [("declared", [&[1][..], &[0xc0, 0, 1, 0, 0, 0, 0, 0], &[0; 5000]].concat()), ("decoded", head(&fields))];
    for (what, bytes) in table {
        let (told, result) = tell(Message::request(BOUNDS), vec![Bytes::from(bytes)]);
        assert_eq!((told, result), (vec!["too large".to_owned()], Ok(())), "{what}");
    }
}

#[test]
fn responses_give_their_events() {
    let status = |status: &str| headers(&[(":status", status)]);
    let long = |status: &str| headers(&[(":status", status), ("content-length", "2")]);
    let ok: Result<(), Code> = Ok(());
    let table: [(&str, &Method, Vec<u8>, &[&str], Result<(), Code>); 15] = [
        ("a body", &Method::GET, [long("200"), frame(0, b"ab")].concat(), &["200", "data ab"], ok),
        (
            "interim ones first",
            &Method::GET,
            [status("103"), status("100"), status("200")].concat(),
            &["interim 103", "interim 100", "200"],
            ok,
        ),
        ("an interim one alone", &Method::GET, status("103"), &["interim 103"], Err(Code::MESSAGE_ERROR)),
        ("101", &Method::GET, status("101"), &[], Err(Code::MESSAGE_ERROR)),
        (
            "too many interim ones",
            &Method::GET,
            status("103").repeat(5),
            &["interim 103"; 4],
            Err(Code::EXCESSIVE_LOAD),
        ),
        (
            "a tunnel, whose length says nothing",
            &Method::CONNECT,
            [long("200"), frame(0, b"abc")].concat(),
            &["200", "data abc"],
            ok,
        ),
        ("a refused tunnel", &Method::CONNECT, [long("403"), frame(0, b"ab")].concat(), &["403", "data ab"], ok),
        (
            "trailers of a tunnel",
            &Method::CONNECT,
            [status("200"), headers(&[("x", "y")])].concat(),
            &["200"],
            Err(Code::FRAME_UNEXPECTED),
        ),
        ("HEAD", &Method::HEAD, long("200"), &["200"], ok),
        (
            "HEAD with a body",
            &Method::HEAD,
            [long("200"), frame(0, b"ab")].concat(),
            &["200"],
            Err(Code::MESSAGE_ERROR),
        ),
        ("304", &Method::GET, long("304"), &["304"], ok),
        ("204 with a body", &Method::GET, [status("204"), frame(0, b"a")].concat(), &["204"], Err(Code::MESSAGE_ERROR)),
        (
            "a short body",
            &Method::GET,
            [long("200"), frame(0, b"a")].concat(),
            &["200", "data a"],
            Err(Code::MESSAGE_ERROR),
        ),
        ("a push", &Method::GET, [status("200"), frame(5, &[0, 0, 0])].concat(), &["200"], Err(Code::ID_ERROR)),
        ("nothing", &Method::GET, vec![], &[], Err(Code::MESSAGE_ERROR)),
    ];
    for (what, method, bytes, expect, end) in table {
        let (told, result) = tell(Message::response(method, BOUNDS), vec![Bytes::from(bytes)]);
        assert_eq!(told, expect, "{what}");
        assert_eq!(result.map_err(|it| it.code), end, "{what}");
    }
}

/// Frames that may or may not be in their place.
fn frames() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    let one = prop_oneof![
        Just(head(&[])),
        Just(head(&[("content-length", "3")])),
        Just(headers(&[("x", "y")])),
        Just(headers(&[(":status", "200")])),
        Just(headers(&[(":status", "103")])),
        Just(connect(&[])),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|payload| frame(0, &payload)),
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..30)).prop_map(|(kind, payload)| frame(kind, &payload)),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(one, 0..6).prop_map(|frames| frames.concat())
}

proptest::proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(bytes in frames(), cuts: Vec<usize>, kind in 0..4) {
        let message = || match kind {
            0 => Message::response(&Method::GET, BOUNDS),
            1 => Message::response(&Method::CONNECT, BOUNDS),
            _ => Message::request(BOUNDS),
        };
        let whole = tell(message(), vec![Bytes::from(bytes.clone())]);
        assert_eq!(tell(message(), cut(&bytes, &cuts)), whole);
        assert_eq!(tell(message(), cut(&bytes, &vec![0; bytes.len()])), whole);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cuts: Vec<usize>) {
        let _ = tell(Message::request(BOUNDS), cut(&bytes, &cuts));
        let _ = tell(Message::response(&Method::GET, BOUNDS), cut(&bytes, &cuts));
    }
}
