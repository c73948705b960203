//! The examples of `functions/examples`, each asked as its module says, and the WIT of what a function may import.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use eyot_plan::body;
use eyot_plan::fault::Code;
use http::Response;
use http_body_util::BodyExt;
use tokio::sync::Barrier;

use crate::harness::{Ask, Out};

#[tokio::test]
async fn hello_says_hello() {
    for (path, text) in [("/", "hello, world\n"), ("/?name=eyot", "hello, eyot\n"), ("/?name=%3Cb", "hello, 3Cb\n")] {
        assert_eq!(Ask::new("example/hello").path(path).send().await.expect("an answer").text(), text);
    }
}

/// A token that ends `from_now` seconds from now.
fn token(pair: &Ed25519KeyPair, algorithm: &str, from_now: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let exp = now.saturating_add_signed(from_now);
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(serde_json::json!({"alg": algorithm}));
    let text = format!("{header}.{}", part(serde_json::json!({"sub": "ada", "exp": exp})));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

#[tokio::test]
async fn auth_lets_through_who_brings_a_token_that_holds_and_streams() {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let stranger = Ed25519KeyPair::generate().expect("a key");
    let key = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
    let good = token(&pair, "EdDSA", 3600);
    let table = [
        (good.clone(), 200),
        (token(&pair, "EdDSA", -60), 401),
        (token(&pair, "none", 3600), 401),
        (token(&stranger, "EdDSA", 3600), 401),
        (good.replacen('.', "..", 1), 401),
        (format!("{good}x"), 401),
        (String::new(), 401),
    ];
    let out = Out::new(|request| {
        Box::pin(async move {
            assert_eq!(request.uri(), "https://api.example/orders?open");
            assert_eq!(request.headers()["x-user"], "ada");
            assert!(!request.headers().contains_key("authorization"));
            Ok(Response::new(request.into_body()))
        })
    });
    for (token, status) in table {
        let ask = Ask::new("example/auth").path("/auth/orders?open").field("authorization", &format!("Bearer {token}"));
        let ask = ask.env("ISSUER_KEY", &key).env("UPSTREAM", "https://api.example").env("PREFIX", "/auth");
        let log = Arc::clone(&ask.log);
        let answer = ask.body(body::full(vec![b'o'; 300_000])).fetch(out.clone()).send().await.expect("an answer");
        assert_eq!(answer.status, status, "{token}: {:?}", log.written.lock().expect("not poisoned"));
        if status == 200 {
            assert_eq!(answer.bytes.len(), 300_000);
        }
    }
}

#[tokio::test]
async fn html_rewrite_changes_a_page_and_nothing_else() {
    let page = "<html><body class=x><a href='https://a.example/'>a</a><img src=i.png></body></html>";
    let out = |kind: &'static str| {
        Out::new(move |request| {
            Box::pin(async move {
                assert_eq!(request.uri(), "https://www.example/page");
                let mut response = Response::new(body::full(page));
                response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
                response.headers_mut().insert("content-length", page.len().into());
                Ok(response)
            })
        })
    };
    let ask = |kind| {
        let ask = Ask::new("example/html-rewrite").path("/r/page").env("UPSTREAM", "https://www.example");
        ask.env("PREFIX", "/r").env("BANNER", "<eyot>").fetch(out(kind)).send()
    };
    let answer = ask("text/html; charset=utf-8").await.expect("an answer");
    let expect = "<html><body class=x><p class=\"eyot\">&lt;eyot&gt;</p>\
        <a href='https://a.example/' rel=\"noopener noreferrer\">a</a><img src=i.png loading=\"lazy\"></body></html>";
    assert_eq!(answer.text(), expect);
    assert_eq!(ask("text/plain").await.expect("an answer").text(), page);
}

#[tokio::test]
async fn json_api_asks_both_upstreams_at_the_same_time_and_names_what_is_missing() {
    let ask = |out: Arc<Out>| {
        let ask = Ask::new("example/json-api").path("/json-api?id=7");
        let ask = ask.env("USERS", "https://users.example").env("ORDERS", "https://orders.example").fetch(out);
        let log = Arc::clone(&ask.log);
        async move {
            let answer = ask.send().await;
            (answer, format!("{:?}", log.written.lock().expect("not poisoned")))
        }
    };
    // Neither is answered before both were asked.
    let both = Arc::new(Barrier::new(2));
    let out = Out::new(move |request| {
        let both = Arc::clone(&both);
        Box::pin(async move {
            both.wait().await;
            let user = request.uri() == "https://users.example/users/7";
            Ok(Response::new(body::full(if user { r#"{"name":"ada"}"# } else { "[1,2]" })))
        })
    });
    let (answer, log) = ask(out).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.text(), "{\"id\":\"7\",\"missing\":[],\"orders\":[1,2],\"user\":{\"name\":\"ada\"}}\n", "{log}");
    let out = Out::new(|request| {
        Box::pin(async move {
            match request.uri().host() {
                Some("users.example") => Err(Code::UpstreamTimeout.into()),
                _ => Ok(Response::new(body::full("[]"))),
            }
        })
    });
    let (answer, log) = ask(out).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.text().contains(r#""missing":["user"]"#)), (200, true), "{log}");
    let out = Out::new(|_| Box::pin(std::future::ready(Err(Code::EgressDenied.into()))));
    assert_eq!(ask(out).await.0.expect("an answer").status, 502);
}

#[tokio::test]
async fn an_example_that_streams_is_done_with_little_memory_and_cpu() {
    let page = format!("<html><body>{}</body></html>", "<p>text</p>".repeat(500_000));
    let out = Out::new(move |_| {
        let mut response = Response::new(body::full(page.clone()));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html"));
        Box::pin(std::future::ready(Ok(response)))
    });
    let ask = Ask::new("example/html-rewrite").path("/page").env("UPSTREAM", "https://www.example").fetch(out);
    let meter = Arc::clone(&ask.meter);
    let ask = ask.limits(|limits| limits.cpu_us = 20_000_000);
    let mut body = ask.begin().await.expect("an answer").into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("no fault").data_ref().map_or(0, bytes::Bytes::len);
    }
    assert!(bytes > 5_500_000 && meter.memory_bytes() < 4 << 20, "{} bytes of memory", meter.memory_bytes());
}

#[test]
fn the_wit_of_what_a_function_may_import_is_what_releases_may_import() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/wit");
    let mut wit = wit_parser::Resolve::default();
    let (package, _) = wit.push_dir(folder).expect("a package");
    let world = wit.select_world(&[package], Some("function")).expect("its world");
    let world = &wit.worlds[world];
    for key in world.imports.keys() {
        let import = wit.name_world_key(key);
        eyot_bundle::component::check_import(&import).expect("given");
    }
    assert_eq!(world.exports.keys().map(|key| wit.name_world_key(key)).collect::<Vec<_>>().len(), 1);
}
