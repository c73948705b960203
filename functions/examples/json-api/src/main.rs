//! Asks two upstreams at the same time and answers with both: `GET /json-api?id=7` gives
//! `{"id":"7","user":{…},"orders":[…],"missing":[]}` in the time of the slower one.
//!
//! If one of them fails, the answer has what the other gave and names what is missing; if both fail, it is a 502.
//!
//! ```toml
//! [functions.json-api]
//! env    = { USERS = "https://users.example", ORDERS = "https://orders.example" }
//! egress = ["https://users.example", "https://orders.example"]
//! ```

use futures_lite::future;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use wstd::http::{Body, Client, Error, Method, Request, Response, StatusCode};

/// More than this of an upstream is not read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    if request.method() != Method::GET {
        return answer(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "only GET"}));
    }
    let query = request.uri().query().unwrap_or_default();
    let id = query.split('&').find_map(|pair| pair.strip_prefix("id=")).unwrap_or_default();
    if id.is_empty() || id.len() > 40 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return answer(StatusCode::BAD_REQUEST, &json!({"error": "id: letters and digits, at most 40"}));
    }
    let users = format!("{}/users/{id}", std::env::var("USERS")?);
    let orders = format!("{}/orders?user={id}", std::env::var("ORDERS")?);
    let (user, orders) = future::zip(ask(&users), ask(&orders)).await;
    let mut missing = Vec::new();
    let mut part = |name: &'static str, got: Result<Value, Error>| {
        got.unwrap_or_else(|error| {
            eprintln!("{name}: {error:#}");
            missing.push(name);
            Value::Null
        })
    };
    let (user, orders) = (part("user", user), part("orders", orders));
    let status = if missing.len() == 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    answer(status, &json!({"id": id, "user": user, "orders": orders, "missing": missing}))
}

/// The JSON an upstream answers with.
async fn ask(url: &str) -> Result<Value, Error> {
    let request = Request::get(url).header("accept", "application/json").body(Body::empty())?;
    let response = Client::new().send(request).await?;
    if !response.status().is_success() {
        return Err(Error::msg(format!("{url}: {}", response.status())));
    }
    let body = Limited::new(response.into_body().into_boxed_body(), ANSWER_BYTES_MAX);
    let whole = body.collect().await.map_err(|error| Error::msg(format!("{url}: {error}")))?;
    Ok(serde_json::from_slice(&whole.to_bytes())?)
}

fn answer(status: StatusCode, value: &Value) -> Result<Response<Body>, Error> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Body::from(format!("{value}\n")))?)
}
