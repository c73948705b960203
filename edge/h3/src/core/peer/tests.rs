#![allow(clippy::type_complexity, reason = "the rows of tables")]

use super::super::bytes_of::{cut, frame};
use super::*;

const SETTINGS: [u8; 4] = [0, 4, 0x40, 0];

/// What a stream of the peer gave.
fn read(peer: &mut Peer, parts: &[&[u8]]) -> Result<Vec<Event>, Code> {
    let mut uni = peer.open(0).map_err(|it| it.code)?;
    let mut events = Vec::new();
    for part in parts {
        let mut input = *part;
        while let Some(event) = peer.read(&mut uni, &mut input, 0).map_err(|it| it.code)? {
            events.push(event);
        }
    }
    Ok(events)
}

fn control(more: &[u8]) -> Vec<u8> {
    [&SETTINGS, more].concat()
}

#[test]
fn streams_give_their_events_or_breaches_their_codes() {
    use Role::{Client, Server};
    let settings = Event::Settings(Settings::default());
    let said = |urgency, incremental| Priority { urgency, incremental };
    // A PRIORITY_UPDATE of a request, or of a push.
    let update = |kind: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap() | 0x4000;
        [&[0x80, 0xf, 7, kind][..], &length.to_be_bytes(), payload].concat()
    };
    let long = |length: usize| [&b"\x08u=1"[..], &b" ".repeat(length - 3)].concat();
    let longest = Event::Priority { stream: 8, priority: said(Some(1), None) };
    let twice = |one: &[u8]| control(&[one, one].concat());
    let table: [(&str, Role, Vec<u8>, Result<Vec<Event>, Code>); 41] = [
        ("nothing", Server, vec![], Ok(vec![])),
        ("settings", Server, control(&[]), Ok(vec![settings])),
        ("a frame before settings", Server, [&[0][..], &frame(0x21, b"")].concat(), Err(Code::MISSING_SETTINGS)),
        ("settings twice", Server, control(&frame(4, b"")), Err(Code::FRAME_UNEXPECTED)),
        ("broken settings", Server, [&[0][..], &frame(4, &[1])].concat(), Err(Code::FRAME_ERROR)),
        ("HTTP/2's settings", Server, [&[0][..], &frame(4, &[3, 1])].concat(), Err(Code::SETTINGS_ERROR)),
        ("DATA", Server, control(&frame(0, b"")), Err(Code::FRAME_UNEXPECTED)),
        ("HEADERS", Client, control(&frame(1, b"")), Err(Code::FRAME_UNEXPECTED)),
        ("PUSH_PROMISE", Client, control(&frame(5, b"")), Err(Code::FRAME_UNEXPECTED)),
        ("HTTP/2's PING", Server, control(&frame(6, b"")), Err(Code::FRAME_UNEXPECTED)),
        ("unknown frames", Server, control(&[frame(0x21, b"abc"), frame(0x3f, b"")].concat()), Ok(vec![settings])),
        ("the end of a server", Client, control(&frame(7, &[8])), Ok(vec![settings, Event::Goaway(8)])),
        ("the end of a client", Server, control(&frame(7, &[7])), Ok(vec![settings, Event::Goaway(7)])),
        ("an end that is no request", Client, control(&frame(7, &[7])), Err(Code::ID_ERROR)),
        ("an end twice", Client, twice(&frame(7, &[8])), Ok(vec![settings, Event::Goaway(8), Event::Goaway(8)])),
        ("an end that grows", Client, control(&[frame(7, &[4]), frame(7, &[8])].concat()), Err(Code::ID_ERROR)),
        ("an empty end", Client, control(&frame(7, b"")), Err(Code::FRAME_ERROR)),
        ("a long end", Client, control(&frame(7, &[4, 4])), Err(Code::FRAME_ERROR)),
        ("a cut end", Client, control(&frame(7, &[0x40])), Err(Code::FRAME_ERROR)),
        ("MAX_PUSH_ID", Server, twice(&frame(0xd, &[9])), Ok(vec![settings])),
        (
            "MAX_PUSH_ID that shrinks",
            Server,
            control(&[frame(0xd, &[9]), frame(0xd, &[8])].concat()),
            Err(Code::ID_ERROR),
        ),
        ("MAX_PUSH_ID of a server", Client, control(&frame(0xd, &[9])), Err(Code::FRAME_UNEXPECTED)),
        (
            "a priority",
            Server,
            control(&update(0, b"\x08u=1, i")),
            Ok(vec![settings, Event::Priority { stream: 8, priority: said(Some(1), Some(true)) }]),
        ),
        (
            "an empty priority",
            Server,
            control(&update(0, &[0x40, 4])),
            Ok(vec![settings, Event::Priority { stream: 4, priority: said(None, None) }]),
        ),
        ("a broken priority", Server, control(&update(0, b"\x08u=")), Ok(vec![settings])),
        ("the longest priority", Server, control(&update(0, &long(256))), Ok(vec![settings, longest])),
        ("a priority that is too long", Server, control(&update(0, &long(257))), Ok(vec![settings])),
        ("a priority of no request", Server, control(&update(0, b"\x09u=1")), Err(Code::ID_ERROR)),
        ("a priority of nothing", Server, control(&update(0, b"")), Err(Code::FRAME_ERROR)),
        ("a priority of half an ID", Server, control(&update(0, &[0x40])), Err(Code::FRAME_ERROR)),
        ("a priority of a push", Server, control(&update(1, b"\0u=1")), Err(Code::ID_ERROR)),
        ("a priority of a server", Client, control(&update(0, b"\x08u=1")), Err(Code::FRAME_UNEXPECTED)),
        ("a push priority of a server", Client, control(&update(1, b"\x08u=1")), Err(Code::FRAME_UNEXPECTED)),
        ("CANCEL_PUSH", Server, control(&frame(3, &[0])), Err(Code::ID_ERROR)),
        ("CANCEL_PUSH of a server", Client, control(&frame(3, &[0])), Err(Code::ID_ERROR)),
        ("a push of a client", Server, vec![1], Err(Code::STREAM_CREATION_ERROR)),
        ("a push of a server", Client, vec![1, 0], Err(Code::ID_ERROR)),
        ("an unknown stream", Server, vec![0x21, 1, 2], Ok(vec![Event::Stop(Code::STREAM_CREATION_ERROR)])),
        ("a long unknown type", Server, vec![0x80, 0, 0x10, 0, 9], Ok(vec![Event::Stop(Code::STREAM_CREATION_ERROR)])),
        ("an insertion", Server, vec![2, 0xc0], Err(Code::QPACK_ENCODER_STREAM_ERROR)),
        ("an acknowledgement", Server, vec![3, 0x80], Err(Code::QPACK_DECODER_STREAM_ERROR)),
    ];
    for (what, role, bytes, expect) in table {
        assert_eq!(read(&mut Peer::new(role), &[&bytes]), expect, "{what}");
    }
}

#[test]
fn critical_streams_are_opened_once_and_not_closed() {
    for kind in [CONTROL, ENCODER, DECODER] {
        let kind = u8::try_from(kind).unwrap();
        let mut peer = Peer::new(Role::Server);
        let mut uni = peer.open(0).unwrap();
        assert!(peer.closed(&uni).is_ok(), "one without a type may end");
        assert_eq!(peer.read(&mut uni, &mut &[kind][..], 0), Ok(None));
        assert_eq!(peer.closed(&uni).map_err(|it| it.code), Err(Code::CLOSED_CRITICAL_STREAM));
        assert_eq!(read(&mut peer, &[&[kind]]), Err(Code::STREAM_CREATION_ERROR));
    }
}

#[test]
fn what_costs_and_carries_nothing_is_bounded_by_the_number_of_requests() {
    let frames = frame(0x21, b"").repeat(300);
    assert_eq!(read(&mut Peer::new(Role::Server), &[&control(&frames)]), Err(Code::EXCESSIVE_LOAD));
    let bytes = frame(0x21, &[0; 10_000]).repeat(10);
    assert_eq!(read(&mut Peer::new(Role::Server), &[&control(&bytes)]), Err(Code::EXCESSIVE_LOAD));
    assert_eq!(read(&mut Peer::new(Role::Server), &[&[2], &[0x20; 1000]]), Err(Code::EXCESSIVE_LOAD));
    let mut peer = Peer::new(Role::Server);
    let mut uni = peer.open(0).unwrap();
    let bytes = control(&[frames, bytes].concat());
    let mut input = &bytes[..];
    while peer.read(&mut uni, &mut input, 1000).unwrap().is_some() {}
    assert!(input.is_empty());
    let mut peer = Peer::new(Role::Server);
    let streams = std::iter::repeat_with(|| peer.open(0)).take_while(Result::is_ok).take(1000).count();
    assert_eq!(streams as u64, STREAMS_MAX);
    assert!(peer.open(1000).is_ok());
}

proptest::proptest! {
    #[test]
    fn any_bytes_in_any_chunking_give_the_same(bytes: Vec<u8>, start in 0_usize..6, cuts: Vec<usize>, server: bool) {
        let update = [&SETTINGS[..], &[0x80, 0xf, 7, 0]].concat();
        let starts: [&[u8]; 6] = [&[], &SETTINGS, &[0], &[2], &[3], &update];
        let bytes = [starts[start], &bytes].concat();
        let role = if server { Role::Server } else { Role::Client };
        let whole = read(&mut Peer::new(role), &[&bytes]);
        let parts = cut(&bytes, &cuts);
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        assert_eq!(read(&mut Peer::new(role), &parts), whole);
    }
}
