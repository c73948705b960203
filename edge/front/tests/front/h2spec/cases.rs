//! The table. What every connection begins with is sent before what stands here; `/held` is never answered, and a body
//! is read whole.

use super::*;

pub(super) fn framing() -> Vec<Case> {
    let big = vec![b'x'; 1 << 14];
    let too_big = vec![b'x'; (1 << 14) + 1];
    let more = field("x-dummy", "1");
    let held = head(WHOLE | END, 1, &[&GET[..2], b"\x04\x05/held", &GET[3..]].concat());
    vec![
        Case("4.1 unknown type", vec![frame(0x16, 0, 0, b"00000000")], Pong),
        Case("4.1 undefined flag", vec![ping(0x16, 0, b"00000000")], Pong),
        Case("4.1 reserved bit", vec![ping(0, 1 << 31, b"00000000")], Pong),
        Case("4.2 DATA of 2^14", vec![head(WHOLE, 1, POST), frame(DATA, END, 1, &big)], Head(1)),
        Case(
            "4.2 DATA too long",
            vec![head(WHOLE, 1, POST), frame(DATA, END, 1, &too_big)],
            Stream(&[FRAME_SIZE_ERROR]),
        ),
        Case("4.2 HEADERS too long", vec![head(WHOLE | END, 1, &too_big)], Ends(&[FRAME_SIZE_ERROR])),
        Case("4.3 invalid block", vec![head(WHOLE | END, 1, b"\xff\xff\xff\xff\xff")], Ends(&[COMPRESSION_ERROR])),
        Case(
            "4.3 PRIORITY inside",
            vec![head(END, 1, GET), rank(1, 0), frame(CONTINUATION, WHOLE, 1, &more)],
            Ends(&[PROTOCOL_ERROR]),
        ),
        Case("4.3 other HEADERS inside", vec![head(END, 1, GET), get(3)], Ends(&[PROTOCOL_ERROR])),
        Case("5.1 idle DATA", vec![data(END, 1)], Stream(&[PROTOCOL_ERROR, STREAM_CLOSED])),
        Case("5.1 idle RST_STREAM", vec![reset(1)], Ends(&[PROTOCOL_ERROR])),
        Case("5.1 idle WINDOW_UPDATE", vec![window(1, 100)], Ends(&[PROTOCOL_ERROR])),
        Case("5.1 idle CONTINUATION", vec![frame(CONTINUATION, WHOLE, 1, GET)], Ends(&[PROTOCOL_ERROR])),
        Case("5.1 half closed DATA", vec![held.clone(), data(END, 1)], Stream(&[STREAM_CLOSED])),
        Case("5.1 half closed HEADERS", vec![held.clone(), get(1)], Stream(&[STREAM_CLOSED])),
        Case(
            "5.1 half closed CONTINUATION",
            vec![held.clone(), frame(CONTINUATION, WHOLE, 1, &more)],
            Ends(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        Case(
            "5.1 closed CONTINUATION",
            vec![held.clone(), reset(1), frame(CONTINUATION, WHOLE, 1, &more)],
            Ends(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        Case("5.1.1 even stream", vec![get(2)], Ends(&[PROTOCOL_ERROR])),
        Case("5.1.1 smaller stream", vec![get(5), get(3)], Ends(&[PROTOCOL_ERROR, STREAM_CLOSED])),
        Case("5.4.1 invalid PING", vec![ping(0, 0, b"000000")], Ends(&[FRAME_SIZE_ERROR])),
        Case(
            "5.5 unknown frame inside",
            vec![head(END, 1, GET), frame(0x16, 0, 0, b""), frame(CONTINUATION, WHOLE, 1, &more)],
            Ends(&[PROTOCOL_ERROR]),
        ),
        Case("6.1 DATA on 0", vec![data(END, 0)], Ends(&[PROTOCOL_ERROR])),
        Case(
            "6.1 pad length",
            vec![head(WHOLE, 1, POST), frame(DATA, END | PADDED, 1, b"\x06Test")],
            Ends(&[PROTOCOL_ERROR]),
        ),
        Case("6.2 HEADERS on 0", vec![get(0)], Ends(&[PROTOCOL_ERROR])),
        Case("6.2 pad length", vec![head(WHOLE | END | PADDED, 1, &[&[200], GET].concat())], Stream(&[PROTOCOL_ERROR])),
        Case("6.3 PRIORITY on 0", vec![rank(0, 1)], Ends(&[PROTOCOL_ERROR])),
        Case("6.3 length", vec![held.clone(), frame(PRIORITY, 0, 1, b"\x80\0\0\x01")], Stream(&[FRAME_SIZE_ERROR])),
        Case("6.4 RST_STREAM on 0", vec![reset(0)], Ends(&[PROTOCOL_ERROR])),
        Case("6.4 length", vec![held.clone(), frame(RST_STREAM, 0, 1, b"\0\0\0")], Stream(&[FRAME_SIZE_ERROR])),
        Case("6.5 ACK with payload", vec![frame(SETTINGS, END, 0, b"\0")], Ends(&[FRAME_SIZE_ERROR])),
        Case("6.5 stream", vec![frame(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64")], Ends(&[PROTOCOL_ERROR])),
        Case("6.5 length", vec![frame(SETTINGS, 0, 0, b"\0\x03\0")], Ends(&[FRAME_SIZE_ERROR])),
        Case("6.5.2 ENABLE_PUSH", vec![setting(2, 2)], Ends(&[PROTOCOL_ERROR])),
        Case("6.5.2 INITIAL_WINDOW_SIZE", vec![setting(4, 1 << 31)], Ends(&[FLOW_CONTROL_ERROR])),
        Case("6.5.2 MAX_FRAME_SIZE below", vec![setting(5, (1 << 14) - 1)], Ends(&[PROTOCOL_ERROR])),
        Case("6.5.2 MAX_FRAME_SIZE above", vec![setting(5, 1 << 24)], Ends(&[PROTOCOL_ERROR])),
        Case("6.5.2 unknown", vec![setting(0xff, 1)], Pong),
        Case(
            "6.5.3 the last value counts",
            vec![frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\x64\0\x04\0\0\0\x01"), get(1)],
            Data(1),
        ),
        Case("6.7 PING", vec![], Pong),
        Case("6.7 ACK", vec![ping(END, 0, b"invalid ")], Pong),
        Case("6.7 stream", vec![ping(0, 1, b"00000000")], Ends(&[PROTOCOL_ERROR])),
        Case("6.8 stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], Ends(&[PROTOCOL_ERROR])),
        Case("6.9 0 on the connection", vec![window(0, 0)], Ends(&[PROTOCOL_ERROR])),
        Case("6.9 0 on a stream", vec![held.clone(), window(1, 0)], Stream(&[PROTOCOL_ERROR])),
        Case("6.9 length", vec![frame(WINDOW_UPDATE, 0, 0, b"\0\0\x01")], Ends(&[FRAME_SIZE_ERROR])),
        Case("6.9.1 a window of 1", vec![setting(4, 1), get(1)], Data(1)),
        Case("6.9.1 above the most", vec![window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)], Ends(&[FLOW_CONTROL_ERROR])),
        Case(
            "6.9.1 above the most of a stream",
            vec![held.clone(), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)],
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        Case("6.9.2 a window that grows", vec![setting(4, 0), get(1), setting(4, 1)], Data(1)),
        Case("6.9.2 a negative window", vec![setting(4, 3), get(1), setting(4, 2), window(1, 2)], Data(4)),
        Case(
            "6.10 several",
            vec![head(END, 1, GET), frame(CONTINUATION, 0, 1, &more), frame(CONTINUATION, WHOLE, 1, &more)],
            Head(1),
        ),
        Case(
            "6.10 DATA inside",
            vec![head(0, 1, POST), frame(CONTINUATION, 0, 1, &more), data(END, 1)],
            Ends(&[PROTOCOL_ERROR]),
        ),
        Case("6.10 on 0", vec![head(END, 1, GET), frame(CONTINUATION, WHOLE, 0, &more)], Ends(&[PROTOCOL_ERROR])),
        Case("6.10 behind END_HEADERS", vec![held, frame(CONTINUATION, WHOLE, 1, &more)], Ends(&[PROTOCOL_ERROR])),
        Case(
            "6.10 behind DATA",
            vec![head(WHOLE, 1, POST), data(0, 1), frame(CONTINUATION, WHOLE, 1, &more)],
            Ends(&[PROTOCOL_ERROR]),
        ),
        Case("7 unknown code of GOAWAY", vec![frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\xff")], Either),
        Case("7 unknown code of RST_STREAM", vec![get(1), frame(RST_STREAM, 0, 1, b"\0\0\0\xff")], Either),
        Case(
            "8.2 PUSH_PROMISE",
            vec![frame(PUSH_PROMISE, WHOLE, 1, &[&[0, 0, 0, 2], GET].concat())],
            Ends(&[PROTOCOL_ERROR]),
        ),
    ]
}

pub(super) fn messages() -> Vec<Case> {
    let posted = |fields: &[u8]| head(WHOLE, 1, &[POST, fields].concat());
    let malformed = |section, frames| Case(section, frames, Stream(&[PROTOCOL_ERROR]));
    vec![
        malformed("8.1 HEADERS twice", vec![posted(b""), data(0, 1), head(WHOLE, 1, &field("x", "1"))]),
        malformed("8.1.2 upper case", with(GET, &field("X-TEST", "ok"))),
        malformed("8.1.2.1 unknown pseudo", with(GET, &field(":test", "ok"))),
        malformed("8.1.2.1 of a response", with(GET, b"\x88")),
        // The library drops it: nothing of it is passed on.
        Case("8.1.2.1 in trailers", vec![posted(b""), data(0, 1), head(WHOLE | END, 1, b"\x82")], Head(1)),
        malformed("8.1.2.1 behind a field", with(&field("x", "1"), GET)),
        Case("8.1.2.2 connection", with(GET, &field("connection", "keep-alive")), Malformed),
        Case("8.1.2.2 TE", with(GET, &field("te", "trailers, deflate")), Malformed),
        malformed("8.1.2.3 empty :path", with(b"\x82\x87\x01\x05a.net", b"\x04\x00")),
        malformed("8.1.2.3 no :method", with(b"\x87\x84\x01\x05a.net", b"")),
        malformed("8.1.2.3 no :scheme", with(b"\x82\x84\x01\x05a.net", b"")),
        Case("8.1.2.3 no :path", with(b"\x82\x87\x01\x05a.net", b""), Malformed),
        malformed("8.1.2.3 :method twice", with(b"\x82", GET)),
        malformed("8.1.2.3 :scheme twice", with(b"\x87", GET)),
        malformed("8.1.2.3 :path twice", with(b"\x84", GET)),
        malformed("8.1.2.6 content-length", vec![posted(&field("content-length", "1")), data(END, 1)]),
        malformed(
            "8.1.2.6 content-length of several",
            vec![posted(&field("content-length", "1")), data(0, 1), data(END, 1)],
        ),
        malformed("8.1.2.6 content-length too large", vec![posted(&field("content-length", "9")), data(END, 1)]),
    ]
}

pub(super) fn compression() -> Vec<Case> {
    let broken = |section, more: &[u8]| Case(section, with(GET, more), Ends(&[COMPRESSION_ERROR]));
    vec![
        broken("hpack 2.3.3 index beyond the tables", b"\xc6"),
        broken("hpack 2.3.3 name beyond the tables", b"\x7f\x07\x01x"),
        broken("hpack 4.2 size update at the end", b"\x21"),
        broken("hpack 5.2 padding of more than 7 bits", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        broken("hpack 5.2 padding of zeroes", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
        broken("hpack 5.2 EOS", b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
        broken("hpack 6.1 index 0", b"\x80"),
        Case("hpack 6.3 size over the setting", with(b"\x3f\xe2\x1f", GET), Ends(&[COMPRESSION_ERROR])),
        Case("hpack 4.2 size at the beginning", with(b"\x20", GET), Head(1)),
    ]
}

/// The smoke tests of the section "generic": what is allowed works.
pub(super) fn generic() -> Vec<Case> {
    let ranked = |flags, fields: &[u8]| head(flags | RANKED, 1, &[&[0, 0, 0, 0, 255][..], fields].concat());
    let padded = [&[4][..], GET, &[0; 4]].concat();
    let literal = |how: &[u8]| with(GET, how);
    vec![
        Case("generic 2 half closed", vec![get(1), rank(1, 0), window(1, 100)], Head(1)),
        Case("generic 2 closed PRIORITY", vec![get(1), reset(1), rank(1, 0)], Pong),
        Case("generic 3.1 DATA", vec![head(WHOLE, 1, POST), data(END, 1)], Head(1)),
        Case("generic 3.1 several", vec![head(WHOLE, 1, POST), data(0, 1), data(END, 1)], Head(1)),
        Case(
            "generic 3.1 padded",
            vec![head(WHOLE, 1, POST), frame(DATA, END | PADDED, 1, b"\x04test\0\0\0\0")],
            Head(1),
        ),
        Case("generic 3.2 HEADERS", vec![get(1)], Head(1)),
        Case("generic 3.2 padded", vec![head(WHOLE | END | PADDED, 1, &padded)], Head(1)),
        Case("generic 3.2 ranked", vec![ranked(WHOLE | END, GET)], Head(1)),
        Case("generic 3.3 PRIORITY", vec![rank(1, 0), get(1)], Head(1)),
        Case("generic 3.3 of a later stream", vec![rank(7, 5), get(1)], Head(1)),
        Case("generic 3.4 RST_STREAM", vec![get(1), reset(1)], Pong),
        Case("generic 3.5 SETTINGS", vec![setting(3, 100)], Pong),
        Case("generic 3.7 PING", vec![ping(0, 0, b"00000000")], Pong),
        Case("generic 3.8 GOAWAY", vec![frame(GOAWAY, 0, 0, &[0; 8])], Either),
        Case("generic 3.9 WINDOW_UPDATE", vec![window(0, 1), get(1)], Head(1)),
        Case("generic 3.9 of a stream", vec![get(1), window(1, 1)], Head(1)),
        Case(
            "generic 3.10 CONTINUATION",
            vec![head(END, 1, &GET[..3]), frame(CONTINUATION, WHOLE, 1, &GET[3..])],
            Head(1),
        ),
        Case("generic 4 HEAD", with(b"\x02\x04HEAD\x87\x84\x01\x05a.net", b""), Head(1)),
        Case(
            "generic 4 trailers",
            vec![head(WHOLE, 1, POST), data(0, 1), head(WHOLE | END, 1, &field("x-test", "ok"))],
            Head(1),
        ),
        Case("generic 5 indexed", literal(b"\x90"), Head(1)),
        Case("generic 5 literal, indexed", literal(b"\x7a\x02ok"), Head(1)),
        Case("generic 5 literal, new name", literal(b"\x40\x01x\x01y"), Head(1)),
        Case("generic 5 never indexed", literal(b"\x10\x01x\x01y"), Head(1)),
        Case("generic 5 Huffman", literal(b"\x40\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f"), Head(1)),
        Case(
            "generic 5 dynamic",
            vec![
                head(WHOLE | END, 1, &[GET, b"\x40\x01x\x01y"].concat()),
                head(WHOLE | END, 3, &[GET, b"\xbe"].concat()),
            ],
            Head(3),
        ),
    ]
}
