//! Upstreams of several servers, some of which are not there.

use super::targets::{loopback, upstream};
use super::*;

/// Ports at which nobody listens any more.
async fn dead(count: usize) -> Vec<String> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback"));
    }
    listeners.iter().map(|listener| format!("http://{}", listener.local_addr().expect("bound"))).collect()
}

#[tokio::test]
async fn a_request_is_tried_at_three_servers_of_its_upstream_and_at_no_more() {
    for (dead_first, status, tried) in [(2, 200, 2), (3, 502, 3), (5, 502, 3)] {
        let house = house();
        let mut servers = dead(dead_first).await;
        servers.push(format!("http://{}", upstream().await));
        let route = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
        house.granted(1, &json!({"routes": [route], "upstreams": {"api": {"servers": servers}}}), &loopback());
        let response = house.get("/").await;
        assert_eq!(response.status(), status, "{dead_first} dead");
        assert_eq!(text(response).await.contains("\"upstream_unreachable\""), status == 502);
        let tries = r#"eyot_upstream_requests_total{app="shop",upstream="api",result="upstream_unreachable"}"#;
        house.counts(&format!("{tries} {tried}\n"));
    }
}
