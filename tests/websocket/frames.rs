//! What Autobahn's cases send, as bytes: frames as RFC 6455, section 5.2, has them and as it forbids them.

/// A key of a client's, so that every case is the same each time.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The lengths at which a frame's head changes its form, and around them.
const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 128, 65_535, 65_536];

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// What is sent in one tunnel, and in pieces of how many bytes.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) piece_bytes: usize,
}

/// A frame of a client with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let length = (payload.len() as u64).to_be_bytes();
    match payload.len() {
        0..=125 => bytes.push(FIN | length[7]),
        126..=65_535 => {
            bytes.push(FIN | 126);
            bytes.extend(&length[6..]);
        }
        _ => {
            bytes.push(FIN | 127);
            bytes.extend(length);
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn close(code: u16, why: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), why].concat())
}

/// All of them, the largest message of so many bytes.
pub(super) fn cases(largest_bytes: usize) -> Vec<Case> {
    let mut all = Vec::new();
    let mut case = |name: String, frames: Vec<Vec<u8>>, piece_bytes: usize| {
        all.push(Case { name, bytes: [frames.concat(), close(1000, b"")].concat(), piece_bytes });
    };
    for length in LENGTHS {
        case(format!("1.1 text of {length}"), vec![frame(FIN | TEXT, &vec![b'*'; length])], usize::MAX);
        case(format!("1.2 binary of {length}"), vec![frame(FIN | BINARY, &vec![0xfe; length])], 997);
    }
    for length in [0, 5, 125, 126] {
        case(format!("2 ping of {length}"), vec![frame(FIN | PING, &vec![0xff; length])], 1);
    }
    case("2.7 unsolicited pong".into(), vec![frame(FIN | PONG, b""), frame(FIN | PING, b"after")], usize::MAX);
    case("2.10 ten pings".into(), (0..10).map(|at| frame(FIN | PING, &[at])).collect(), usize::MAX);
    for bits in 1..8_u8 {
        case(format!("3 reserved bits {bits}"), vec![frame(FIN | (bits << 4) | TEXT, b"small")], usize::MAX);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        case(format!("4 opcode {opcode}"), vec![frame(FIN | opcode, b""), frame(FIN | TEXT, b"after")], usize::MAX);
    }
    for (name, parts) in fragments() {
        case(name.into(), parts, 1);
    }
    for (at, text) in texts().into_iter().enumerate() {
        case(format!("6.{at} text of these bytes"), vec![frame(FIN | TEXT, text)], 1);
        let (left, right) = text.split_at(text.len() / 2);
        case(format!("6.{at} in two"), vec![frame(TEXT, left), frame(FIN | CONTINUATION, right)], usize::MAX);
    }
    for code in [
        0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1015, 1016, 1100, 2000, 2999, 3000, 3999, 4999, 5000,
        65_535,
    ] {
        case(format!("7 close {code}"), vec![close(code, b"why")], usize::MAX);
    }
    case("7.3 close of one byte".into(), vec![frame(FIN | CLOSE, b"a")], usize::MAX);
    case("7.5 close with what is no text".into(), vec![close(1000, b"\xce\xba\xed\xa0\x80")], usize::MAX);
    case("7.1 data after a close".into(), vec![close(1000, b""), frame(FIN | TEXT, b"late")], usize::MAX);
    for piece_bytes in [64 << 10, 1 << 10, usize::MAX] {
        case(
            format!("9 binary of {largest_bytes}"),
            vec![frame(FIN | BINARY, &vec![0xa5; largest_bytes])],
            piece_bytes,
        );
    }
    let pieces = vec![b'*'; 65_536];
    let mut parts: Vec<_> = pieces.chunks(1_300).map(|piece| frame(CONTINUATION, piece)).collect();
    parts[0][0] = TEXT;
    parts.push(frame(FIN | CONTINUATION, b""));
    case("10 in fragments of 1300".into(), parts, usize::MAX);
    all
}

/// Fragments in and out of order, with control frames between them.
fn fragments() -> [(&'static str, Vec<Vec<u8>>); 6] {
    [
        ("5.1 ping in fragments", vec![frame(PING, b"one"), frame(FIN | CONTINUATION, b"two")]),
        ("5.3 text in two", vec![frame(TEXT, b"one"), frame(FIN | CONTINUATION, b"two")]),
        (
            "5.6 a ping between",
            vec![frame(TEXT, b"one"), frame(FIN | PING, b"there?"), frame(FIN | CONTINUATION, b"two")],
        ),
        ("5.9 nothing to continue", vec![frame(FIN | CONTINUATION, b"lost"), frame(FIN | TEXT, b"text")]),
        ("5.15 continued after its end", vec![frame(FIN | TEXT, b"whole"), frame(FIN | CONTINUATION, b"more")]),
        ("5.18 text within text", vec![frame(TEXT, b"one"), frame(FIN | TEXT, b"two")]),
    ]
}

/// Texts that are UTF-8, and that are not.
fn texts() -> [&'static [u8]; 14] {
    [
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
        "κόσμε".as_bytes(),
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xef\xbb\xbf",
        b"\xef\xbf\xbf",
        b"\x00",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\x80",
        b"\xfe\xff",
    ]
}
