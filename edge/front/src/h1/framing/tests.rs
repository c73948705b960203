use super::*;

const LIMITS: Limits = Limits { head_bytes_max: 200, fields_max: 4 };

/// Feeds a stream in pieces of this size; the sizes of the messages that passed, and how it ended.
fn feed(stream: &[u8], piece: usize) -> Result<Vec<usize>, Code> {
    let mut framing = Framing::new(LIMITS);
    let (mut messages, mut passed, mut there) = (Vec::new(), 0, 0);
    loop {
        match framing.step(&stream[passed..there]).map_err(|fault| fault.code)? {
            Step::More if there == stream.len() => return Ok(messages),
            Step::More => there = (there + piece).min(stream.len()),
            Step::Head(bytes) => {
                passed += bytes;
                messages.push(bytes);
            }
            Step::Body(bytes) => {
                passed += bytes;
                if let Some(last) = messages.last_mut() {
                    *last += bytes;
                }
            }
        }
    }
}

fn check(stream: &str, expect: &Result<Vec<usize>, Code>) {
    for piece in [1, 3, stream.len().max(1)] {
        assert_eq!(feed(stream.as_bytes(), piece), *expect, "{} in pieces of {piece}", stream.escape_debug());
    }
}

#[test]
fn messages_end_where_their_heads_say() {
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n";
    check("", &Ok(vec![]));
    check(get, &Ok(vec![get.len()]));
    check(&format!("\r\n{get}"), &Ok(vec![get.len() + 2]));
    check(&format!("{get}{sized}{get}"), &Ok(vec![get.len(), sized.len(), get.len()]));
    check(&format!("{sized}{chunked}{get}"), &Ok(vec![sized.len(), chunked.len(), get.len()]));
    check("GET / HTTP/1.0\r\n\r\n", &Ok(vec![18]));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (line, fields) in [
        ("POST / HTTP/1.1", "content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding: chunked\r\ncontent-length: 5\r\n"),
        ("POST / HTTP/1.1", "content-length: 5\r\ncontent-length: 5\r\n"),
        ("POST / HTTP/1.1", "content-length: 5\r\ncontent-length: 6\r\n"),
        ("POST / HTTP/1.1", "content-length: 5, 5\r\n"),
        ("POST / HTTP/1.1", "content-length: +5\r\n"),
        ("POST / HTTP/1.1", "content-length: 0x5\r\n"),
        ("POST / HTTP/1.1", "content-length:\r\n"),
        ("POST / HTTP/1.1", "content-length: 1000000000000000000\r\n"),
        ("POST / HTTP/1.1", "content-length : 5\r\n"),
        ("POST / HTTP/1.1", " content-length: 5\r\n"),
        ("POST / HTTP/1.1", "x: y\r\n content-length: 5\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding : chunked\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding: chunked, chunked\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding: gzip, chunked\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding: identity\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding: xchunked\r\n"),
        ("POST / HTTP/1.1", "transfer-encoding:\x0bchunked\r\n"),
        ("POST / HTTP/1.0", "transfer-encoding: chunked\r\n"),
        ("POST / HTTP/1.1", "x: a\ny: b\r\n"),
        ("POST / HTTP/1.1", "x: a\rb\r\n"),
        ("POST / HTTP/1.1", "x: a\0b\r\n"),
        ("POST / HTTP/1.1", "x\r\n"),
        ("POST / HTTP/1.1", ": y\r\n"),
        ("GET  / HTTP/1.1", ""),
        ("GET / HTTP/1.1 ", ""),
        (" GET / HTTP/1.1", ""),
        ("GET\t/ HTTP/1.1", ""),
        ("GET /a b HTTP/1.1", ""),
        ("GET /#a HTTP/1.1", ""),
        ("GET /\x7f HTTP/1.1", ""),
        ("GET / HTTP/1.2", ""),
        ("GET / HTTP/2.0", ""),
        ("GET / http/1.1", ""),
        ("GET /", ""),
        ("G(T / HTTP/1.1", ""),
        ("", "\r\nGET / HTTP/1.1\r\n"),
    ] {
        check(&format!("{line}\r\n{fields}\r\n"), &Err(Code::BadRequest));
    }
    check("GET / HTTP/1.1\nhost: a\n\n", &Err(Code::BadRequest));
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &Err(Code::BadRequest));
    check("\x16\x03\x01\x02\x00\x01\n", &Err(Code::BadRequest));
}

#[test]
fn a_head_over_its_size_or_count_is_refused_before_it_is_whole() {
    check(&"G".repeat(201), &Err(Code::HeadersTooLarge));
    check(&format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(200)), &Err(Code::HeadersTooLarge));
    check(&format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(5)), &Err(Code::HeadersTooLarge));
    let fits = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200 - 23));
    assert_eq!(fits.len(), 200);
    check(&fits, &Ok(vec![200]));
}
