//! Requests in TLS early data: who lets them in, and what the next hop is told (RFC 8470).

use super::targets::{loopback, route, upstream};
use super::*;

#[tokio::test]
async fn a_request_in_early_data_is_too_early_unless_its_route_takes_it_and_it_is_safe() {
    let house = house();
    let server = upstream().await;
    let at = |path: &str, early: bool| json!({"id": path, "host": "shop.test", "path": path, "target": {"upstream": "api"}, "early_data": early});
    let mut fallback = at("/soft", false);
    fallback["on_fault"] = json!("open");
    fallback["fallback"] = json!({"respond": {"status": 200}});
    let upstreams = json!({"api": {"servers": [format!("http://{server}")]}});
    let routes = json!([at("/early", true), at("/late", false), fallback]);
    house.granted(1, &json!({"routes": routes, "upstreams": upstreams}), &loopback());
    // What a hop before us says counts as what we see, however it says it.
    let said: [&[&str]; 4] = [&[], &["1"], &["1", "1"], &["no"]];
    for (path, method, early, said, status) in [
        ("/early", "GET", true, said[0], 200),
        ("/early", "HEAD", true, said[0], 200),
        ("/early", "OPTIONS", true, said[1], 200),
        ("/early", "GET", false, said[1], 200),
        ("/early", "GET", true, said[2], 200),
        ("/early", "GET", false, said[3], 200),
        ("/early", "POST", true, said[0], 425),
        ("/early", "POST", false, said[1], 425),
        ("/early", "DELETE", true, said[0], 425),
        ("/early", "POST", false, said[0], 200),
        ("/late", "GET", true, said[0], 425),
        ("/late", "GET", false, said[3], 425),
        ("/late", "GET", false, said[0], 200),
        ("/soft", "GET", true, said[0], 425),
    ] {
        let what = format!("{method} {path} early {early} said {said:?}");
        let request = Request::builder().method(method).uri(format!("https://shop.test{path}"));
        let request = said.iter().fold(request, |request, value| request.header("early-data", *value));
        let response = house.node.answer(Box::new(Arrival { early, ..arrival(request, body::empty()) })).await;
        assert_eq!(response.status(), status, "{what}");
        let told = text(response).await;
        if status == 425 {
            assert!(told.contains("\"too_early\""), "{what}: {told}");
        } else if method != "HEAD" {
            let expect = usize::from(early || !said.is_empty());
            assert_eq!(told.matches("early-data: 1\n").count(), expect, "{what}: {told}");
            assert_eq!(told.matches("early-data").count(), expect, "{what}: {told}");
        }
    }
}

#[tokio::test]
async fn no_tunnel_is_opened_in_early_data() {
    let house = house();
    let mut early = route("/*", "none");
    early["target"] = json!({"upstream": "api"});
    early["early_data"] = json!(true);
    house.release(1, &json!({"routes": [early], "upstreams": {"api": {"servers": ["http://127.0.0.1:9"]}}}));
    let request = arrival(Request::get("https://shop.test/"), body::empty());
    let response =
        house.node.answer(Box::new(Arrival { early: true, connect: Some(Connect::WebSocket), ..request })).await;
    assert_eq!(response.status(), 425);
}

#[tokio::test]
async fn a_function_is_told_that_its_request_came_early() {
    let house = house();
    let mut early = route("/*", "echo");
    early["early_data"] = json!(true);
    house.release(1, &json!({"routes": [early], "functions": {"echo": house.function("echo", &[])}}));
    for (is_early, expect) in [(true, Some("1")), (false, None)] {
        let request = arrival(Request::get("https://shop.test/"), body::empty());
        let response = house.node.answer(Box::new(Arrival { early: is_early, ..request })).await;
        let saw = response.headers().get("x-saw-early-data").map(|value| value.to_str().expect("text"));
        assert_eq!((response.status().as_u16(), saw), (200, expect));
    }
}
