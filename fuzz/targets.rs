//! What is done with bytes that may be anything: each function panics if the core of HTTP/3 does not hold what it
//! promises. The fuzzers run them, and so do the tests, over the seeds.

use bytes::Bytes;
use eyot_h3::core::message::{Bounds, Event, Message};
use eyot_h3::core::peer::{Peer, Role};
use eyot_h3::core::priority::Priority;
use eyot_h3::core::section::{Refused, Section};
use eyot_h3::core::{encode, head, huffman, integer, varint};
use http::{Method, Request, Response};

const BOUNDS: Bounds =
    Bounds { header_bytes_max: 4096, extra_frames_max: 16, extra_bytes_max: 1024, connect_protocol: true };

/// A response, whatever was asked: the same for any chunking.
pub(crate) fn frames(input: &[u8]) {
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        let whole = read(Message::response(&method, BOUNDS), &[input]);
        assert_eq!(read(Message::response(&method, BOUNDS), &cut(input)), whole);
        assert!(whole.1.len() <= input.len());
    }
    let mut rest = input;
    while let Some(value) = varint::read(&mut rest) {
        let mut out = Vec::new();
        varint::write(value, &mut out);
        assert_eq!(varint::read(&mut &out[..]), Some(value));
    }
}

/// A request: the same for any chunking; what is good about it is so again when it is sent on.
pub(crate) fn request(input: &[u8]) {
    let whole = read(Message::request(BOUNDS), &[input]);
    assert_eq!(read(Message::request(BOUNDS), &cut(input)), whole);
    let mut message = Message::request(BOUNDS);
    let mut rest = Bytes::copy_from_slice(input);
    if let Ok(Some(Event::Request(request))) = message.read(&mut rest) {
        if let (Ok(()), Some(length)) = (&whole.2, message.length()) {
            assert_eq!(length, whole.1.len() as u64, "a body that ends well is as long as it was said to be");
        }
        good(request);
    }
}

/// A field section: bounded when decoded, and the same when it is written and read again.
pub(crate) fn qpack(input: &[u8]) {
    let [high, low, payload @ ..] = input else { return };
    let bytes_max = usize::from(u16::from_be_bytes([*high, *low]));
    match Section::decode(payload, bytes_max) {
        Ok(section) => {
            let size: usize = section.fields().map(|it| it.name.bytes().len() + it.value.bytes().len() + 32).sum();
            assert!(size <= bytes_max);
            section_is_good(&section);
        }
        Err(Refused::TooLarge | Refused::Broken(_)) => {}
    }
    strings(payload);
}

/// The peer's unidirectional streams: the same for any chunking. The first byte says which side it is; the rest are
/// streams, each after its length in a byte.
pub(crate) fn control(input: &[u8]) {
    let [side, rest @ ..] = input else { return };
    let role = if side & 1 == 0 { Role::Server } else { Role::Client };
    assert_eq!(streams(Peer::new(role), rest, |stream| vec![stream]), streams(Peer::new(role), rest, cut));
    if let Some(priority) = Priority::parse(rest) {
        assert!(priority.urgency.is_none_or(|urgency| urgency <= 7));
    }
}

/// What a message gives: its events without the body, the body, and how it ends.
type Told = (Vec<String>, Vec<u8>, Result<(), String>);

fn read(mut message: Message, parts: &[&[u8]]) -> Told {
    let (mut events, mut body) = (Vec::new(), Vec::new());
    for part in parts {
        let mut rest = Bytes::copy_from_slice(part);
        loop {
            match message.read(&mut rest) {
                Ok(None) => break,
                Ok(Some(Event::Data(bytes))) => {
                    assert!(!bytes.is_empty());
                    body.extend_from_slice(&bytes);
                }
                Ok(Some(event)) => events.push(format!("{} {event:?}", body.len())),
                Err(failure) => return (events, body, Err(format!("{failure:?}"))),
            }
        }
        assert!(rest.is_empty(), "without an event all is taken");
    }
    (events, body, message.finish().map_err(|failure| format!("{failure:?}")))
}

/// The input in parts whose sizes follow from it.
fn cut(mut input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut state =
        input.iter().fold(input.len(), |state, byte| state.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    while !input.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (part, rest) = input.split_at((1 + (state >> 33) % 9).min(input.len()));
        parts.push(part);
        input = rest;
    }
    parts
}

fn good(request: Request<()>) {
    let uri = request.uri();
    let authority = uri.authority().expect("a request has an authority");
    assert!(!authority.as_str().contains('@'));
    let protocol = request.extensions().get::<head::Protocol>().cloned();
    if *request.method() == Method::CONNECT && protocol.is_none() {
        assert!(uri.scheme().is_none() && uri.path_and_query().is_none());
        return;
    }
    assert!(uri.path().starts_with('/') || uri.path() == "*");
    let (parts, ()) = request.into_parts();
    let frame = encode::request(&parts).expect("what was read can be sent").frame.freeze();
    let Ok(Some(Event::Request(again))) = Message::request(BOUNDS).read(&mut frame.clone()) else {
        panic!("what was sent cannot be read: {parts:?}");
    };
    let mut headers = parts.headers;
    headers.remove(http::header::HOST);
    assert_eq!((again.method(), again.uri(), again.headers()), (&parts.method, &parts.uri, &headers));
    assert_eq!(again.extensions().get::<head::Protocol>(), protocol.as_ref());
}

fn section_is_good(section: &Section) {
    if let Ok((response, _)) = head::response(section) {
        let (parts, ()) = response.into_parts();
        let frame = encode::response(&parts).expect("what was read can be sent").frame.freeze();
        let bounds = Bounds { header_bytes_max: 1 << 20, ..BOUNDS };
        let again = Message::response(&Method::GET, bounds).read(&mut frame.clone());
        let Ok(Some(Event::Response(again) | Event::Interim(again))) = again else { panic!("{again:?} of {parts:?}") };
        same(&again, &parts);
    }
    let _ = head::request(section);
    if let Ok(trailers) = head::trailers(section) {
        let _ = encode::trailers(&trailers).expect("what was read can be sent");
    }
}

fn same(again: &Response<()>, parts: &http::response::Parts) {
    let mut headers = parts.headers.clone();
    headers.remove(http::header::TE);
    assert_eq!((again.status(), again.headers()), (parts.status, &headers));
}

fn strings(payload: &[u8]) {
    let mut out = bytes::BytesMut::new();
    huffman::encode(payload, &mut out);
    let mut back = bytes::BytesMut::new();
    assert_eq!(huffman::decode(&out, payload.len(), &mut back), Ok(()));
    assert_eq!(back, payload);
    let mut out = bytes::BytesMut::new();
    let decoded = huffman::decode(payload, 1000, &mut out);
    assert!(out.len() <= 1000);
    if decoded.is_ok() {
        let mut again = bytes::BytesMut::new();
        huffman::encode(&out, &mut again);
        assert_eq!(again, payload, "a string has one code");
    }
    if let [first, rest @ ..] = payload {
        let _ = integer::read(*first, 5, &mut { rest });
    }
}

fn streams<'a>(mut peer: Peer, mut input: &'a [u8], cut: impl Fn(&'a [u8]) -> Vec<&'a [u8]>) -> Vec<String> {
    let mut told = Vec::new();
    while let [length, rest @ ..] = input {
        let (stream, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        let mut uni = match peer.open(1) {
            Ok(uni) => uni,
            Err(failure) => {
                told.push(format!("{failure:?}"));
                return told;
            }
        };
        for part in cut(stream) {
            let mut left = part;
            loop {
                match peer.read(&mut uni, &mut left, 1) {
                    Ok(None) => break,
                    Ok(Some(event)) => told.push(format!("{event:?}")),
                    Err(failure) => {
                        told.push(format!("{failure:?}"));
                        return told;
                    }
                }
            }
        }
        // Streams end, but for the critical ones.
        let _ = peer.closed(&uni);
    }
    told
}
