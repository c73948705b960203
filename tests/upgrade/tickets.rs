//! Sessions come back to the process that has taken over: its keys are those of the one before.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use super::house::{House, house};
use crate::harness::tools::python;

/// Whether openssl, over TCP, comes back with the session in `file`, or brings one home when there is none yet.
fn over_tcp(house: &House, is_first: bool) -> bool {
    let file = house.world.path("session.pem");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", house.node.port), "-servername", "shop.test"]);
    command.args(["-tls1_3", "-ign_eof", "-CAfile"]).arg(house.world.ca());
    command.arg(if is_first { "-sess_out" } else { "-sess_in" }).arg(&file);
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl");
    let ask = b"GET /fixed HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    client.stdin.take().expect("piped").write_all(ask).expect("asked");
    let mut text = String::new();
    client.stdout.take().expect("piped").read_to_string(&mut text).expect("read");
    client.wait().expect("it ends");
    assert!(text.contains("HTTP/1.1 200"), "{text}");
    text.contains("Reused, TLSv1.3")
}

#[test]
fn sessions_come_back_to_the_process_that_took_over_without_a_shared_file() {
    let house = house();
    assert!(!over_tcp(&house, true), "the first is new");
    assert!(over_tcp(&house, false), "it comes back");
    let mut quic = python("resume_http3.py");
    quic.arg(house.world.ca()).arg(format!("https://shop.test:{}/fixed", house.node.port));
    let mut quic = quic.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
    let mut said = BufReader::new(quic.stdout.take().expect("piped")).lines();
    let mut tell = quic.stdin.take().expect("piped");
    let mut comes_back = |expect: &str| {
        tell.write_all(b"\n").expect("told");
        let line = said.next().expect("a line").expect("read");
        assert_eq!(line, expect);
    };
    comes_back("200 new");
    comes_back("200 resumed");
    for _ in 0..2 {
        house.upgraded();
        assert!(over_tcp(&house, false), "over TCP");
        comes_back("200 resumed");
    }
    drop(tell);
    quic.wait().expect("it ends");
}
