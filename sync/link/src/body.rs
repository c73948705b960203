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

#[cfg(test)]
mod tests {
    use http_body_util::channel::Channel;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_for_30_s_is_broken_off_and_one_that_goes_on_is_not() {
        let (mut sender, body) = Channel::<Bytes, Error>::new(1);
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                sender.send_data(Bytes::from_static(b"x")).await.expect("read");
            }
            sender
        });
        let began = Instant::now();
        let error = read(body.boxed_unsync(), "https://parent", 10).await.expect_err("it pauses");
        assert!(matches!(error, Error::Silent { seconds: 30, .. }), "{error}");
        assert_eq!(began.elapsed().as_secs(), 4 * 29 + 30);
        drop(slow);
    }
}
