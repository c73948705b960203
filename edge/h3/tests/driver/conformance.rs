//! The cases of h3spec (its part HTTP/3) as bytes of our own, and others of what FACTS of the field say goes wrong.

use eyot_h3::Limits;
use eyot_h3::core::code::Code;
use http::Response;
use http_body_util::Full;

use crate::harness::{closed, echo, frame, head, headers, request, reset, serve, uni};

/// Where a case puts its bytes, and how it is then told.
enum Case {
    /// On a request stream, which is reset.
    Reset(&'static [u8]),
    /// On a request stream; the connection is closed.
    Request(&'static [u8]),
    /// On a unidirectional stream; the connection is closed.
    Uni(&'static [u8]),
    /// The same, once the stream has ended.
    Ended(&'static [u8]),
}

#[tokio::test]
async fn each_case_of_h3spec_has_its_code() {
    use Case::{Ended, Request, Reset, Uni};
    let table: [(&str, Case, Code); 15] = [
        ("4.1: DATA before HEADERS", Request(b"\0\0\x01\x0f\0\0\xd1\xd7\x50\x09127.0.0.1\xc1"), Code::FRAME_UNEXPECTED),
        ("4.1.1: a pseudo-header twice", Reset(b"\x01\x11\0\0\xd1\xd7\x50\x09127.0.0.1\xc1\xd1"), Code::MESSAGE_ERROR),
        ("4.1.3: mandatory ones absent", Reset(b"\x01\x05\0\0\xd1\xd7\xc1"), Code::MESSAGE_ERROR),
        (
            "4.1.3: prohibited ones",
            Reset(b"\x01\x19\0\0\xd1\xd7\x50\x09127.0.0.1\xc1\x24:foo\x03bar"),
            Code::MESSAGE_ERROR,
        ),
        ("4.1.3: after fields", Reset(b"\x01\x18\0\0\xd1\xd7\x50\x09127.0.0.1\x23foo\x03bar\xc1"), Code::MESSAGE_ERROR),
        ("6.2.1: no SETTINGS first", Uni(b"\0\x0d\x01\x01\x04\0"), Code::MISSING_SETTINGS),
        ("7.2.1: DATA on the control stream", Uni(b"\0\x04\0\0\0"), Code::FRAME_UNEXPECTED),
        ("7.2.2: HEADERS on the control stream", Uni(b"\0\x04\0\x01\0"), Code::FRAME_UNEXPECTED),
        ("7.2.4: a second SETTINGS", Uni(b"\0\x04\0\x04\0"), Code::FRAME_UNEXPECTED),
        (
            "7.2.4.1: settings of HTTP/2",
            Uni(b"\0\x04\x0e\x07\x40\x64\x02\x40\xc8\x01\x50\0\x06\x80\0\x80\0"),
            Code::SETTINGS_ERROR,
        ),
        ("7.2.5: CANCEL_PUSH on a request stream", Request(b"\x03\0"), Code::FRAME_UNEXPECTED),
        (
            "QPACK 3.1: entry 99",
            Request(b"\x01\x12\0\0\xd1\xd7\x50\x09127.0.0.1\xc1\xff\x24"),
            Code::QPACK_DECOMPRESSION_FAILED,
        ),
        ("QPACK 4.1.3: a large capacity", Uni(b"\x02\x3f\xe1\xc7\xaf\xa0\x25"), Code::QPACK_ENCODER_STREAM_ERROR),
        ("QPACK 4.2: the control stream ends", Ended(b"\0\x04\0"), Code::CLOSED_CRITICAL_STREAM),
        ("QPACK 4.4.3: an increment of 0", Uni(b"\x03\0"), Code::QPACK_DECODER_STREAM_ERROR),
    ];
    for (what, case, code) in table {
        let server = serve(Limits::default(), echo);
        let raw = server.raw().await;
        let told = match case {
            Reset(bytes) => reset(&mut request(&raw, bytes, true).await.1).await,
            Request(bytes) => {
                let _streams = request(&raw, bytes, true).await;
                closed(&raw).await
            }
            Uni(bytes) => {
                let _stream = uni(&raw, bytes).await;
                closed(&raw).await
            }
            Ended(bytes) => {
                uni(&raw, bytes).await.finish().unwrap();
                closed(&raw).await
            }
        };
        assert_eq!(Code(told), code, "{what}");
    }
}

#[tokio::test]
async fn the_crumbs_of_a_cookie_are_one_field_for_who_answers() {
    let server = serve(Limits::default(), |request, responder| async move {
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().map(|it| it.as_bytes().to_vec()).collect();
        let _ = responder.send(Response::new(Full::new(bytes::Bytes::from(cookies.join(&b'|'))))).await;
    });
    let raw = server.raw().await;
    let crumbs = [("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")];
    let (_send, mut recv) = request(&raw, &head("GET", &crumbs), true).await;
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"a=b; c=d; e=f"));
}

#[tokio::test]
async fn what_a_peer_may_send_and_nobody_needs_is_passed_over() {
    let server = serve(Limits::default(), echo);
    let raw = server.raw().await;
    // Reserved settings, frames and streams (RFC 9114, section 7.2.8, 7.2.4.1 and 6.2.3), MAX_PUSH_ID, and a GOAWAY.
    let control = [&[0, 4, 3, 0x40, 0x21, 1][..], &frame(0x21, b"abc"), &frame(0xd, &[9]), &frame(7, &[0])].concat();
    let _control = uni(&raw, &control).await;
    let (_encoder, _decoder) = (uni(&raw, &[2, 0x20]).await, uni(&raw, &[3, 0x48]).await);
    let _reserved = uni(&raw, &[0x40, 0x40, 1, 2, 3]).await;
    let bytes = [frame(0x3f, b"x"), head("POST", &[]), frame(0x21, b""), frame(0, b"ab"), headers(&[("x", "y")])];
    for _ in 0..3 {
        let (_send, mut recv) = request(&raw, &bytes.concat(), true).await;
        let answer = recv.read_to_end(1000).await.unwrap();
        assert!(answer.windows(4).any(|part| part == [0, 2, b'a', b'b']), "{answer:x?}");
    }
}
