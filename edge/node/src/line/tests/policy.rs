//! What a route asks of requests and does to answers: in which order, of whom, and to which answers.

use eyot_bundle::credential::Password;
use eyot_bundle::files::Encoding;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, ORIGIN};

use super::targets::{loopback, upstream};
use super::*;
use crate::geo::tests::{database, place};

/// A route whose target says what it is asked, with this policy.
fn route(path: &str, policy: &Value) -> Value {
    json!({"id": path, "host": "shop.test", "path": path, "target": {"upstream": "api"}, "policy": policy})
}

/// A route that answers by itself.
fn fixed(path: &str, policy: &Value) -> Value {
    let mut route = route(path, policy);
    route["target"] = json!({"respond": {"status": 200, "body": "here\n"}});
    route
}

/// A house with these routes, and the upstream `api`.
async fn with(house: House, routes: &[Value]) -> House {
    let servers = json!({"api": {"servers": [format!("http://{}", upstream().await)]}});
    house.granted(1, &json!({"routes": routes, "upstreams": servers}), &loopback());
    house
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("https://shop.test{path}"))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

async fn code(response: Response<Body>) -> String {
    let problem: Value = serde_json::from_str(&text(response).await).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

/// The client of these tests is 203.0.113.7, and the database knows where that is.
#[tokio::test]
async fn who_may_not_ask_by_address_or_country_is_refused_and_nobody_is_asked() {
    let databases = tempfile::tempdir().expect("a folder");
    let places = databases.path().join("places");
    std::fs::write(&places, database(&place(51.05))).expect("written");
    let known = house_told("https://origin.test", |config| config.geo.places = Some(places));
    let rows = [
        (json!({"allow": ["203.0.113.0/24"]}), 200, 200),
        (json!({"allow": ["198.51.100.0/24"]}), 403, 403),
        (json!({"deny": ["203.0.113.7/32"]}), 403, 403),
        (json!({"countries": {"allow": ["BE"]}}), 200, 403),
        (json!({"countries": {"deny": ["BE"]}}), 403, 200),
        (json!({"countries": {"allow": ["DE"]}}), 403, 403),
    ];
    let routes: Vec<_> =
        rows.iter().zip(0..).map(|((access, ..), at)| fixed(&format!("/{at}"), &json!({"access": access}))).collect();
    let (known, unknown) = (with(known, &routes).await, with(house(), &routes).await);
    for ((access, in_known, in_unknown), at) in rows.iter().zip(0..) {
        for (house, expect) in [(&known, in_known), (&unknown, in_unknown)] {
            let response = house.get(&format!("/{at}")).await;
            assert_eq!(response.status(), *expect, "{access}");
            assert_eq!(code(response).await, if *expect == 403 { "forbidden" } else { "" });
        }
    }
    known.counts(r#"eyot_faults_total{app="shop",route="/1",code="forbidden",side="client"} 1"#);
}

#[tokio::test]
async fn who_asks_too_often_is_told_so_and_when_to_come_again_and_counts_outlive_releases() {
    let policy = json!({"rate": {"windows": [{"requests": 2, "window_ms": 60_000}], "key": "header:x-key"}});
    let house = with(house(), &[fixed("/a", &policy), fixed("/b", &policy)]).await;
    let ask = async |path: &str, key: &str| house.ask(get(path).header("x-key", key), body::empty()).await;
    for left in [1, 0] {
        let response = ask("/a", "one").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "ratelimit-policy"), Some(r#""60s";q=2;w=60"#));
        assert_eq!(header(&response, "ratelimit"), Some(&*format!(r#""60s";r={left};t=60"#)));
    }
    let refused = ask("/a", "one").await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, Some("60")));
    assert_eq!(header(&refused, "ratelimit"), Some(r#""60s";r=0;t=60"#));
    assert_eq!(header(&refused, "cache-control"), Some("no-store"));
    assert_eq!(code(refused).await, "rate_limited");
    assert_eq!(ask("/a", "two").await.status(), 200, "another key");
    assert_eq!(ask("/b", "one").await.status(), 200, "another route");
    let house = with(house, &[fixed("/a", &policy)]).await;
    assert_eq!(
        house.ask(get("/a").header("x-key", "one"), body::empty()).await.status(),
        429,
        "a release forgives nothing"
    );
    house.counts(r#"eyot_faults_total{app="shop",route="/a",code="rate_limited",side="client"} 2"#);
}

fn guarded() -> Value {
    let hash = Password::of(b"sesame", b"saltsalt", 10_000).expect("good").to_string();
    let token = eyot_bundle::digest::Digest::of(b"t0ken");
    json!({"realm": "staff", "basic": {"alice": hash}, "bearer": {"ci": format!("sha256${token}")}})
}

#[tokio::test]
async fn who_does_not_say_who_they_are_is_told_how_to_and_credentials_go_no_further_unless_the_route_says_so() {
    let mut passed = guarded();
    passed["pass"] = json!(true);
    let house =
        with(house(), &[route("/in", &json!({"auth": guarded()})), route("/pass", &json!({"auth": passed}))]).await;
    let ask = async |path: &str, field: &str| house.ask(get(path).header(AUTHORIZATION, field), body::empty()).await;
    let refused = house.get("/in").await;
    assert_eq!(refused.status(), 401);
    let said: Vec<_> = refused.headers().get_all("www-authenticate").iter().collect();
    assert_eq!(said, [r#"Basic realm="staff", charset="UTF-8""#, r#"Bearer realm="staff""#]);
    assert_eq!(code(refused).await, "unauthorized");
    for (field, status) in [
        // alice:sesame, alice:Sesame, mallory:sesame
        ("Basic YWxpY2U6c2VzYW1l", 200),
        ("Basic YWxpY2U6c2VzYW1l", 200),
        ("Basic YWxpY2U6U2VzYW1l", 401),
        ("Basic bWFsbG9yeTpzZXNhbWU=", 401),
        ("Bearer t0ken", 200),
        ("Bearer t0kem", 401),
    ] {
        assert_eq!(ask("/in", field).await.status(), status, "{field}");
    }
    assert!(!text(ask("/in", "Bearer t0ken").await).await.contains("authorization"));
    assert!(text(ask("/pass", "Bearer t0ken").await).await.contains("authorization: Bearer t0ken"));
}

#[tokio::test]
async fn who_guesses_passwords_is_stopped_and_who_knows_theirs_is_not() {
    let house = with(house(), &[fixed("/in", &json!({"auth": guarded()}))]).await;
    let ask = async |pair: &str| {
        let field = format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair));
        house.ask(get("/in").header(AUTHORIZATION, field), body::empty()).await
    };
    assert_eq!(ask("alice:sesame").await.status(), 200);
    for guess in 0..10 {
        assert_eq!(ask(&format!("alice:{guess}")).await.status(), 401, "{guess}");
    }
    let stopped = ask("alice:10").await;
    assert_eq!((stopped.status().as_u16(), header(&stopped, "retry-after").is_some()), (429, true));
    assert_eq!(code(stopped).await, "rate_limited");
    assert_eq!(ask("alice:sesame").await.status(), 200, "what is known already is not guessed");
}

#[tokio::test]
async fn a_page_of_another_origin_is_told_what_it_may_also_in_faults_and_before_it_shows_credentials() {
    let cors = json!({"origins": ["https://app.test"], "headers": ["x-a"], "credentials": true, "max_age_s": 60});
    let mut put = route("/api/*", &json!({"cors": cors, "auth": guarded()}));
    put["methods"] = json!(["PUT"]);
    put["id"] = json!("put");
    let house = with(house(), &[put, fixed("/open", &json!({"cors": {"origins": ["*"]}}))]).await;
    let preflight = async |origin: &str, method: &str| {
        let request = Request::options("https://shop.test/api/x").header(ORIGIN, origin);
        house.ask(request.header("access-control-request-method", method), body::empty()).await
    };
    let leave = preflight("https://app.test", "PUT").await;
    assert_eq!(leave.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.test"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "60"),
        ("vary", "origin"),
    ] {
        assert_eq!(header(&leave, name), Some(value), "{name}");
    }
    let none = preflight("https://evil.test", "PUT").await;
    assert_eq!(
        (none.status().as_u16(), header(&none, "access-control-allow-origin"), header(&none, "vary")),
        (204, None, Some("origin"))
    );
    assert_eq!(preflight("https://app.test", "DELETE").await.status(), 405, "no route takes that");

    let request = Request::put("https://shop.test/api/x").header(ORIGIN, "https://app.test");
    let fault = house.ask(request, body::empty()).await;
    assert_eq!(
        (fault.status().as_u16(), header(&fault, "access-control-allow-origin")),
        (401, Some("https://app.test"))
    );
    let request =
        Request::put("https://shop.test/api/x").header(ORIGIN, "https://app.test").header("x", "y".repeat(70_000));
    let refused = house.ask(request, body::empty()).await;
    assert_eq!(
        (refused.status().as_u16(), header(&refused, "access-control-allow-origin")),
        (431, Some("https://app.test"))
    );
    let request = get("/open").header(ORIGIN, "https://any.test");
    let open = house.ask(request, body::empty()).await;
    assert_eq!((header(&open, "access-control-allow-origin"), header(&open, "vary")), (Some("*"), None));
}

#[tokio::test]
async fn a_target_is_asked_for_the_rewritten_path_with_the_changed_fields_and_nobody_can_change_the_nodes_own() {
    let headers = json!({
        "request": {"set": {"x-user": "edge"}, "remove": ["x-secret"]},
        "response": {"set": {"x-kept": "2"}, "add": {"vary": "x-d"}, "remove": ["server"]},
    });
    let house = with(house(), &[route("/api/*", &json!({"rewrite": "/v2{rest}", "headers": headers}))]).await;
    let request = get("/api/a%2Fb?c=d").header("x-user", "forged").header("x-secret", "1");
    let response = house.ask(request, body::empty()).await;
    assert_eq!((header(&response, "x-kept"), header(&response, "vary")), (Some("2"), Some("x-d")));
    let told = text(response).await;
    assert!(told.starts_with("GET /v2/a%2Fb?c=d\n"), "{told}");
    assert!(told.contains("x-user: edge\n") && !told.contains("forged") && !told.contains("x-secret"), "{told}");
    assert!(told.contains("x-forwarded-host: shop.test\n"), "{told}");
}

#[tokio::test]
async fn fields_that_a_route_changes_are_of_its_answers_and_not_of_faults_and_care_is_taken_in_both() {
    let headers = json!({"response": {"set": {"cache-control": "public, max-age=60"}}});
    let policy = json!({"headers": headers, "security_headers": {}, "body_bytes": 5});
    let mut broken = fixed("/broken", &policy);
    broken["target"] = json!({"upstream": "none"});
    let servers = json!({"none": {"servers": ["http://127.0.0.1:9"]}});
    let house = house();
    house.granted(1, &json!({"routes": [broken, fixed("/fixed", &policy)], "upstreams": servers}), &loopback());
    for (path, status, cache) in [("/fixed", 200, "public, max-age=60"), ("/broken", 502, "no-store")] {
        let response = house.get(path).await;
        assert_eq!((response.status().as_u16(), header(&response, "cache-control")), (status, Some(cache)), "{path}");
        assert_eq!(header(&response, "strict-transport-security"), Some("max-age=31536000"), "{path}");
        assert_eq!(header(&response, "x-frame-options"), Some("SAMEORIGIN"), "{path}");
    }
    let large = house.ask(Request::post("https://shop.test/fixed"), body::full("123456")).await;
    assert_eq!((large.status().as_u16(), code(large).await.as_str()), (413, "request_too_large"));
    let plain = house.ask(Request::get("http://shop.test/fixed"), body::empty()).await;
    assert_eq!(header(&plain, "strict-transport-security"), None, "there is no TLS");
}

#[tokio::test]
async fn a_route_in_maintenance_serves_those_it_names_and_tells_the_others_when_to_come_again() {
    let page = json!({"maintenance": {"retry_after_s": 600, "page": "<p>soon</p>"}});
    let mine = json!({"maintenance": {"allow": ["203.0.113.0/24"]}});
    let routes = [fixed("/closed", &json!({"maintenance": {}})), fixed("/page", &page), fixed("/mine", &mine)];
    let house = with(house(), &routes).await;
    let closed = house.get("/closed").await;
    assert_eq!((closed.status().as_u16(), header(&closed, "retry-after")), (503, Some("60")));
    assert_eq!(code(closed).await, "maintenance");
    let page = house.get("/page").await;
    let said =
        ["retry-after", "content-type", "cache-control"].map(|name| header(&page, name).unwrap_or_default().to_owned());
    assert_eq!(
        (page.status().as_u16(), said),
        (503, ["600", "text/html; charset=utf-8", "no-store"].map(str::to_owned))
    );
    assert_eq!(text(page).await, "<p>soon</p>");
    assert_eq!(house.get("/mine").await.status(), 200);
    house.counts(r#"eyot_faults_total{app="shop",route="/page",code="maintenance",side="node"} 1"#);
}

#[tokio::test]
async fn an_answer_larger_than_its_route_lets_it_be_is_a_fault_and_a_fallback_answers_for_it() {
    let limit = json!({"response_body_bytes": 10});
    let mut soft = route("/soft", &limit);
    soft["on_fault"] = json!("open");
    soft["fallback"] = json!({"respond": {"status": 200, "body": "instead\n"}});
    let house = with(house(), &[route("/hard", &limit), soft, fixed("/small", &limit)]).await;
    let hard = house.get("/hard").await;
    let said = header(&hard, "proxy-status").unwrap_or_default().to_owned();
    assert_eq!(
        (hard.status().as_u16(), said.as_str()),
        (502, "eyot; error=http_response_body_size; details=\"response_too_large\"")
    );
    assert_eq!(text(house.get("/soft").await).await, "instead\n");
    assert_eq!(text(house.get("/small").await).await, "here\n");
}

#[tokio::test]
async fn an_answer_is_compressed_for_who_wants_it_and_what_is_saved_is_counted() {
    let long = "all work and no play makes jack a dull boy\n".repeat(200);
    let page = |path: &str, headers: Value| {
        let mut route = fixed(path, &json!({"compress": {}}));
        route["target"] = json!({"respond": {"status": 200, "body": long, "headers": headers}});
        route
    };
    let kept = json!({"cache-control": "no-transform"});
    let house = with(house(), &[page("/page", json!({"etag": "\"a\""})), page("/kept", kept)]).await;
    let ask = async |request: http::request::Builder| house.ask(request, body::empty()).await;
    let plain = ask(get("/page")).await;
    assert_eq!((header(&plain, "vary"), header(&plain, "etag")), (Some("accept-encoding"), Some("\"a\"")));
    assert_eq!(text(plain).await, long);
    for (accept, encoding) in [("gzip, br;q=0.5", "gzip"), ("br, zstd, gzip", "br"), ("zstd", "zstd")] {
        let response = ask(get("/page").header(ACCEPT_ENCODING, accept)).await;
        let said =
            ["content-encoding", "etag", "vary"].map(|name| header(&response, name).unwrap_or_default().to_owned());
        assert_eq!(said, [encoding, "W/\"a\"", "accept-encoding"].map(str::to_owned), "{accept}");
        let bytes = response.into_body().collect().await.expect("whole").to_bytes();
        assert!(bytes.len() < 1_000, "{accept}: {} bytes", bytes.len());
    }
    let head = ask(Request::head("https://shop.test/page").header(ACCEPT_ENCODING, "br")).await;
    assert_eq!((header(&head, "content-encoding"), header(&head, "content-length")), (Some("br"), None));
    let kept = ask(get("/kept").header(ACCEPT_ENCODING, "br")).await;
    assert_eq!((header(&kept, "content-encoding"), header(&kept, "vary")), (None, None));
    house.counts(&format!(r#"eyot_compressed_before_bytes_total{{app="shop",route="/page"}} {}"#, 3 * long.len()));
}

#[tokio::test]
async fn a_folder_is_asked_for_the_rewritten_path_as_a_whole() {
    let house = house();
    let bundle = house
        .folder(&[("v2/a.txt", &[(Encoding::Identity, b"two")]), ("v2/b/index.html", &[(Encoding::Identity, b"<b>")])]);
    let mut route = route("/old/*", &json!({"rewrite": "/v2{rest}"}));
    route["target"] = json!({"files": "site"});
    house.release(1, &json!({"routes": [route], "files": {"site": {"bundle": bundle, "index": "index.html"}}}));
    assert_eq!(text(house.get("/old/a.txt").await).await, "two");
    let folder = house.get("/old/b?c=d").await;
    assert_eq!(header(&folder, "location"), Some("/old/b/?c=d"), "clients know their own path alone");
    assert_eq!(house.get("/v2/a.txt").await.status(), 404, "no route is for that");
}
