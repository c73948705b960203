//! Bodies of requests, bounded in bytes and time, and checked against the digest that was signed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eyot_bundle::digest::Digest;
use eyot_plan::body::Body;
use http::StatusCode;
use http_body_util::BodyExt as _;

use super::auth::Caller;
use crate::denied::Denied;

/// All of a body, at most `bytes_max` and within `time_max`, with the digest that its caller signed.
pub(crate) async fn read(body: Body, caller: &Caller, bytes_max: usize, time_max: Duration) -> Result<Bytes, Denied> {
    let bytes = in_time(collect(body, bytes_max), time_max).await?;
    match caller {
        Caller::Signer { body, .. } if Digest::of(&bytes) != *body => {
            let detail = "the body is not the one that was signed".to_owned();
            Err(Denied::request(StatusCode::UNAUTHORIZED, "signature", detail))
        }
        _ => Ok(bytes),
    }
}

/// What `reading` gives, if it does within `time_max`.
pub(crate) async fn in_time<T>(
    reading: impl Future<Output = Result<T, Denied>>,
    time_max: Duration,
) -> Result<T, Denied> {
    match tokio::time::timeout(time_max, reading).await {
        Ok(read) => read,
        Err(_) => {
            let detail = format!("the body took longer than {} s", time_max.as_secs());
            Err(Denied::request(StatusCode::REQUEST_TIMEOUT, "too_slow", detail))
        }
    }
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, Denied> {
    let mut all = BytesMut::new();
    while let Some(piece) = next(&mut body).await? {
        if all.len() + piece.len() > bytes_max {
            return Err(too_large(bytes_max as u64));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next(body: &mut Body) -> Result<Option<Bytes>, Denied> {
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|fault| Denied::request(fault.code.status(), fault.code.name(), "the body broke off"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A body over its limit.
pub(crate) fn too_large(bytes_max: u64) -> Denied {
    Denied::request(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("at most {bytes_max} bytes are taken here"))
}

/// Reads JSON that asks for something.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Denied> {
    serde_json::from_slice(bytes).map_err(|error| Denied::malformed(error.to_string()))
}
