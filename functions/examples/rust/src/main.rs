//! What a function can do, one path each: `/hello`, `/stream`, `/fetch?url=…`, `/kv/<key>`, `/config`.

use futures_lite::stream;
use wstd::http::body::Bytes;
use wstd::http::{Body, Client, Error, Method, Request, Response, StatusCode};
use wstd::task::sleep;
use wstd::time::Duration;

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::store::{self, Bucket};

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "stores", generate_all });
}

/// `stores` in eyot.toml says which store this name opens.
const STORE: &str = "default";

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let uri = request.uri().clone();
    let query = uri.query().unwrap_or_default();
    match uri.path() {
        "/hello" => text(StatusCode::OK, format!("hello, {}\n", parameter(query, "name").unwrap_or("world"))),
        "/stream" => count(),
        "/fetch" => match parameter(query, "url") {
            Some(url) => fetch(url).await,
            None => text(StatusCode::BAD_REQUEST, "say ?url=\n"),
        },
        "/config" => settings(),
        path => match path.strip_prefix("/kv/") {
            Some(key) => notes(key, request).await,
            None => text(StatusCode::NOT_FOUND, format!("nothing at {path}\n")),
        },
    }
}

/// Ten lines, each when it is ready.
fn count() -> Result<Response<Body>, Error> {
    let lines = stream::unfold(1, |number| async move {
        (number <= 10).then_some(())?;
        sleep(Duration::from_millis(10)).await;
        Some((Bytes::from(format!("{number}\n")), number + 1))
    });
    Ok(Response::new(Body::from_stream(lines)))
}

/// What another server answers, passed on while it comes. `egress` in eyot.toml says which may be asked.
async fn fetch(url: &str) -> Result<Response<Body>, Error> {
    match Client::new().send(Request::get(url).body(Body::empty())?).await {
        Ok(response) => Ok(Response::builder().status(response.status()).body(response.into_body())?),
        Err(error) => text(StatusCode::BAD_GATEWAY, format!("{error}\n")),
    }
}

/// One note: GET, PUT or DELETE.
async fn notes(key: &str, mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let store = store::open(STORE).map_err(why)?;
    match *request.method() {
        Method::GET => match store.get(key).map_err(why)? {
            Some(note) => Ok(Response::new(note.into())),
            None => text(StatusCode::NOT_FOUND, format!("no note {key}\n")),
        },
        Method::PUT => {
            let note = request.body_mut().contents().await?;
            store.set(key, note).map_err(why)?;
            text(StatusCode::OK, format!("kept {key}\n"))
        }
        Method::DELETE => {
            Bucket::delete(&store, key).map_err(why)?;
            text(StatusCode::OK, format!("forgot {key}\n"))
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "GET, PUT or DELETE\n"),
    }
}

/// All of `config` in eyot.toml.
fn settings() -> Result<Response<Body>, Error> {
    let mut all = config::get_all().map_err(|error| Error::msg(format!("{error:?}")))?;
    all.sort();
    text(StatusCode::OK, all.into_iter().map(|(name, value)| format!("{name} = {value}\n")).collect::<String>())
}

fn text(status: StatusCode, text: impl Into<String>) -> Result<Response<Body>, Error> {
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(text.into().into())?)
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn why(error: store::Error) -> Error {
    Error::msg(format!("{error:?}"))
}
