//! Clients that break the rules: each has the error it must be given, and others do not notice.

use std::time::Duration;

use bytes::Bytes;
use eyot_h3::Limits;
use eyot_h3::core::code::Code;
use futures_util::FutureExt;
use http::Response;
use http_body_util::{BodyExt, Full};
use quinn::VarInt;

use crate::harness::{
    PATIENCE, closed, echo, frame, gather, get, head, headers, request, reset, serve, stopped, text, uni,
};

/// A frame head that declares 2^40 bytes.
fn huge(kind: u8) -> Vec<u8> {
    vec![kind, 0xc0, 0, 1, 0, 0, 0, 0, 0]
}

#[tokio::test]
async fn what_breaks_the_connection_closes_it_with_its_code() {
    let after = |more: &[u8]| [&head("POST", &[]), more].concat();
    let table: [(&str, Vec<u8>, Code); 14] = [
        ("DATA first", frame(0, b"a"), Code::FRAME_UNEXPECTED),
        ("SETTINGS", frame(4, b""), Code::FRAME_UNEXPECTED),
        ("GOAWAY in a body", after(&frame(7, &[0])), Code::FRAME_UNEXPECTED),
        ("a push", frame(5, &[0, 0, 0]), Code::FRAME_UNEXPECTED),
        ("HTTP/2", frame(2, b""), Code::FRAME_UNEXPECTED),
        ("three HEADERS", after(&[headers(&[]), headers(&[])].concat()), Code::FRAME_UNEXPECTED),
        ("half a frame", frame(1, b"abc")[..4].to_vec(), Code::FRAME_ERROR),
        ("half a body", after(&frame(0, b"abc")[..4]), Code::FRAME_ERROR),
        ("a dynamic reference", frame(1, &[0, 0, 0x80]), Code::QPACK_DECOMPRESSION_FAILED),
        ("a broken section", frame(1, &[0, 0, 0x51, 0x81, 0xff]), Code::QPACK_DECOMPRESSION_FAILED),
        ("broken trailers", after(&frame(1, &[0, 0, 0x10])), Code::QPACK_DECOMPRESSION_FAILED),
        ("a huge unknown frame", huge(0x21), Code::EXCESSIVE_LOAD),
        ("many unknown frames", frame(0x21, b"").repeat(65), Code::EXCESSIVE_LOAD),
        ("many empty DATA", after(&frame(0, b"").repeat(65)), Code::EXCESSIVE_LOAD),
    ];
    for (what, bytes, code) in table {
        let server = serve(Limits::default(), gather);
        let raw = server.raw().await;
        let _streams = request(&raw, &bytes, true).await;
        assert_eq!(Code(closed(&raw).await), code, "{what}");
        assert!(server.end().await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn what_breaks_a_unidirectional_stream_closes_the_connection_with_its_code() {
    let control = |more: &[u8]| [&[0, 4, 0][..], more].concat();
    let settings = |payload: &[u8]| [&[0][..], &frame(4, payload)].concat();
    let update = [0x80, 0xf, 7, 0, 4, 0, b'u', b'=', b'1'];
    let table: [(&str, &[Vec<u8>], Code); 18] = [
        ("no settings", &[[&[0][..], &frame(0x21, b"")].concat()], Code::MISSING_SETTINGS),
        ("settings twice", &[control(&frame(4, b""))], Code::FRAME_UNEXPECTED),
        ("a setting twice", &[settings(&[1, 0, 1, 0])], Code::SETTINGS_ERROR),
        ("HTTP/2's settings", &[settings(&[2, 0])], Code::SETTINGS_ERROR),
        ("cut settings", &[settings(&[1])], Code::FRAME_ERROR),
        ("DATA", &[control(&frame(0, b""))], Code::FRAME_UNEXPECTED),
        ("two control streams", &[control(&[]), vec![0]], Code::STREAM_CREATION_ERROR),
        ("two encoder streams", &[vec![2], vec![2]], Code::STREAM_CREATION_ERROR),
        ("a push stream", &[vec![1, 0]], Code::STREAM_CREATION_ERROR),
        ("a capacity", &[vec![2, 0x3f, 0xbd, 1]], Code::QPACK_ENCODER_STREAM_ERROR),
        ("an acknowledgement", &[vec![3, 0x80]], Code::QPACK_DECODER_STREAM_ERROR),
        ("a cancelled push", &[control(&frame(3, &[0]))], Code::ID_ERROR),
        ("a cancelled push of many", &[control(&frame(3, &[0]).repeat(300))], Code::ID_ERROR),
        ("many unknown frames", &[control(&frame(0x21, b"").repeat(300))], Code::EXCESSIVE_LOAD),
        ("many MAX_PUSH_ID", &[control(&frame(0xd, &[9]).repeat(300))], Code::EXCESSIVE_LOAD),
        ("many PRIORITY_UPDATE", &[control(&update.repeat(300))], Code::EXCESSIVE_LOAD),
        ("a huge frame", &[control(&[huge(0x21), vec![0; 70_000]].concat())], Code::EXCESSIVE_LOAD),
        ("huge settings", &[[vec![0], huge(4), vec![1, 0, 1, 0]].concat()], Code::SETTINGS_ERROR),
    ];
    for (what, streams, code) in table {
        let server = serve(Limits::default(), echo);
        let raw = server.raw().await;
        let mut open = Vec::new();
        for bytes in streams {
            open.push(uni(&raw, bytes).await);
        }
        assert_eq!(Code(closed(&raw).await), code, "{what}");
    }
}

#[tokio::test]
async fn a_critical_stream_that_ends_closes_the_connection() {
    let table: [(&str, &[u8], Option<u32>); 4] = [
        ("control, finished", &[0, 4, 0], None),
        ("control, reset", &[0, 4, 0], Some(9)),
        ("encoder, finished", &[2], None),
        ("decoder, reset", &[3], Some(9)),
    ];
    for (what, bytes, code) in table {
        let server = serve(Limits::default(), echo);
        let raw = server.raw().await;
        let mut stream = uni(&raw, bytes).await;
        // A reset may overtake the bytes before it: the server answers only after it has read them.
        let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
        recv.read_to_end(1000).await.unwrap();
        match code {
            None => stream.finish().unwrap(),
            Some(code) => stream.reset(VarInt::from_u32(code)).unwrap(),
        }
        assert_eq!(Code(closed(&raw).await), Code::CLOSED_CRITICAL_STREAM, "{what}");
    }
    let server = serve(Limits::default(), echo);
    let raw = server.raw().await;
    raw.accept_uni().await.unwrap().stop(VarInt::from_u32(0)).unwrap();
    assert_eq!(Code(closed(&raw).await), Code::CLOSED_CRITICAL_STREAM, "ours, stopped");
}

#[tokio::test]
async fn malformed_requests_are_reset_and_the_connection_lives() {
    let pseudo = |path: &str, more: &[(&str, &str)]| {
        headers(&[&[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", path)], more].concat())
    };
    let body = |length: &str, body: &[u8]| [pseudo("/", &[("content-length", length)]), frame(0, body)].concat();
    let to =
        |authority| headers(&[(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/")]);
    let table: [(&str, Vec<u8>, Code); 15] = [
        ("userinfo", to("me@localhost"), Code::MESSAGE_ERROR),
        ("a method twice", pseudo("/", &[(":method", "GET")]), Code::MESSAGE_ERROR),
        ("transfer-encoding", pseudo("/", &[("transfer-encoding", "chunked")]), Code::MESSAGE_ERROR),
        ("connection", pseudo("/", &[("connection", "close")]), Code::MESSAGE_ERROR),
        ("two lengths", pseudo("/", &[("content-length", "1"), ("content-length", "2")]), Code::MESSAGE_ERROR),
        ("a length and no body", pseudo("/", &[("content-length", "1")]), Code::MESSAGE_ERROR),
        ("a long body", body("1", b"ab"), Code::MESSAGE_ERROR),
        ("a short body", body("3", b"ab"), Code::MESSAGE_ERROR),
        ("a path twice", pseudo("/", &[(":path", "/")]), Code::MESSAGE_ERROR),
        ("a late path", pseudo("/", &[("x", "y"), (":path", "/")]), Code::MESSAGE_ERROR),
        (":status", pseudo("/", &[(":status", "200")]), Code::MESSAGE_ERROR),
        ("an asterisk", pseudo("*", &[]), Code::MESSAGE_ERROR),
        ("upper case", pseudo("/", &[("X", "y")]), Code::MESSAGE_ERROR),
        ("pseudo trailers", [head("GET", &[]), headers(&[(":path", "/")])].concat(), Code::MESSAGE_ERROR),
        ("nothing", vec![], Code::REQUEST_INCOMPLETE),
    ];
    let server = serve(Limits::default(), echo);
    let raw = server.raw().await;
    for (what, bytes, code) in table {
        let (_send, mut recv) = request(&raw, &bytes, true).await;
        assert_eq!(Code(reset(&mut recv).await), code, "{what}");
    }
    let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
    assert_eq!(recv.read_to_end(1000).await.unwrap()[0], 1, "a good request is answered");
}

#[tokio::test]
async fn a_malformed_body_stops_the_client_too() {
    let server = serve(Limits::default(), echo);
    let raw = server.raw().await;
    let bytes = [head("POST", &[("content-length", "1")]), frame(0, b"ab")].concat();
    let (send, mut recv) = request(&raw, &bytes, false).await;
    assert_eq!(stopped(&send).await.map(Code), Some(Code::MESSAGE_ERROR));
    assert_eq!(Code(reset(&mut recv).await), Code::MESSAGE_ERROR);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_without_being_read() {
    let limits = Limits {
        too_large: || Response::builder().status(431).body(Bytes::from("too large")).unwrap(),
        ..Limits::default()
    };
    let server = serve(limits, echo);
    let raw = server.raw().await;
    let bomb = frame(1, &[&[0, 0][..], &[0xfa; 10_000]].concat());
    for (what, bytes) in [("declared", huge(1)), ("decoded", bomb)] {
        let (send, mut recv) = request(&raw, &bytes, false).await;
        let answer = recv.read_to_end(1000).await.unwrap();
        // HEADERS, its length, the section's prefix, and :status by the name of entry 24.
        assert_eq!((answer[0], &answer[2..5]), (1, &[0, 0, 0x5f][..]), "{what}");
        assert!(answer.ends_with(b"too large"), "{what}");
        assert_eq!(stopped(&send).await.map(Code), Some(Code::NO_ERROR), "{what}");
    }
}

#[tokio::test]
async fn a_slow_head_ends_and_holds_up_nobody() {
    let limits = Limits { header_time_max: Duration::from_millis(100), ..Limits::default() };
    let server = serve(limits, echo);
    let raw = server.raw().await;
    let bytes = head("GET", &[]);
    let (slow, mut slow_answer) = request(&raw, &bytes[..5], false).await;
    let (_send, mut recv) = request(&raw, &bytes, true).await;
    assert_eq!(recv.read_to_end(1000).await.unwrap()[0], 1, "the other is answered");
    assert_eq!(Code(reset(&mut slow_answer).await), Code::REQUEST_INCOMPLETE);
    assert_eq!(stopped(&slow).await.map(Code), Some(Code::REQUEST_INCOMPLETE));
}

#[tokio::test]
async fn a_head_in_single_bytes_is_read() {
    let server = serve(Limits::default(), gather);
    let raw = server.raw().await;
    let (mut send, mut recv) = raw.open_bi().await.unwrap();
    for byte in [head("POST", &[]), frame(0, b"ab")].concat() {
        send.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    send.finish().unwrap();
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"ab"));
}

#[tokio::test]
async fn a_client_that_breaks_off_request_after_request_is_cut() {
    let server = serve(Limits::default(), |request, mut responder| async move {
        responder.gone().await;
        drop(request);
    });
    let raw = server.raw().await;
    let bytes = head("POST", &[]);
    let end = tokio::time::timeout(PATIENCE, async {
        while let Ok((mut send, mut recv)) = raw.open_bi().await {
            let _ = send.write_all(&bytes).await;
            let _ = send.reset(VarInt::from_u32(0x10c));
            let _ = recv.stop(VarInt::from_u32(0x10c));
        }
    });
    end.await.expect("it is cut");
    assert_eq!(Code(closed(&raw).await), Code::EXCESSIVE_LOAD);
}

#[tokio::test]
async fn a_client_that_makes_the_server_reset_again_and_again_is_cut() {
    let bad_head = headers(&[(":method", "GET")]);
    let bad_body = [head("POST", &[("content-length", "1")]), frame(0, b"ab")].concat();
    for bytes in [bad_head, bad_body] {
        let server = serve(Limits { resets_max: 5, ..Limits::default() }, gather);
        let raw = server.raw().await;
        let end = tokio::time::timeout(PATIENCE, async {
            while let Ok((mut send, mut recv)) = raw.open_bi().await {
                let _ = send.write_all(&bytes).await;
                let _ = send.finish();
                let _ = recv.read_to_end(100).await;
            }
        });
        end.await.expect("it is cut");
        assert_eq!(Code(closed(&raw).await), Code::EXCESSIVE_LOAD);
    }
}

#[tokio::test]
async fn a_client_that_opens_stream_after_stream_is_cut() {
    let server = serve(Limits::default(), echo);
    let raw = server.raw().await;
    let end = tokio::time::timeout(PATIENCE, async {
        while let Ok(mut stream) = raw.open_uni().await {
            let _ = stream.write_all(&[0x21]).await;
            let _ = stream.finish();
        }
    });
    end.await.expect("it is cut");
    assert_eq!(Code(closed(&raw).await), Code::EXCESSIVE_LOAD);
}

#[tokio::test]
async fn unknown_streams_are_stopped_and_do_no_harm() {
    let server = serve(Limits::default(), echo);
    let raw = server.raw().await;
    let unknown = uni(&raw, &[0x40, 0x21, 1, 2, 3]).await;
    assert_eq!(stopped(&unknown).await.map(Code), Some(Code::STREAM_CREATION_ERROR));
    let _control = uni(&raw, &[&[0, 4, 0][..], &huge(0x21), &[0; 1000]].concat()).await;
    let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
    assert_eq!(recv.read_to_end(1000).await.unwrap()[0], 1);
}

#[tokio::test]
async fn stopping_at_any_time_harms_nobody_else() {
    let server = serve(Limits::default(), |request, responder| async move {
        let body = request.into_body();
        let _ = responder.send(Response::new(body)).await;
    });
    let raw = server.raw().await;
    let bytes = [head("POST", &[]), frame(0, &[7; 1000])].concat();
    for cut in [0, 1, 5, bytes.len() - 500, bytes.len()] {
        for fin in [false, true] {
            for order in 0..3 {
                let (mut send, mut recv) = request(&raw, &bytes[..cut], fin && cut == bytes.len()).await;
                if order == 1 {
                    let _ = recv.read(&mut [0; 10]).now_or_never();
                }
                let _ = recv.stop(VarInt::from_u32(order));
                // Dropping it would finish it, and half a frame must not be the end of a stream.
                if order == 2 || cut < bytes.len() {
                    let _ = send.reset(VarInt::from_u32(order));
                }
            }
            let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
            assert_eq!(recv.read_to_end(1000).await.unwrap()[0], 1);
        }
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_stopped_without_blame() {
    let server = serve(Limits::default(), |_, responder| async move {
        responder.send(Response::new(Full::new(Bytes::from("enough")))).await.unwrap();
    });
    let raw = server.raw().await;
    let bytes = [head("POST", &[]), frame(0, &[7; 1000])].concat();
    let (send, mut recv) = request(&raw, &bytes, false).await;
    assert!(recv.read_to_end(1000).await.unwrap().ends_with(b"enough"));
    assert_eq!(stopped(&send).await.map(Code), Some(Code::NO_ERROR));
}

#[tokio::test]
async fn a_client_that_takes_little_is_sent_no_more_than_it_takes() {
    let limits = Limits { header_bytes_max: 1000, ..Limits::default() };
    let server = serve(limits, |_, responder| async move {
        let response = Response::builder().header("x", "y".repeat(2000)).body(Full::new(Bytes::new())).unwrap();
        assert!(matches!(responder.send(response).await, Err(eyot_h3::Error::PeerLimit)));
    });
    let raw = server.raw().await;
    // SETTINGS_MAX_FIELD_SECTION_SIZE of 100, and then a GOAWAY that the server must not mind.
    let _control = uni(&raw, &[0, 4, 3, 6, 0x40, 100, 7, 1, 0]).await;
    // One of the server's answers means that it has read what came before.
    let (_send, mut recv) = request(&raw, &headers(&[]), true).await;
    assert_eq!(Code(reset(&mut recv).await), Code::MESSAGE_ERROR);
    let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
    assert_eq!(Code(reset(&mut recv).await), Code::INTERNAL_ERROR);
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_requests() {
    let (told, mut hear) = tokio::sync::mpsc::channel(1);
    let server = serve(Limits::default(), move |request, mut responder| {
        let told = told.clone();
        async move {
            told.send("here").await.unwrap();
            responder.gone().await;
            assert!(request.into_body().collect().await.is_err());
            told.send("gone").await.unwrap();
        }
    });
    let raw = server.raw().await;
    let _streams = request(&raw, &head("POST", &[]), false).await;
    assert_eq!(hear.recv().await, Some("here"));
    raw.close(VarInt::from_u32(0x107), b"");
    assert_eq!(hear.recv().await, Some("gone"));
    assert!(matches!(server.end().await, Err(eyot_h3::Error::Closed(Code::EXCESSIVE_LOAD))));
    let server = serve(Limits::default(), echo);
    let client = server.client().await;
    assert_eq!(text(client.send(get("/")).await.unwrap()).await, "");
}
