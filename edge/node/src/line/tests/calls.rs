//! Functions that call each other by name, on this node, and what they spend together.

use super::targets::{loopback, route};
use super::*;

impl House {
    /// An app of relays that may call each other and these guests.
    fn relays(&self, guests: &[&str], limits: &Value) {
        let mut functions = serde_json::Map::new();
        let names: Vec<_> = ["a", "b"].iter().chain(guests).collect();
        for name in ["a", "b"] {
            let mut relay = self.function("relay", &["*"]);
            relay["calls"] = json!(names);
            relay["limits"] = limits.clone();
            functions.insert(name.to_owned(), relay);
        }
        functions.insert("lonely".to_owned(), self.function("relay", &["*"]));
        for name in guests {
            let mut guest = self.function(name, &[]);
            guest["limits"] = json!({"cpu_us": 500_000});
            functions.insert((*name).to_owned(), guest);
        }
        let routes = json!([route("/lonely/*", "lonely"), route("/*", "a")]);
        self.granted(1, &json!({"routes": routes, "functions": functions}), &loopback());
    }
}

#[tokio::test]
async fn a_function_calls_those_that_its_release_names_and_bodies_stream_through_them() {
    let house = house();
    house.relays(&["echo"], &json!({"cpu_us": 500_000}));
    let response = house.get("/b/").await;
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    assert!(response.headers().contains_key("x-end"), "{:?}", response.headers());
    assert_eq!(text(response).await, format!("the end, at b.function.eyot.internal, of {id}"));
    let long = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let response = house.ask(Request::post("https://shop.test/b/a/echo/"), body::full(long.clone())).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.expect("a whole body").to_bytes(), long);
    house.node.runtime.idle().await;
    house.counts(r#"eyot_function_calls_total{app="shop",function="a",release="1"} 3"#);
    house.counts(r#"eyot_function_calls_total{app="shop",function="b",release="1"} 2"#);
    house.counts(r#"eyot_function_subrequests_total{app="shop",function="b"} 1"#);
    house.counts(r#"eyot_requests_total{app="shop",route="/*",target="function:a",protocol="h3",status="200"} 2"#);
}

#[tokio::test]
async fn nobody_else_is_called_and_no_host_of_the_nodes_own_is_asked_from_outside() {
    let house = house();
    house.relays(&[], &json!({}));
    // `lonely` may fetch whatever it likes, and call nobody: its own path is the name it calls.
    for path in ["/lonely/", "/x.y/", "/none/"] {
        let response = house.get(path).await;
        assert_eq!(response.status(), 502, "{path}");
        assert!(text(response).await.contains("DestinationIpProhibited"), "{path}");
    }
    let all = App { hosts: vec![eyot_bundle::host::HostPattern::Any], state: State::NotReady };
    house.node.snapshots.put("greedy".parse().expect("a name"), all);
    for host in ["a.function.eyot.internal", "events.eyot.internal", "eyot.internal"] {
        let response = house.ask(Request::get(format!("https://{host}/")), body::empty()).await;
        assert_eq!(response.status(), 404, "{host}");
    }
    assert_eq!(house.ask(Request::get("https://other.test/"), body::empty()).await.status(), 503);
}

#[tokio::test]
async fn a_tree_spends_of_the_budget_of_its_root_and_is_no_deeper_than_eight() {
    let house = house();
    house.relays(&["spin"], &json!({"cpu_us": 200_000}));
    let problem: Value = serde_json::from_str(&text(house.get("/b/spin").await).await).expect("JSON");
    assert_eq!((&problem["code"], &problem["allowed"]), (&json!("cpu_budget_exceeded"), &json!(200_000)));
    house.node.runtime.idle().await;
    house.relays(&[], &json!({"cpu_us": 500_000}));
    assert_eq!(house.get("/b/a/b/a/b/a/b").await.status(), 200, "seven calls");
    let response = house.get("/b/a/b/a/b/a/b/a").await;
    assert!(text(response).await.contains("LoopDetected"));
    let hops = Request::get("https://shop.test/b").header("cdn-loop", "eyot; fleet=eyot; depth=6");
    assert!(text(house.ask(hops, body::empty()).await).await.contains("LoopDetected"), "hops of the fleet count");
    house.relays(&[], &json!({"cpu_us": 500_000, "subrequests": 2}));
    assert_eq!(house.get("/b/a").await.status(), 200);
    assert_ne!(house.get("/b/a/b").await.status(), 200, "a tree makes no more requests than its root may");
}

#[tokio::test]
async fn who_is_cut_cancels_those_it_called_and_a_full_node_is_not_stuck() {
    let house = house();
    house.relays(&["sleep"], &json!({"wall_ms": 300}));
    let response = house.get("/sleep").await;
    assert_eq!(response.status(), 504);
    // Resolves only when those that were called are gone too.
    house.node.runtime.idle().await;
    // The node has two slots; each of many trees takes one and needs more below.
    house.relays(&[], &json!({}));
    let many: Vec<_> = (0..8).map(|_| house.get("/b/a/b")).collect();
    for response in futures_util::future::join_all(many).await {
        assert!(matches!(response.status().as_u16(), 200 | 502 | 503), "{}", response.status());
    }
    assert_eq!(house.get("/b/a/b").await.status(), 200);
}
