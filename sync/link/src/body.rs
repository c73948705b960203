//! The wire's own body: bytes and trailers, streamed, ending well or in an [`Error`]; and the bounded ways to read one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

use crate::error::Error;

/// A streamed body.
pub type Body = UnsyncBoxBody<Bytes, Error>;

/// A body's next piece must come within this, in seconds.
pub const IDLE_S: u64 = 30;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is there already.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The next piece of data, skipping trailers; `None` at the end. `url` is for the error.
pub async fn next(body: &mut Body, url: &str, idle_s: u64) -> Result<Option<Bytes>, Error> {
    loop {
        match tokio::time::timeout(Duration::from_secs(idle_s), body.frame()).await {
            Err(_) => return Err(Error::Silent { url: url.to_owned(), seconds: idle_s }),
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => {
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// All of a body, at most `bytes_max` bytes.
pub async fn read(mut body: Body, url: &str, bytes_max: usize) -> Result<Bytes, Error> {
    let mut all = BytesMut::new();
    while let Some(piece) = next(&mut body, url, IDLE_S).await? {
        if all.len() + piece.len() > bytes_max {
            return Err(Error::TooLarge { url: url.to_owned(), limit_bytes: bytes_max as u64 });
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
