//! The one body type between the parts: bytes and trailers, streamed, ending well or in a [`Fault`].

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

use crate::fault::Fault;

/// A streamed body. Its error is the fault of the side that broke it off.
pub type Body = UnsyncBoxBody<Bytes, Fault>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
