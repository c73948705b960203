use super::*;

/// `H1 GET /path` then field lines, as a listener would hand them over. A tunnel of TLS is around all of them.
fn head(text: &str) -> (Parts, Way) {
    let mut lines = text.split('|').map(str::trim);
    let mut first = lines.next().unwrap_or_default().split(' ');
    let protocol = match first.next() {
        Some("1.1" | "1.0") => Protocol::H1,
        Some("2") => Protocol::H2,
        _ => Protocol::H3,
    };
    let version = if text.starts_with("1.0") { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut request = http::Request::builder().version(version);
    request = request.method(first.next().expect("a method")).uri(first.next().expect("a target"));
    for line in lines {
        let (name, value) = line.split_once('=').expect("name=value");
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).expect("a head of this test").into_parts();
    (parts, Way { protocol, secure: true, header_bytes_max: 65_536 })
}

fn read(text: &str) -> Result<String, Code> {
    let (mut parts, way) = head(text);
    // As no client can: here it stands for the pseudo-header field.
    let extended = parts.headers.remove("x-protocol");
    let extended = extended.as_ref().map(|value| value.to_str().expect("ASCII in these tests"));
    let (parts, connect) = normalise(parts, extended, &way).map_err(|fault| fault.code)?;
    let mut out = vec![format!("{} {}", parts.method, parts.uri)];
    out.extend(connect.map(|Connect::WebSocket| "tunnel".to_owned()));
    for (name, value) in &parts.headers {
        out.push(format!("{name}={}", value.to_str().expect("ASCII in these tests")));
    }
    Ok(out.join("|"))
}

#[test]
fn a_good_request_comes_out_in_its_one_form() {
    for (given, expect) in [
        ("1.1 GET /a?b=c|host=Shop.Example", "GET https://shop.example/a?b=c"),
        ("1.1 GET /|host=shop.example:443", "GET https://shop.example/"),
        ("1.1 GET //a|host=shop.example", "GET https://shop.example//a"),
        ("1.1 GET /a/../b|host=shop.example", "GET https://shop.example/b"),
        ("1.1 GET https://shop.example|host=shop.example", "GET https://shop.example/"),
        ("1.1 GET https://SHOP.example:443/|host=shop.example.", "GET https://shop.example/"),
        ("1.0 GET https://shop.example/", "GET https://shop.example/"),
        ("1.0 GET /|host=shop.example", "GET https://shop.example/"),
        ("2 GET https://shop.example:8443/", "GET https://shop.example:8443/"),
        ("2 GET https://shop.example/|host=SHOP.example", "GET https://shop.example/"),
        ("3 GET /|host=shop.example", "GET https://shop.example/"),
        ("3 GET https://[0::1]:8443/", "GET https://[::1]:8443/"),
        ("1.1 POST /|host=a.b|content-length=5", "POST https://a.b/|content-length=5"),
        ("1.1 POST /|host=a.b|transfer-encoding=chunked", "POST https://a.b/"),
        ("1.1 GET /|host=a.b|connection=keep-alive, x-hop|keep-alive=5|x-hop=1|x-end=2", "GET https://a.b/|x-end=2"),
        ("1.1 GET /|host=a.b|connection=close|connection=x-hop,,|x-hop=1", "GET https://a.b/"),
        ("1.1 GET /|host=a.b|connection=TE|te=gzip, Trailers", "GET https://a.b/|te=trailers"),
        ("1.1 GET /|host=a.b|connection=CDN-Loop|cdn-loop=x", "GET https://a.b/|cdn-loop=x"),
        ("1.1 GET /|host=a.b|te=gzip", "GET https://a.b/"),
        ("1.1 GET /|host=a.b|upgrade=h2c|http2-settings=AAA|connection=upgrade, http2-settings", "GET https://a.b/"),
        ("1.1 PUT /|host=a.b|expect=100-Continue", "PUT https://a.b/"),
        ("2 GET https://a.b/|te=trailers", "GET https://a.b/|te=trailers"),
        ("2 GET https://a.b/|cookie=a=1|cookie=b=2", "GET https://a.b/|cookie=a=1; b=2"),
        ("3 BREW https://a.b/", "BREW https://a.b/"),
        ("2 OPTIONS https://a.b/x", "OPTIONS https://a.b/x"),
    ] {
        assert_eq!(read(given).as_deref(), Ok(expect), "{given}");
    }
}

#[test]
fn a_hostile_request_is_refused_with_its_code() {
    use Code::{BadRequest, MethodNotAllowed, Misdirected, NoRoute};
    for (given, expect) in [
        ("1.1 GET /", BadRequest),
        ("1.0 GET /", BadRequest),
        ("1.1 GET https://a.b/", BadRequest),
        ("1.1 GET /|host=", BadRequest),
        ("1.1 GET /|host=a.b|host=a.b", BadRequest),
        ("1.1 GET /|host=a.b, c.d", BadRequest),
        ("1.1 GET /|host=user@a.b", BadRequest),
        ("1.1 GET /|host=a.b/x", BadRequest),
        ("1.1 GET https://a.b/|host=c.d", BadRequest),
        ("1.1 GET https://a.b:8443/|host=a.b", BadRequest),
        ("1.1 GET https://u:p@a.b/|host=a.b", BadRequest),
        ("1.1 GET http://a.b/|host=a.b", Misdirected),
        ("1.1 GET ftp://a.b/|host=a.b", BadRequest),
        ("1.1 GET *|host=a.b", BadRequest),
        ("1.1 OPTIONS *|host=a.b", NoRoute),
        ("1.1 CONNECT a.b:443|host=a.b:443", MethodNotAllowed),
        ("2 TRACE https://a.b/", MethodNotAllowed),
        ("1.1 GET /%zz|host=a.b", BadRequest),
        ("1.1 GET /a\\b|host=a.b", BadRequest),
        ("1.1 GET /|host=a.b|content-length=+5", BadRequest),
        ("1.1 GET /|host=a.b|content-length=", BadRequest),
        ("1.1 GET /|host=a.b|content-length=5|content-length=5", BadRequest),
        ("1.1 GET /|host=a.b|content-length=5, 5", BadRequest),
        ("1.1 GET /|host=a.b|content-length=99999999999999999999", BadRequest),
        ("1.1 GET /|host=a.b|connection=content-length|content-length=5", BadRequest),
        ("1.1 GET /|host=a.b|connection=Host", BadRequest),
        ("1.1 GET /|host=a.b|connection=a b", BadRequest),
        ("1.1 GET /|host=a.b|expect=tea", BadRequest),
        ("2 GET /", BadRequest),
        ("2 GET https://a.b/|host=c.d", BadRequest),
        ("2 GET https://a.b/|connection=close", BadRequest),
        ("2 GET https://a.b/|keep-alive=1", BadRequest),
        ("2 GET https://a.b/|proxy-connection=1", BadRequest),
        ("2 GET https://a.b/|transfer-encoding=chunked", BadRequest),
        ("2 GET https://a.b/|upgrade=x", BadRequest),
        ("2 GET https://a.b/|te=gzip", BadRequest),
        ("3 GET https://a.b/|content-length=1|content-length=2", BadRequest),
        ("3 GET https://a.b/|host=a.b|host=a.b", BadRequest),
        ("3 GET http://a.b/", Misdirected),
        ("3 GET https://events.eyot.internal/", Misdirected),
        ("2 GET https://Eyot.Internal./", Misdirected),
    ] {
        assert_eq!(read(given), Err(expect), "{given}");
    }
    assert!(read("3 GET https://noteyot.internal/").is_ok());
}

#[test]
fn white_space_around_a_value_is_malformed_in_http_2_and_3() {
    for value in [&b" a"[..], b"a ", b"\ta"] {
        let (mut parts, way) = head("2 GET https://a.b/");
        parts.headers.insert("x", HeaderValue::from_bytes(value).expect("a value"));
        assert_eq!(normalise(parts, None, &way).map_err(|fault| fault.code).err(), Some(Code::BadRequest));
    }
}

#[test]
fn a_head_over_its_size_or_count_is_refused_and_says_by_how_much() {
    let (mut parts, mut way) = head("2 GET https://a.b/|x=12345");
    way.header_bytes_max = 3 + 3 + 1 + 32 + 1 + 5;
    assert!(normalise(parts.clone(), None, &way).is_ok());
    way.header_bytes_max -= 1;
    let fault = normalise(parts.clone(), None, &way).expect_err("one byte too many");
    assert_eq!(
        (fault.code, fault.limit.map(|limit| (limit.allowed, limit.used))),
        (Code::HeadersTooLarge, Some((44, 45)))
    );
    way.header_bytes_max = 1 << 20;
    for _ in 0..FIELDS_MAX {
        parts.headers.append("y", HeaderValue::from_static(""));
    }
    assert_eq!(normalise(parts, None, &way).expect_err("one field too many").code, Code::HeadersTooLarge);
}

/// An HTTP/1.1 client's WebSocket (RFC 6455, section 1.3).
const UPGRADE: &str = "host=a.b|connection=keep-alive, Upgrade|upgrade=WebSocket|sec-websocket-version=13";
const KEY: &str = "sec-websocket-key=dGhlIHNhbXBsZSBub25jZQ==";

#[test]
fn a_tunnel_comes_out_in_one_form_whichever_protocol_asked_for_it() {
    let form = |rest: &str| format!("GET https://a.b/chat|tunnel|sec-websocket-version=13{rest}");
    for (given, expect) in [
        (format!("1.1 GET /chat|{UPGRADE}|{KEY}"), form("")),
        (format!("1.1 GET /chat|{UPGRADE}|{KEY}|content-length=0|te=trailers"), form("")),
        (
            format!("1.1 GET /chat|{UPGRADE}|{KEY}|sec-websocket-protocol=chat"),
            "GET https://a.b/chat|tunnel|sec-websocket-protocol=chat|sec-websocket-version=13".into(),
        ),
        (format!("1.1 GET /chat|{}|{KEY}", UPGRADE.replace("WebSocket", "h2c, websocket")), form("")),
        ("2 CONNECT https://a.b/chat|x-protocol=websocket|sec-websocket-version=13".into(), form("")),
        (format!("3 CONNECT https://a.b/chat|x-protocol=websocket|sec-websocket-version=13|{KEY}"), form("")),
        // What asks for none is a request like any other.
        (format!("1.0 GET /chat|{UPGRADE}|{KEY}"), format!("GET https://a.b/chat|{KEY}|sec-websocket-version=13")),
        ("1.1 GET /chat|host=a.b|upgrade=websocket".into(), "GET https://a.b/chat".into()),
        ("1.1 POST /chat|host=a.b|upgrade=websocket|connection=upgrade".into(), "POST https://a.b/chat".into()),
    ] {
        assert_eq!(read(&given), Ok(expect), "{given}");
    }
}

#[test]
fn a_tunnel_that_is_asked_for_wrongly_is_refused() {
    use Code::{BadRequest, MethodNotAllowed, NotImplemented};
    for (given, expect) in [
        (format!("1.1 GET /|{UPGRADE}"), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|{KEY}|{KEY}"), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|sec-websocket-key=short"), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|sec-websocket-key=dGhlIHNhbXBsZSBub25jZQ="), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|sec-websocket-key=dGhlIHNhbXBsZSBub25jZR=="), BadRequest),
        (format!("1.1 GET /|{}|{KEY}", UPGRADE.replace("13", "8")), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|{KEY}|sec-websocket-version=13"), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|{KEY}|content-length=5"), BadRequest),
        (format!("1.1 GET /|{UPGRADE}|{KEY}|transfer-encoding=chunked"), BadRequest),
        ("2 CONNECT https://a.b/|x-protocol=websocket".into(), BadRequest),
        ("2 CONNECT https://a.b/|x-protocol=websocket|sec-websocket-version=13|content-length=1".into(), BadRequest),
        ("2 GET https://a.b/|x-protocol=websocket|sec-websocket-version=13".into(), BadRequest),
        ("2 CONNECT https://a.b/|x-protocol=connect-udp".into(), NotImplemented),
        ("3 CONNECT https://a.b/|x-protocol=WebSocket".into(), NotImplemented),
        ("2 CONNECT a.b:443".into(), MethodNotAllowed),
    ] {
        assert_eq!(read(&given), Err(expect), "{given}");
    }
}
