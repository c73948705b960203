//! What the guests share: reading a request, beginning a response, writing its body.
//!
//! A guest is a file of `src/bin`, one behaviour each, and knows nothing of who serves it. Most are hostile. Those that
//! need instructions no Rust gives are components by hand, in `wat/`.

use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, Trailers};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// Begins a response: its head is sent, its body is to be written.
pub fn begin(out: ResponseOutparam, status: u16, fields: &[(&str, &str)]) -> OutgoingBody {
    let list: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&list).expect("fields of this guest"));
    response.set_status_code(status).expect("a status of this guest");
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Answers with a whole body.
pub fn answer(out: ResponseOutparam, status: u16, fields: &[(&str, &str)], bytes: &[u8]) {
    let body = begin(out, status, fields);
    let stream = body.write().expect("taken once");
    let _ = write(&stream, bytes);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Writes all of `bytes`, waiting whenever the reader is slower.
pub fn write(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = rest;
    }
    Ok(())
}

/// The value of a field of the request.
pub fn field(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// The path and query.
pub fn path(request: &IncomingRequest) -> String {
    request.path_with_query().unwrap_or_default()
}

/// Copies a body piece by piece, then gives its trailers.
pub fn copy(body: IncomingBody, mut piece: impl FnMut(&[u8])) -> Option<Trailers> {
    let stream: InputStream = body.stream().expect("taken once");
    while let Ok(bytes) = stream.blocking_read(64 << 10) {
        piece(&bytes);
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    trailers.get().and_then(Result::ok).and_then(Result::ok).flatten()
}

/// Waits.
pub fn sleep_ms(ms: u64) {
    wasip2::clocks::monotonic_clock::subscribe_duration(ms * 1_000_000).block();
}

/// Makes a guest of a function.
#[macro_export]
macro_rules! guest {
    ($handle:expr) => {
        struct Guest;

        impl wasip2::exports::http::incoming_handler::Guest for Guest {
            fn handle(
                request: wasip2::http::types::IncomingRequest,
                out: wasip2::http::types::ResponseOutparam,
            ) {
                ($handle)(request, out)
            }
        }

        wasip2::http::proxy::export!(Guest);

        fn main() {}
    };
}
