//! Says hello to `?name=…`, or to the world.
//!
//! The smallest function: the raw bindings of `wasi:http`, no async, about 60 KB. The others use `wstd`.
//!
//! ```text
//! curl https://localhost:8443/?name=eyot
//! ```

use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let text = format!("hello, {}\n", name(&path));
        let fields = [("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
        let response = OutgoingResponse::new(Fields::from_list(&fields).expect("one good field"));
        let body = response.body().expect("taken once");
        ResponseOutparam::set(out, Ok(response));
        // If the client has left there is no one to tell.
        let _ = body.write().expect("taken once").write_all(text.as_bytes());
        let _ = OutgoingBody::finish(body, None);
    }
}

/// The letters and digits of the query's `name`.
fn name(path: &str) -> String {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let name = query.split('&').find_map(|pair| pair.strip_prefix("name=")).unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    if name.is_empty() { "world".to_owned() } else { name }
}

wasip2::http::proxy::export!(Hello);

fn main() {}
