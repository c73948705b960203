//! The one way out: what an upstream is told, and what an app may not reach.

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::upstream::Upstream;
use crate::harness::world::World;

#[test]
fn an_upstream_sees_who_passed_the_request_on_and_none_of_what_a_client_made_up() {
    let (world, upstream) = (World::new(), Upstream::start());
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    world.grant("shop", &["shop.test"], &["--private", &private]);
    let app = App::new("shop", &["shop.test"])
        .upstream("api", &upstream.url(), "")
        .route("shop.test", "/*", "upstream = \"api\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    let request = Ask::get(&world, &node, Protocol::H3, "shop.test", "/echo")
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("eyot-secret", "mine")
        .header("x-kept", "kept");
    let answer = ask(request).expect("an answer");
    assert_eq!((answer.status, answer.header("x-saw-x-kept")), (200, Some("kept")));
    assert!(
        answer.header("x-saw-forwarded").is_some_and(|value| value.contains("127.0.0.1") && !value.contains("6.6.6.6"))
    );
    assert!(!answer.header("x-saw-x-forwarded-for").is_some_and(|value| value.contains("6.6.6.6")));
    assert_eq!(answer.header("x-saw-eyot-secret"), None);
    assert!(
        answer.header("x-saw-via").is_some()
            && answer.header("x-saw-cdn-loop").is_some_and(|value| value.contains("eyot"))
    );
}

#[test]
fn what_the_grant_does_not_list_is_not_connected_to() {
    let (world, upstream) = (World::new(), Upstream::start());
    world.grant("shop", &["shop.test"], &[]);
    let port = upstream.address.port();
    let app = App::new("shop", &["shop.test"])
        .function("fetch", "fetch", "egress = [\"*\"]")
        .upstream("loopback", &upstream.url(), "")
        .upstream("name", &format!("http://localhost:{port}"), "")
        .upstream("mapped", &format!("http://[::ffff:127.0.0.1]:{port}"), "")
        .upstream("metadata", "http://169.254.169.254", "timeouts = { connect = \"1s\" }")
        .route("shop.test", "/loopback", "upstream = \"loopback\"")
        .route("shop.test", "/name", "upstream = \"name\"")
        .route("shop.test", "/mapped", "upstream = \"mapped\"")
        .route("shop.test", "/metadata", "upstream = \"metadata\"")
        .route("shop.test", "/fetch", "function = \"fetch\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/metadata", "shop/1");
    for path in ["/loopback", "/name", "/mapped", "/metadata"] {
        let answer = node.ask(&world, Protocol::H2, "shop.test", path);
        assert_eq!((answer.status, answer.code().as_str()), (502, "egress_denied"), "{path}");
    }
    for url in [upstream.url(), format!("http://localhost:{port}/"), "http://169.254.169.254/".to_owned()] {
        let answer =
            ask(Ask::get(&world, &node, Protocol::H3, "shop.test", "/fetch").header("x-url", &url)).expect("an answer");
        assert_eq!(answer.status, 502, "{url}: {}", answer.text());
    }
    assert_eq!(upstream.asked(), 0, "a denied address was asked");
}
