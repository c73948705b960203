//! A server that asks who the node is, over TCP and QUIC: another node, with a host that is guarded.

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::process::{free_port, until};
use crate::harness::world::World;
use crate::secrets::secret;

/// A certificate that signs itself, and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["shop.test".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_server_that_asks_who_the_node_is_is_told_over_tcp_and_quic_and_asked_in_vain_without() {
    let (world, guarded) = (World::new(), free_port());
    let (chain, key) = certificate();
    let clients = world.path("clients.pem");
    std::fs::write(&clients, &chain).expect("written");
    world.grant("back", &["localhost"], &[]);
    world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={guarded}")]);
    world.identify("a");
    let back = App::new("back", &["localhost"])
        .function("who", "given", "")
        .route("localhost", "/*", "function = \"who\"")
        .written();
    world.publish(&back);
    let asks = format!(
        "[[tls.client_auth]]\nhost = \"localhost\"\nca = \"{}\"\nlisten = \"127.0.0.1:{guarded}\"\n",
        clients.display()
    );
    let _b = world.node_with("b", &asks);
    let server = format!("https://localhost:{guarded}");
    let known = "tls = { ca = \"fleet-ca.pem\", client_certificate = \"us.pem\", client_key = \"API_KEY\" }";
    let patient = "timeouts = { connect = \"60s\" }";
    let shop = App::new("shop", &["shop.test"])
        .upstream("tcp", &server, &format!("{known}\n{patient}"))
        .upstream("quic", &server, &format!("{known}\nhttp = \"3\"\n{patient}"))
        .upstream("nobody", &server, &format!("tls = {{ ca = \"fleet-ca.pem\" }}\n{patient}"))
        .route("shop.test", "/tcp", "upstream = \"tcp\"")
        .route("shop.test", "/quic", "upstream = \"quic\"")
        .route("shop.test", "/nobody", "upstream = \"nobody\"")
        .written();
    std::fs::write(shop.folder().join("us.pem"), &chain).expect("written");
    std::fs::copy(world.ca(), shop.folder().join("fleet-ca.pem")).expect("copied");
    let (is_set, said) = secret(&world, &shop, &["set", "API_KEY"], &key);
    assert!(is_set, "{said}");
    world.publish(&shop);
    let a = world.node("a");
    a.wait_for_release(&world, "shop.test", "/nobody", "shop/1");
    let asked = |path: &str| {
        let asked = Ask::get(&world, &a, Protocol::H2, "shop.test", path).method("POST").body("client");
        ask(asked).expect("an answer")
    };
    until("the other node has its release", || (asked("/tcp").status == 200).then_some(()));
    for (path, protocol) in [("/tcp", "Protocol::H2"), ("/quic", "Protocol::H3")] {
        let told = asked(path);
        assert!(told.status == 200 && told.text().contains(protocol), "{path}: {} {}", told.status, told.text());
    }
    let told = asked("/nobody");
    assert_eq!((told.status, told.code().starts_with("upstream_")), (502, true), "{}", told.text());
}
