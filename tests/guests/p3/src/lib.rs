//! What the guests of WASI 0.3 share: reading a request, answering, writing a body.

use std::future::Future;

use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::{self, FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::{wit_future, wit_stream};

/// What a body ends with.
pub type End = Result<Option<Trailers>, ErrorCode>;
/// What a handler gives.
pub type Answer = Result<Response, ErrorCode>;

/// Fields of pairs.
pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    let list: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&list).expect("fields of this guest")
}

/// Answers with a body that is there.
pub fn answer(status: u16, pairs: &[(&str, &str)], bytes: impl Into<Vec<u8>>) -> Answer {
    let bytes = bytes.into();
    begin(status, pairs, move |mut body| async move {
        body.write_all(bytes).await;
        Ok(None)
    })
}

/// Answers with a body that `write` writes once the head is out.
pub fn begin<W: Future<Output = End> + 'static>(
    status: u16,
    pairs: &[(&str, &str)],
    write: impl FnOnce(StreamWriter<u8>) -> W + 'static,
) -> Answer {
    let (body, contents) = wit_stream::new();
    let (end, ends) = wit_future::new(|| Ok(None));
    let response = respond(status, pairs, contents, ends);
    wit_bindgen::spawn_local(async move {
        let ended = write(body).await;
        let _ = end.write(ended).await;
    });
    Ok(response)
}

/// A response with this body.
pub fn respond(status: u16, pairs: &[(&str, &str)], body: StreamReader<u8>, ends: FutureReader<End>) -> Response {
    let (response, _) = Response::new(fields(pairs), Some(body), ends);
    response.set_status_code(status).expect("a status of this guest");
    response
}

/// The body of a request, and what it ends with.
pub fn consume(request: Request) -> (StreamReader<u8>, FutureReader<End>) {
    let (_, done) = wit_future::new(|| Ok(()));
    Request::consume_body(request, done)
}

/// Copies a body piece by piece.
pub async fn copy(from: &mut StreamReader<u8>, to: &mut StreamWriter<u8>) {
    let mut piece = Vec::with_capacity(64 << 10);
    loop {
        let (result, bytes) = from.read(piece).await;
        let last = !matches!(result, StreamResult::Complete(_));
        let left = to.write_all(bytes).await;
        if last || !left.is_empty() {
            return;
        }
        piece = left;
        piece.reserve(64 << 10);
    }
}

/// The value of a field of the request.
pub fn field(request: &Request, name: &str) -> Option<String> {
    let value = request.get_headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// The path and query.
pub fn path(request: &Request) -> String {
    request.get_path_with_query().unwrap_or_default()
}

/// Makes a guest of an async function.
#[macro_export]
macro_rules! guest {
    ($handle:expr) => {
        struct Guest;

        impl wasip3::exports::http::handler::Guest for Guest {
            async fn handle(request: wasip3::http::types::Request) -> p3::Answer {
                ($handle)(request).await
            }
        }

        wasip3::http::service::export!(Guest);

        fn main() {}
    };
}
