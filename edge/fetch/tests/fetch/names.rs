//! Which addresses are reached: literals, names, names that change, and the node itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eyot_fetch::Resolver;
use eyot_plan::fault::Code;
use eyot_plan::way::Way;

use crate::harness::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn a_private_address_is_denied_in_every_spelling_unless_granted() {
    let server = http(echo).await;
    let port = server.address.port();
    let (fetch, stranger) = (fetch(), way_of("b", &["10.9.0.0/16"]));
    for host in [
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "224.0.0.1",
        "255.255.255.255",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "sub.localhost",
    ] {
        let result = outcome(&fetch, &stranger, get(format!("http://{host}:{port}/"))).await;
        assert_eq!(result, Err(Code::EgressDenied), "{host}");
    }
    for host in ["2130706433", "0x7f.1", "127.1", "017700000001", "127.0.0.1."] {
        let result = outcome(&fetch, &stranger, get(format!("http://{host}:{port}/"))).await;
        assert!(matches!(result, Err(Code::EgressDenied | Code::UpstreamUnreachable)), "{host}: {result:?}");
    }
    assert_eq!(server.connections(), 0);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        assert_eq!(outcome(&fetch, &way(), get(format!("http://{host}:{port}/"))).await, ok(""), "{host}");
    }
}

#[tokio::test]
async fn the_nodes_own_addresses_are_denied_whatever_is_granted() {
    let server = http(echo).await;
    let port = server.address.port();
    for own in
        [format!("127.0.0.1:{port}"), "127.0.0.1:0".to_owned(), format!("0.0.0.0:{port}"), format!("[::]:{port}")]
    {
        let fetch = fetch_with(|options| options.own = vec![own.parse().expect("an address")]);
        assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, Err(Code::EgressDenied), "{own}");
    }
    assert_eq!(server.connections(), 0);
    let fetch = fetch_with(|options| options.own = vec!["127.0.0.1:1".parse().expect("an address")]);
    assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, ok(""));
}

#[tokio::test]
async fn an_address_that_becomes_the_nodes_own_is_denied_from_the_next_connection_on() {
    // It closes each connection, so that each request connects anew.
    let server = raw_on("127.0.0.1", |mut stream, _| async move {
        read_head(&mut stream).await.expect("a head");
        let said = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nup";
        tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.expect("written");
    })
    .await;
    let fetch = fetch_with(|_| {});
    let url = format!("http://{}/", server.address);
    for (own, expect) in [(vec![], ok("up")), (vec![server.address], Err(Code::EgressDenied)), (vec![], ok("up"))] {
        fetch.set_own(own);
        assert_eq!(outcome(&fetch, &way(), get(&url)).await, expect);
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_addresses_it_has_each_time_it_is_connected() {
    // It closes each connection, so that each request connects anew.
    let server = raw_on("127.0.0.2", |mut stream, _| async move {
        read_head(&mut stream).await.expect("a head");
        let said = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nup";
        tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.expect("written");
    })
    .await;
    let dns = dns(|name, times| match name {
        "inside.test" => Some(vec![ip("127.0.0.1"), ip("::1"), ip("10.0.0.1"), ip("169.254.169.254")]),
        "mixed.test" => Some(vec![ip("10.0.0.1"), ip("127.0.0.2"), ip("::1")]),
        "mapped.test" => Some(vec![ip("::ffff:127.0.0.1"), ip("64:ff9b::a00:1")]),
        "turns.test" if times == 0 => Some(vec![ip("127.0.0.2")]),
        "turns.test" => Some(vec![ip("127.0.0.1")]),
        "empty.test" => Some(vec![]),
        _ => None,
    })
    .await;
    let fetch = fetch_with(|options| options.resolver = Resolver::Servers(vec![dns]));
    let way = way_of("a", &["127.0.0.2/32"]);
    let port = server.address.port();
    for (host, expect) in [
        ("inside.test", Err(Code::EgressDenied)),
        ("mixed.test", ok("up")),
        ("mapped.test", Err(Code::EgressDenied)),
        ("turns.test", ok("up")),
        ("turns.test", Err(Code::EgressDenied)),
        ("empty.test", Err(Code::UpstreamUnreachable)),
        ("nowhere.test", Err(Code::UpstreamUnreachable)),
        ("a..b", Err(Code::UpstreamUnreachable)),
    ] {
        assert_eq!(outcome(&fetch, &way, get(format!("http://{host}:{port}/"))).await, expect, "{host}");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_keep_the_next_from_being_tried() {
    let server = http(echo).await;
    let dns = dns(|_, _| Some(vec![ip("127.0.0.3"), ip("127.0.0.4"), ip("127.0.0.1"), ip("::1")])).await;
    let fetch = fetch_with(|options| options.resolver = Resolver::Servers(vec![dns]));
    let uri = format!("http://many.test:{}/", server.address.port());
    assert_eq!(outcome(&fetch, &way(), get(uri)).await, ok(""));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    for scheme in ["http", "https"] {
        let result = outcome(&fetch(), &way(), get(format!("{scheme}://{address}/"))).await;
        assert_eq!(result, Err(Code::UpstreamUnreachable));
    }
}

#[tokio::test]
async fn a_resolver_that_says_nothing_ends_within_the_time_to_connect() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("bound");
    let fetch = fetch_with(|options| options.resolver = Resolver::Servers(vec![address]));
    let mut way = way();
    way.timeouts.connect_ms = 100;
    assert_eq!(outcome(&fetch, &way, get("http://slow.test/")).await, Err(Code::UpstreamTimeout));
}

#[tokio::test]
async fn a_kept_connection_to_an_address_that_its_name_no_longer_has_carries_nothing_new() {
    // Two servers on one port, and a name that moves from one to the other.
    let moved = Arc::new(AtomicBool::new(false));
    let old = says("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold").await;
    let port = old.address.port();
    let listener = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.expect("the same port");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while read_head(&mut stream).await.is_some() {
                let said = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew";
                tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.expect("written");
            }
        }
    });
    let told = Arc::clone(&moved);
    let server = dns(move |_, _| {
        let last = if told.load(Ordering::SeqCst) { 2 } else { 1 };
        Some(vec![IpAddr::from([127, 0, 0, last])])
    })
    .await;
    for (addresses_ms, expect) in [(0, "new"), (3_600_000, "old")] {
        moved.store(false, Ordering::SeqCst);
        let fetch = fetch_with(|options| {
            options.resolver = Resolver::Servers(vec![server]);
            options.addresses_ms = addresses_ms;
        });
        let way = way();
        let ask = || outcome(&fetch, &way, get(format!("http://moves.test:{port}/")));
        assert_eq!(ask().await, ok("old"));
        until(|| fetch.idle() == 1).await;
        assert_eq!(ask().await, ok("old"));
        until(|| fetch.idle() == 1).await;
        moved.store(true, Ordering::SeqCst);
        assert_eq!(ask().await, ok(expect), "{addresses_ms}");
    }
}

#[tokio::test]
async fn a_way_that_says_an_address_leads_there_whatever_the_name_if_that_may_be_reached() {
    let (server, other) = (http(echo).await, http(echo).await);
    let fetch = fetch();
    let to = |way: Way, at| Way { at: Some(at), ..way };
    for uri in ["http://nobody.invalid/", "http://localhost:1/", "http://192.0.2.1/"] {
        assert_eq!(outcome(&fetch, &to(way(), server.address), get(uri)).await, ok(""), "{uri}");
        let denied = outcome(&fetch, &to(way_of("b", &["10.9.0.0/16"]), server.address), get(uri)).await;
        assert_eq!(denied, Err(Code::EgressDenied), "{uri}");
    }
    // A connection to one address carries nothing for another.
    let before = server.connections();
    assert_eq!(outcome(&fetch, &to(way(), other.address), get("http://nobody.invalid/")).await, ok(""));
    assert_eq!((server.connections(), other.connections()), (before, 1));
}
