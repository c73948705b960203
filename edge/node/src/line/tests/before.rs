//! Functions before a target: they answer or pass the request on, and what fails there goes nowhere.

use super::targets::{loopback, route, upstream};
use super::*;

impl House {
    /// A guard that says this.
    fn guard(&self, say: &str) -> Value {
        let mut guard = self.function("guard", &[]);
        guard["env"] = json!({"SAY": say});
        guard["limits"] = json!({"cpu_us": 50_000});
        guard
    }
}

/// A route to an upstream, opened by a fallback, with these functions before it.
fn guarded(before: &[&str]) -> Value {
    json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}, "before": before,
        "on_fault": "open", "fallback": {"respond": {"status": 200, "body": "instead\n"}}})
}

#[tokio::test]
async fn what_passes_goes_on_changed_by_each_in_turn_with_its_body_untouched() {
    let house = house();
    let server = upstream().await;
    let functions = json!({
        "one": house.guard("204;eyot-next=1;eyot-request-x-user=alice;eyot-remove=cookie;eyot-response-x-kept=2"),
        "two": house.guard("200;eyot-next=1;eyot-request-x-two=2;eyot-response-set-cookie=a=b;x-lost=1"),
    });
    let upstreams = json!({"api": {"servers": [format!("http://{server}")]}});
    let parts = json!({"routes": [guarded(&["one", "two"])], "functions": functions, "upstreams": upstreams});
    house.granted(1, &parts, &loopback());
    let request = Request::post("https://shop.test/a?b")
        .header("content-length", "5")
        .header("cookie", "secret")
        .header("x-user", "forged")
        .header("eyot-next", "1")
        .header("eyot-request-x-user", "forged");
    let response = house.ask(request, body::full("12345")).await;
    assert_eq!(response.status(), 200);
    let fields = response.headers().clone();
    assert_eq!((&fields["x-kept"], &fields["set-cookie"]), (&"2".parse().unwrap(), &"a=b".parse().unwrap()));
    assert!(!fields.keys().any(|name| name == "x-lost" || name.as_str().starts_with("eyot-request")), "{fields:?}");
    let told = text(response).await;
    for line in [
        "POST /a?b\n",
        "x-user: alice\n",
        "x-two: 2\n",
        "x-seen: Method::Post shop.test/a?b 0 bytes of alice\n",
        "content-length: 5\n",
        "5 bytes\n",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    assert!(!told.contains("secret") && !told.contains("forged") && !told.contains("eyot-next"), "{told}");
    house.node.runtime.idle().await;
    house.counts(r#"eyot_function_calls_total{app="shop",function="one",release="1"} 1"#);
    house.counts(r#"eyot_function_calls_total{app="shop",function="two",release="1"} 1"#);
    house.counts(r#"eyot_requests_total{app="shop",route="api",target="upstream:api",protocol="h3",status="200"} 1"#);
}

#[tokio::test]
async fn one_that_answers_or_fails_is_the_end_whatever_the_route_says_of_faults() {
    let house = house();
    let functions = json!({"before": house.function("guard", &[]), "never": house.guard("trap")});
    // The upstream cannot be reached: who gets there is answered instead.
    let upstreams = json!({"api": {"servers": ["http://127.0.0.1:1"]}});
    let mut functions = functions;
    functions["before"]["limits"] = json!({"cpu_us": 50_000});
    let parts = |before: &[&str]| json!({"routes": [guarded(before)], "functions": functions, "upstreams": upstreams});
    house.granted(1, &parts(&["before", "never"]), &loopback());
    for (say, status, target) in [
        ("401;www-authenticate=Basic", 401, "before:before"),
        ("200;x-eyot-next=1", 200, "before:before"),
        ("204;eyot-request-x-user=a", 204, "before:before"),
        ("403;eyot-next=1", 502, "before:before"),
        ("204;eyot-next=1;eyot-request-host=evil.test", 502, "before:before"),
        ("trap", 502, "before:before"),
        ("spin", 503, "before:before"),
        ("204;eyot-next=1", 502, "before:never"),
    ] {
        let response = house.ask(Request::get("https://shop.test/x").header("x-say", say), body::empty()).await;
        assert_eq!(response.status().as_u16(), status, "{say}");
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("eyot-request")));
        assert!(!text(response).await.contains("instead"), "{say}");
        house.node.runtime.idle().await;
        house.counts(&format!(r#"route="api",target="{target}",protocol="h3",status="{status}"}}"#));
    }
    house.granted(2, &parts(&["before"]), &loopback());
    let passed = house.ask(Request::get("https://shop.test/x").header("x-say", "204;eyot-next=1"), body::empty()).await;
    assert_eq!(text(passed).await, "instead\n", "what was let through is opened by the route's fallback");
}

#[tokio::test]
async fn what_needs_nobody_is_behind_them_too_and_too_much_that_they_add_is_their_fault() {
    let house = house();
    let mut hello = json!({"id": "hello", "host": "shop.test", "path": "/*", "before": ["before"],
        "target": {"respond": {"status": 200, "body": "hi\n"}}});
    let functions = json!({"before": house.function("guard", &[])});
    house.release(1, &json!({"routes": [hello.clone()], "functions": functions}));
    let say = |say: &str| Request::get("https://shop.test/").header("x-say", say);
    assert_eq!(house.ask(say("403"), body::empty()).await.status(), 403);
    assert_eq!(text(house.ask(say("204;eyot-next=1"), body::empty()).await).await, "hi\n");
    let many: String = (0..4).map(|at| format!(";eyot-request-x-{at}={}", "y".repeat(20_000))).collect();
    let mut functions = functions;
    functions["before"]["limits"] = json!({"header_bytes": 200_000});
    hello["target"] = json!({"redirect": {"to": "/x", "status": 308}});
    functions["before"]["env"] = json!({"SAY": format!("204;eyot-next=1{many}")});
    house.release(2, &json!({"routes": [hello], "functions": functions}));
    let problem: Value = serde_json::from_str(&text(house.get("/").await).await).expect("JSON");
    assert_eq!((&problem["code"], &problem["limit"]), (&json!("response_too_large"), &json!("header_bytes")));
}

#[tokio::test]
async fn all_of_them_and_their_target_spend_of_what_a_caller_elsewhere_lent() {
    let house = house();
    let functions = json!({"spin": house.function("spin", &[]), "pass": house.guard("204;eyot-next=1")});
    let mut both = route("/*", "spin");
    both["before"] = json!(["pass"]);
    house.release(1, &json!({"routes": [both], "functions": functions}));
    let lent = Request::get("https://shop.test/").header("cdn-loop", "eyot; fleet=eyot; calls=3; cpu=30000");
    let response = house.ask(lent, body::empty()).await;
    assert_eq!(response.headers()["eyot-calls"], "0", "its caller hears what is left of it");
    let problem: Value = serde_json::from_str(&text(response).await).expect("JSON");
    assert_eq!((&problem["code"], &problem["limit"]), (&json!("cpu_budget_exceeded"), &json!("cpu_us")));
    assert!(problem["allowed"].as_u64().is_some_and(|allowed| allowed < 30_000), "{problem}");
}
