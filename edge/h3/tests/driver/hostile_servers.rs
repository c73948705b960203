//! Servers that break the rules: the client says what was wrong, and tells them.

use eyot_h3::core::code::Code;
use eyot_h3::{Error, client};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};

use crate::harness::{Tls, client_of, closed, frame, headers, listen, next, stopped, tls, uni};

/// A client and what it is connected to.
async fn pair() -> (client::Connection, quinn::Connection, quinn::Endpoint, Tls) {
    let tls = tls();
    let endpoint = listen(&tls);
    let (client, quinn) = tokio::join!(client_of(&tls, endpoint.local_addr().unwrap()), next(&endpoint));
    (client, quinn, endpoint, tls)
}

/// Sends a request with this method; the server answers with these bytes. Gives the body or the error.
async fn answered(
    client: &client::Connection,
    quinn: &quinn::Connection,
    method: Method,
    bytes: &[u8],
) -> (Result<(u16, bytes::Bytes), Error>, quinn::SendStream) {
    let request = Request::builder().method(method).uri("https://localhost/").body(Empty::new()).unwrap();
    let ask = async {
        let response = client.send(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    let answer = async {
        let (mut send, _recv) = quinn.accept_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let _ = send.finish();
        send
    };
    tokio::join!(ask, answer)
}

/// What an answer comes to.
type Answered = Result<&'static str, Code>;

#[tokio::test]
async fn malformed_responses_are_stream_errors() {
    let ok = headers(&[(":status", "200")]);
    let long = headers(&[(":status", "200"), ("content-length", "2")]);
    let table: [(&str, Method, Vec<u8>, Answered); 9] = [
        ("good", Method::GET, [long.clone(), frame(0, b"ab")].concat(), Ok("ab")),
        (
            "interim first",
            Method::GET,
            [headers(&[(":status", "103")]), ok.clone(), frame(0, b"ab")].concat(),
            Ok("ab"),
        ),
        ("HEAD with a length", Method::HEAD, long.clone(), Ok("")),
        ("HEAD with a body", Method::HEAD, [ok, frame(0, b"ab")].concat(), Err(Code::MESSAGE_ERROR)),
        ("a short body", Method::GET, [long.clone(), frame(0, b"a")].concat(), Err(Code::MESSAGE_ERROR)),
        ("a long body", Method::GET, [long, frame(0, b"abc")].concat(), Err(Code::MESSAGE_ERROR)),
        ("101", Method::GET, headers(&[(":status", "101")]), Err(Code::MESSAGE_ERROR)),
        ("no status", Method::GET, headers(&[("x", "y")]), Err(Code::MESSAGE_ERROR)),
        ("nothing", Method::GET, vec![], Err(Code::MESSAGE_ERROR)),
    ];
    let (client, quinn, _endpoint, _tls) = pair().await;
    for (what, method, bytes, expect) in table {
        let (result, _send) = answered(&client, &quinn, method, &bytes).await;
        match (result, expect) {
            (Ok((200, body)), Ok(expect)) => assert_eq!(body, expect, "{what}"),
            (Err(Error::Peer(failure)), Err(code)) => assert_eq!(failure.code, code, "{what}"),
            (result, expect) => panic!("{what}: {result:?} and not {expect:?}"),
        }
    }
    assert!(!client.is_closed());
}

#[tokio::test]
async fn what_breaks_the_connection_closes_it_with_its_code() {
    let ok = headers(&[(":status", "200")]);
    let table: [(&str, Vec<u8>, Code); 5] = [
        ("a push", [ok.clone(), frame(5, &[0, 0, 0])].concat(), Code::ID_ERROR),
        ("DATA first", frame(0, b"a"), Code::FRAME_UNEXPECTED),
        ("half a frame", frame(0, b"a")[..2].to_vec(), Code::FRAME_ERROR),
        ("a dynamic reference", frame(1, &[2, 0, 0x80]), Code::QPACK_DECOMPRESSION_FAILED),
        ("many interim ones", headers(&[(":status", "103")]).repeat(65), Code::EXCESSIVE_LOAD),
    ];
    for (what, bytes, code) in table {
        let (client, quinn, _endpoint, _tls) = pair().await;
        let (result, _send) = answered(&client, &quinn, Method::GET, &bytes).await;
        assert!(matches!(result, Err(Error::Peer(failure)) if failure.code == code), "{what}");
        assert_eq!(Code(closed(&quinn).await), code, "{what}");
        assert!(client.is_closed(), "{what}");
    }
}

#[tokio::test]
async fn what_breaks_a_unidirectional_stream_closes_the_connection_with_its_code() {
    let table: [(&str, &[u8], Code); 4] = [
        ("a push stream", &[1, 0], Code::ID_ERROR),
        ("MAX_PUSH_ID", &[0, 4, 0, 0xd, 1, 0], Code::FRAME_UNEXPECTED),
        ("an end that is no request", &[0, 4, 0, 7, 1, 3], Code::ID_ERROR),
        ("an end that grows", &[0, 4, 0, 7, 1, 4, 7, 1, 8], Code::ID_ERROR),
    ];
    for (what, bytes, code) in table {
        let (client, quinn, _endpoint, _tls) = pair().await;
        let _stream = uni(&quinn, bytes).await;
        assert_eq!(Code(closed(&quinn).await), code, "{what}");
        assert!(matches!(client.closed().await, Error::Peer(failure) if failure.code == code), "{what}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_fails_its_request_alone() {
    let (client, quinn, _endpoint, _tls) = pair().await;
    let huge = [1, 0xc0, 0, 1, 0, 0, 0, 0, 0];
    let ask = client.send(crate::harness::get("/"));
    let answer = async {
        let (mut send, _recv) = quinn.accept_bi().await.unwrap();
        send.write_all(&huge).await.unwrap();
        send
    };
    let (result, send) = tokio::join!(ask, answer);
    assert!(matches!(result, Err(Error::TooLarge)));
    assert_eq!(stopped(&send).await.map(Code), Some(Code::EXCESSIVE_LOAD));
    let (result, _send) = answered(&client, &quinn, Method::GET, &headers(&[(":status", "200")])).await;
    assert_eq!(result.unwrap().0, 200);
}

#[tokio::test]
async fn a_rejected_request_may_be_sent_again_and_a_reset_one_may_not() {
    let (client, quinn, _endpoint, _tls) = pair().await;
    for (code, unprocessed) in [(Code::REQUEST_REJECTED, true), (Code::INTERNAL_ERROR, false)] {
        let ask = client.send(crate::harness::get("/"));
        let answer = async {
            let (mut send, mut recv) = quinn.accept_bi().await.unwrap();
            let code = quinn::VarInt::from_u64(code.0).unwrap();
            let _ = recv.stop(code);
            send.reset(code).unwrap();
        };
        let (result, ()) = tokio::join!(ask, answer);
        assert_eq!(result.unwrap_err().is_unprocessed(), unprocessed, "{code}");
    }
}
