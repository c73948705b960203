//! Requests that one reader could take for another's: each is refused, or taken as exactly the requests that it is.

use std::sync::{Arc, Mutex};

use eyot_plan::arrival::Arrival;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Front, text};

/// What must happen.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// 400, or another refusal, and nothing behind it is read.
    Refused,
    /// The body breaks off: nothing behind it is read.
    Broken,
    /// One request with this body, and then the one behind it.
    Taken(&'static str),
}
use Then::{Broken, Refused, Taken};

/// `POST /` with these lines, and all that follows its head.
fn post(lines: &str, rest: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a.net\r\n{lines}\r\n\r\n{rest}").into_bytes()
}

fn chunked(chunks: &str) -> Vec<u8> {
    post("transfer-encoding: chunked", chunks)
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a.net\r\n\r\n").into_bytes()
}

/// From RFC 9112, sections 2 to 7 and 11.2, and what was found in servers since 2005: CL.TE, TE.CL, TE.TE, CL.0, lines,
/// numbers, targets. Each is told by what it tries.
fn corpus() -> Vec<(&'static str, Vec<u8>, Then)> {
    let te = |value: &str| post(&format!("transfer-encoding: {value}"), "0\r\n\r\n");
    let cl = |value: &str| post(&format!("content-length: {value}"), "hello");
    let all = [lengths(&cl), codings(&te), lines(), chunks(), targets()];
    all.into_iter().flatten().collect()
}

fn lengths(cl: &dyn Fn(&str) -> Vec<u8>) -> Vec<(&'static str, Vec<u8>, Then)> {
    vec![
        ("CL", cl("5"), Taken("hello")),
        ("CL with zeroes", cl("0005"), Taken("hello")),
        ("CL 0", post("content-length: 0", ""), Taken("")),
        ("CL twice, different", post("content-length: 5\r\ncontent-length: 6", "hello"), Refused),
        ("CL twice, equal", post("content-length: 5\r\ncontent-length: 5", "hello"), Refused),
        ("CL list", cl("5, 5"), Refused),
        ("CL list of different", cl("5,6"), Refused),
        ("CL plus", cl("+5"), Refused),
        ("CL minus", cl("-5"), Refused),
        ("CL minus 0", cl("-0"), Refused),
        ("CL hex", cl("0x5"), Refused),
        ("CL hex digits", cl("a"), Refused),
        ("CL fraction", cl("5.0"), Refused),
        ("CL exponent", cl("5e0"), Refused),
        ("CL underscore", cl("0_5"), Refused),
        ("CL space inside", cl("0 5"), Refused),
        ("CL tab inside", cl("0\t5"), Refused),
        ("CL tab around", cl("\t5\t"), Taken("hello")),
        ("CL vertical tab", cl("\x0b5"), Refused),
        ("CL NUL", cl("5\0"), Refused),
        ("CL empty", cl(""), Refused),
        ("CL quoted", cl("\"5\""), Refused),
        ("CL full-width digit", cl("\u{ff15}"), Refused),
        ("CL over 64 bits", cl("18446744073709551621"), Refused),
        ("CL over 64 bits by zeroes", cl("00000000000000000000000005"), Refused),
        ("CL; a parameter", cl("5;x"), Refused),
    ]
}

fn codings(te: &dyn Fn(&str) -> Vec<u8>) -> Vec<(&'static str, Vec<u8>, Then)> {
    let both = |first: &str, second: &str| post(&format!("{first}\r\n{second}"), "0\r\n\r\n");
    vec![
        ("TE", te("chunked"), Taken("")),
        ("TE in capitals", te("CHUNKED"), Taken("")),
        ("CL.TE", both("content-length: 5", "transfer-encoding: chunked"), Refused),
        ("TE.CL", both("transfer-encoding: chunked", "content-length: 5"), Refused),
        ("TE and CL 0", both("content-length: 0", "transfer-encoding: chunked"), Refused),
        ("TE twice", both("transfer-encoding: chunked", "transfer-encoding: chunked"), Refused),
        ("TE.TE identity behind", both("transfer-encoding: chunked", "transfer-encoding: identity"), Refused),
        ("TE.TE identity before", both("transfer-encoding: identity", "transfer-encoding: chunked"), Refused),
        ("TE.TE cow", both("transfer-encoding: chunked", "transfer-encoding: cow"), Refused),
        ("TE list", te("gzip, chunked"), Refused),
        ("TE list behind", te("chunked, identity"), Refused),
        ("TE list of two", te("chunked, chunked"), Refused),
        ("TE xchunked", te("xchunked"), Refused),
        ("TE chunkedx", te("chunkedx"), Refused),
        ("TE quoted", te("\"chunked\""), Refused),
        ("TE with a parameter", te("chunked;q=1"), Refused),
        ("TE empty", te(""), Refused),
        ("TE identity", te("identity"), Refused),
        ("TE comma", te(",chunked"), Refused),
        ("TE vertical tab", te("\x0bchunked"), Refused),
        ("TE form feed", te("chunked\x0c"), Refused),
        ("TE NUL", te("chunked\0"), Refused),
        ("TE no-break space", te("\u{a0}chunked"), Refused),
        ("TE tab before", te("\tchunked"), Taken("")),
        ("TE space before colon", post("transfer-encoding : chunked", "0\r\n\r\n"), Refused),
        ("TE tab before colon", post("transfer-encoding\t: chunked", "0\r\n\r\n"), Refused),
        ("TE folded", post("transfer-encoding:\r\n chunked", "0\r\n\r\n"), Refused),
        ("TE folded behind another", post("x: y\r\n transfer-encoding: chunked", "0\r\n\r\n"), Refused),
        ("TE bare LF before", post("x: y\ntransfer-encoding: chunked", "0\r\n\r\n"), Refused),
        ("TE bare CR before", post("x: y\rtransfer-encoding: chunked", "0\r\n\r\n"), Refused),
        (
            "TE in HTTP/1.0",
            b"POST / HTTP/1.0\r\nhost: a.net\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "TE with an underscore is another field",
            post("transfer_encoding: chunked\r\ncontent-length: 5", "hello"),
            Taken("hello"),
        ),
        (
            "TE named by Connection",
            post("connection: transfer-encoding\r\ntransfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n"),
            Taken("ok"),
        ),
        ("CL named by Connection", post("connection: content-length\r\ncontent-length: 5", "hello"), Refused),
        ("CL.0", b"GET / HTTP/1.1\r\nhost: a.net\r\ncontent-length: 5\r\n\r\nhello".to_vec(), Taken("hello")),
    ]
}

fn lines() -> Vec<(&'static str, Vec<u8>, Then)> {
    vec![
        ("bare LF", b"GET / HTTP/1.1\nhost: a.net\n\n".to_vec(), Refused),
        ("bare LF at the end", b"GET / HTTP/1.1\r\nhost: a.net\r\n\n".to_vec(), Refused),
        ("bare CR in a value", line("GET / HTTP/1.1\r\nx: a\rb"), Refused),
        ("CR CR LF", b"GET / HTTP/1.1\r\nhost: a.net\r\r\n\r\n".to_vec(), Refused),
        ("NUL in a value", line("GET / HTTP/1.1\r\nx: a\0b"), Refused),
        ("NUL in a name", line("GET / HTTP/1.1\r\nx\0: a"), Refused),
        ("folded", line("GET / HTTP/1.1\r\nx: a\r\n b"), Refused),
        ("folded first", line("GET / HTTP/1.1\r\n x: a"), Refused),
        ("space before colon", line("GET / HTTP/1.1\r\nx : a"), Refused),
        ("no colon", line("GET / HTTP/1.1\r\nx"), Refused),
        ("no name", line("GET / HTTP/1.1\r\n: a"), Refused),
        ("space in a name", line("GET / HTTP/1.1\r\nx y: a"), Refused),
        ("a byte over 127 in a name", line("GET / HTTP/1.1\r\nx\u{e9}: a"), Refused),
        ("DEL in a value", line("GET / HTTP/1.1\r\nx: a\x7f"), Refused),
        ("empty line before", line("\r\nGET / HTTP/1.1"), Taken("")),
        ("empty lines before", line("\r\n\r\nGET / HTTP/1.1"), Refused),
        ("space before the method", line(" GET / HTTP/1.1"), Refused),
        ("two spaces", line("GET  / HTTP/1.1"), Refused),
        ("tabs", line("GET\t/\tHTTP/1.1"), Refused),
        ("space behind", line("GET / HTTP/1.1 "), Refused),
        ("HTTP/0.9", b"GET /\r\n".to_vec(), Refused),
        ("HTTP/2.0", line("GET / HTTP/2.0"), Refused),
        ("HTTP/1.2", line("GET / HTTP/1.2"), Refused),
        ("HTTP/1.10", line("GET / HTTP/1.10"), Refused),
        ("HTTP/01.1", line("GET / HTTP/01.1"), Refused),
        ("http/1.1", line("GET / http/1.1"), Refused),
        ("ICE/1.1", line("GET / ICE/1.1"), Refused),
        ("a method that is no token", line("GE(T / HTTP/1.1"), Refused),
        (
            "expect twice",
            post("expect: 100-continue\r\nexpect: 100-continue\r\ncontent-length: 5", "hello"),
            Taken("hello"),
        ),
    ]
}

fn chunks() -> Vec<(&'static str, Vec<u8>, Then)> {
    vec![
        ("chunks", chunked("5\r\nhello\r\n0\r\n\r\n"), Taken("hello")),
        ("chunks of hex", chunked("A\r\n0123456789\r\n0\r\n\r\n"), Taken("0123456789")),
        ("chunks with zeroes", chunked("005\r\nhello\r\n000\r\n\r\n"), Taken("hello")),
        ("an extension", chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"), Taken("hello")),
        ("an extension with LF", chunked("5;a\nhello\r\n0\r\n\r\n"), Broken),
        ("an extension with CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), Broken),
        ("an extension of NUL", chunked("5;\0\r\nhello\r\n0\r\n\r\n"), Broken),
        ("a size that ends in LF", chunked("5\nhello\r\n0\r\n\r\n"), Broken),
        ("data that ends in LF", chunked("5\r\nhello\n0\r\n\r\n"), Broken),
        ("data that ends in other bytes", chunked("5\r\nhelloXX0\r\n\r\n"), Broken),
        ("data longer than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), Broken),
        ("the last ends in LF", chunked("0\n\r\n"), Broken),
        ("the end in LF", chunked("0\r\n\n"), Broken),
        ("size 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), Broken),
        ("size plus", chunked("+5\r\nhello\r\n0\r\n\r\n"), Broken),
        ("size minus", chunked("-5\r\nhello\r\n0\r\n\r\n"), Broken),
        ("size with a space", chunked("5 \r\nhello\r\n0\r\n\r\n"), Broken),
        ("size behind a space", chunked(" 5\r\nhello\r\n0\r\n\r\n"), Broken),
        ("size with an underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), Broken),
        ("no size", chunked("\r\nhello\r\n0\r\n\r\n"), Broken),
        ("size of 64 bits", chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), Broken),
        ("size over 64 bits", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), Broken),
        ("trailers", chunked("5\r\nhello\r\n0\r\nx: y\r\n\r\n"), Taken("hello")),
        (
            "trailers of the head",
            chunked("0\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nhost: b.net\r\n\r\n"),
            Taken(""),
        ),
        ("a folded trailer", chunked("0\r\nx: y\r\n z\r\n\r\n"), Broken),
        ("a trailer with a space before colon", chunked("0\r\nx : y\r\n\r\n"), Broken),
        ("a trailer without colon", chunked("0\r\nGET /b HTTP/1.1\r\n\r\n"), Broken),
    ]
}

fn targets() -> Vec<(&'static str, Vec<u8>, Then)> {
    vec![
        ("absolute form", line("GET https://a.net/ HTTP/1.1"), Taken("")),
        ("absolute form of another host", line("GET https://b.net/ HTTP/1.1"), Refused),
        ("absolute form of another scheme", line("GET http://a.net/ HTTP/1.1"), Refused),
        ("absolute form with a user", line("GET https://b.net@a.net/ HTTP/1.1"), Refused),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Refused),
        ("two hosts", line("GET / HTTP/1.1\r\nhost: a.net"), Refused),
        ("a list of hosts", b"GET / HTTP/1.1\r\nhost: a.net, b.net\r\n\r\n".to_vec(), Refused),
        ("a host with a path", b"GET / HTTP/1.1\r\nhost: a.net/b\r\n\r\n".to_vec(), Refused),
        ("a host with a space", b"GET / HTTP/1.1\r\nhost: a.net b.net\r\n\r\n".to_vec(), Refused),
        ("a fragment", line("GET /#x HTTP/1.1"), Refused),
        ("a target with a byte over 127", line("GET /\u{e9}\x7f HTTP/1.1"), Refused),
        ("CONNECT", b"CONNECT a.net:443 HTTP/1.1\r\nhost: a.net:443\r\n\r\n".to_vec(), Refused),
        (
            "Upgrade to h2c",
            line("GET / HTTP/1.1\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA"),
            Taken(""),
        ),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Refused),
    ]
}

/// The request behind each, and the path it asks for.
const BEHIND: &[u8] = b"GET /behind HTTP/1.1\r\nhost: a.net\r\nconnection: close\r\n\r\n";

/// Paths and bodies as the answer saw them; a body that breaks off is none.
type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

fn seeing() -> (Front, Seen) {
    let seen = Seen::default();
    let all = Arc::clone(&seen);
    let front = Front::answering(move |arrival: Arrival| {
        let all = Arc::clone(&all);
        async move {
            let path = arrival.request.uri().path().to_owned();
            let body = arrival.request.into_body().collect().await.ok();
            let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
            all.lock().expect("no panic").push((path, body));
            text("served")
        }
    });
    (front, seen)
}

#[tokio::test]
async fn every_request_of_the_corpus_is_refused_or_taken_as_what_it_is_whole_or_byte_by_byte() {
    let corpus = corpus();
    assert!(corpus.len() >= 60);
    let (front, seen) = seeing();
    for (name, request, then) in corpus {
        for at_once in [usize::MAX, 7] {
            seen.lock().expect("no panic").clear();
            let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
            for piece in [&request, BEHIND].concat().chunks(at_once.min(request.len() + BEHIND.len())) {
                // A server that has refused may have closed.
                let _ = stream.write_all(piece).await;
                let _ = stream.flush().await;
            }
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
            let said = String::from_utf8_lossy(&said);
            let codes: Vec<_> = said
                .match_indices("HTTP/1.1 ")
                .map(|(at, _)| &said[at + 9..at + 12])
                .filter(|code| *code != "100")
                .collect();
            let found = seen.lock().expect("no panic").clone();
            let found: Vec<_> = found.iter().map(|(path, body)| (path.as_str(), body.as_deref())).collect();
            match then {
                Taken(body) => {
                    assert_eq!(found, [("/", Some(body)), ("/behind", Some(""))], "{name}: {said}");
                    assert_eq!(codes, ["200", "200"], "{name}");
                }
                Broken => {
                    assert!(found.iter().all(|seen| *seen == ("/", None)), "{name}: {found:?}");
                }
                Refused => {
                    // What was refused for what it means, not for where it ends, leaves the next one to be read.
                    let rest: Vec<_> = found.iter().filter(|seen| **seen != ("/behind", Some(""))).collect();
                    assert!(rest.is_empty(), "{name}: {found:?}");
                    let refusal = codes.first().copied().unwrap_or_default();
                    assert!(["400", "405", "421"].contains(&refusal), "{name}: {codes:?}");
                }
            }
        }
    }
    front.ended().await;
}

/// A request of HTTP/2 that would be two, or another, if it was written as one of HTTP/1.1.
#[tokio::test]
async fn what_http_2_brings_cannot_become_two_requests_of_http_1_1() {
    use crate::frames::{Raw, frame};
    let literal = |name: &[u8], value: &[u8]| {
        let length = |text: &[u8]| u8::try_from(text.len()).expect("short");
        [&[0, length(name)], name, &[length(value)], value].concat()
    };
    let base = b"\x83\x87\x84\x01\x05a.net";
    let pathed = |path: &[u8]| [&b"\x83\x87\x01\x05a.net"[..], &literal(b":path", path)].concat();
    let with = |name: &[u8], value: &[u8]| [&base[..], &literal(name, value)].concat();
    let (front, seen) = seeing();
    for (name, fields) in [
        ("CR LF in a value", with(b"x", b"a\r\nx: b")),
        ("LF in a value", with(b"x", b"a\nx: b")),
        ("CR in a value", with(b"x", b"a\rb")),
        ("NUL in a value", with(b"x", b"a\0b")),
        ("CR LF in a name", with(b"x: a\r\ny", b"b")),
        ("colon in a name", with(b"x: y", b"b")),
        ("space in a name", with(b"x y", b"b")),
        ("upper case", with(b"Transfer-Encoding", b"chunked")),
        ("transfer-encoding", with(b"transfer-encoding", b"chunked")),
        ("connection", with(b"connection", b"close")),
        ("space around a value", with(b"x", b" y")),
        ("content-length over", with(b"content-length", b"9")),
        ("content-length under", with(b"content-length", b"2")),
        ("content-length with plus", with(b"content-length", b"+5")),
        ("two content-lengths", [with(b"content-length", b"5"), literal(b"content-length", b"6")].concat()),
        ("another host", with(b"host", b"b.net")),
        ("two hosts", [with(b"host", b"a.net"), literal(b"host", b"a.net")].concat()),
        ("space in :path", pathed(b"/ HTTP/1.1")),
        ("CR LF in :path", pathed(b"/ HTTP/1.1\r\nx: y")),
        ("tab in :path", pathed(b"/\tx")),
        ("no slash in :path", pathed(b"x")),
        ("absolute :path", pathed(b"https://b.net/")),
        ("space in :method", [&literal(b":method", b"GET / HTTP/1.1")[..], &base[1..]].concat()),
        ("space in :authority", [&b"\x83\x87\x84"[..], &literal(b":authority", b"a.net b")].concat()),
        ("user in :authority", [&b"\x83\x87\x84"[..], &literal(b":authority", b"x@a.net")].concat()),
        ("path in :authority", [&b"\x83\x87\x84"[..], &literal(b":authority", b"a.net/b")].concat()),
        (":scheme of two", [&b"\x83\x84\x01\x05a.net"[..], &literal(b":scheme", b"https://a.net/?")].concat()),
        (":scheme http", b"\x83\x86\x84\x01\x05a.net".to_vec()),
    ] {
        let mut raw = Raw::connect(&front).await;
        raw.send(&[frame(1, 4, 1, &fields), frame(0, 1, 1, b"hello")].concat()).await;
        let is_refused = loop {
            match raw.frame().await {
                None | Some((3 | 7, ..)) => break true,
                // `:status: 400` is indexed, any other refusal is a literal 4xx.
                Some((1, _, _, head)) => break head[0] != 0x88,
                Some(_) => {}
            }
        };
        assert!(is_refused, "{name}");
        let found = seen.lock().expect("no panic").clone();
        assert!(found.iter().all(|(_, body)| body.is_none()), "{name}: {found:?}");
    }
    front.ended().await;
}
