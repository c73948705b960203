//! Blobs: nodes read them, by ranges if they like (RFC 9110, section 14); publishers ask whether theirs are there, and
//! put them. Whether another app holds the same bytes is not told.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, RANGE,
};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::auth::{self, Caller};
use super::{Asked, Wire, body};
use crate::blobs::{Blobs, Writing as _};
use crate::catalog::Catalog;
use crate::denied::Denied;
use crate::heads::Heads;

/// How much is read from the store at once, in bytes.
const PIECE_BYTES: u64 = 256 << 10;

/// The digest of a path.
pub(super) fn digest(text: &str) -> Result<Digest, Denied> {
    text.parse().map_err(|error: eyot_bundle::digest::DigestError| Denied::malformed(error.to_string()))
}

/// The part of a blob that is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Some(Range<u64>),
    /// Nothing of the blob is in the range.
    Outside,
}

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) async fn blob(&self, asked: &Asked, digest: Digest) -> Result<Response<Body>, Denied> {
        let missing = || Denied::not_found(format!("there is no blob {digest}"));
        if let Caller::Signer { .. } = &asked.caller
            && !self.all_hold(&publishes(&asked.caller)?, digest).await?
        {
            return Err(missing());
        }
        let size = self.catalog.blobs.size(digest).await?.ok_or_else(missing)?;
        let part = part(&asked.parts.headers, size);
        let range = match &part {
            Part::Whole => 0..size,
            Part::Some(range) => range.clone(),
            Part::Outside => 0..0,
        };
        let length = range.end - range.start;
        let bytes = if asked.parts.method == Method::HEAD {
            eyot_plan::body::empty()
        } else {
            pieces(Arc::clone(&self.catalog), digest, range.clone())
        };
        let mut response = Response::new(bytes);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_LENGTH, length.into());
        insert(headers, ETAG, format!("\"{digest}\""))?;
        let (status, content_range) = match part {
            Part::Whole => return Ok(response),
            Part::Some(_) => (StatusCode::PARTIAL_CONTENT, format!("bytes {}-{}/{size}", range.start, range.end - 1)),
            Part::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, format!("bytes */{size}")),
        };
        insert(headers, CONTENT_RANGE, content_range)?;
        *response.status_mut() = status;
        Ok(response)
    }

    /// Puts a blob for the apps that the key publishes. Each has its own quota and its own record of it.
    pub(super) async fn put_blob(&self, asked: &Asked, bytes: Body, digest: Digest) -> Result<Response<Body>, Denied> {
        let apps = publishes(&asked.caller)?;
        if let Caller::Signer { body, .. } = &asked.caller
            && *body != digest
        {
            return Err(Denied::malformed("the digest of the path is not the one that was signed"));
        }
        let declared = asked.parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let declared: u64 = declared.unwrap_or(0);
        if declared > self.limits.blob_bytes_max {
            return Err(body::too_large(self.limits.blob_bytes_max));
        }
        for app in &apps {
            self.catalog.may_upload(app, digest, declared).await?;
        }
        let _upload = self.permit()?;
        let size = body::in_time(self.store(bytes, digest, &apps), self.limits.body_time_max).await?;
        for app in &apps {
            self.catalog.note_upload(app, digest, size, asked.now).await?;
        }
        let mut response = Response::new(eyot_plan::body::empty());
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }

    /// Stores a body that must have `digest`, and gives its size.
    async fn store(&self, mut bytes: Body, digest: Digest, apps: &[Name]) -> Result<u64, Denied> {
        let mut writing = self.catalog.blobs.begin().await?;
        let mut size = 0;
        while let Some(piece) = body::next(&mut bytes).await? {
            size += piece.len() as u64;
            if size > self.limits.blob_bytes_max {
                return Err(body::too_large(self.limits.blob_bytes_max));
            }
            writing.write(piece).await?;
        }
        for app in apps {
            self.catalog.may_upload(app, digest, size).await?;
        }
        writing.finish(digest).await?;
        Ok(size)
    }

    async fn all_hold(&self, apps: &[Name], digest: Digest) -> Result<bool, Denied> {
        for app in apps {
            if !self.catalog.uploads(app).await?.holds(digest) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The apps that the caller's key publishes; none is refused.
fn publishes(caller: &Caller) -> Result<Vec<Name>, Denied> {
    match caller {
        Caller::Signer { holder, .. } if !holder.apps.is_empty() => Ok(holder.apps.iter().cloned().collect()),
        _ => Err(auth::not_yours("only a publisher's key may do this".to_owned())),
    }
}

/// The bytes of `range`, read as they are taken. A store that fails breaks the body off.
fn pieces<H: Heads, B: Blobs>(catalog: Arc<Catalog<H, B>>, digest: Digest, range: Range<u64>) -> Body {
    let failed = |cause: String| Fault::new(Code::InternalError).because(cause);
    let stream = stream::unfold((catalog, range), move |(catalog, range)| async move {
        if range.is_empty() {
            return None;
        }
        let end = range.end.min(range.start + PIECE_BYTES);
        let piece = match catalog.blobs.get(digest, range.start..end).await {
            Ok(Some(piece)) => Ok(Frame::<Bytes>::data(piece)),
            Ok(None) => Err(failed(format!("blob {digest} is gone"))),
            Err(error) => Err(failed(error.to_string())),
        };
        let next = if piece.is_ok() { end..range.end } else { 0..0 };
        Some((piece, (catalog, next)))
    });
    StreamBody::new(stream).boxed_unsync()
}

/// The part that is asked for: one range of bytes. What is malformed or of many ranges is passed over (RFC 9110,
/// section 14.2).
fn part(headers: &HeaderMap, size: u64) -> Part {
    let mut all = headers.get_all(RANGE).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return Part::Whole };
    let spec = value.to_str().ok().and_then(|value| value.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.split_once('-')) else { return Part::Whole };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (number(first), number(last)) {
        (None, Some(0)) if first.is_empty() => Part::Outside,
        (None, Some(count)) if first.is_empty() => Part::Some(size.saturating_sub(count)..size),
        (Some(first), _) if last.is_empty() && first < size => Part::Some(first..size),
        (Some(first), Some(last)) if first <= last && first < size => {
            Part::Some(first..size.min(last.saturating_add(1)))
        }
        (Some(first), last) if first >= size && last.is_none_or(|last| first <= last) => Part::Outside,
        _ => Part::Whole,
    }
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: String) -> Result<(), Denied> {
    let value = HeaderValue::try_from(value).map_err(|error| Denied::Failed(error.to_string()))?;
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_taken_and_what_is_no_range_is_passed_over() {
        let ask = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(text));
            part(&headers, 10)
        };
        for (text, want) in [
            ("bytes=0-", Part::Some(0..10)),
            ("bytes=3-5", Part::Some(3..6)),
            ("bytes=3-99", Part::Some(3..10)),
            ("bytes=9-18446744073709551615", Part::Some(9..10)),
            ("bytes=-4", Part::Some(6..10)),
            ("bytes=-99", Part::Some(0..10)),
            ("bytes=-0", Part::Outside),
            ("bytes=10-", Part::Outside),
            ("bytes=10-12", Part::Outside),
            ("bytes=5-3", Part::Whole),
            ("bytes=+1-3", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("items=0-1", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
        ] {
            assert_eq!(ask(text), want, "{text}");
        }
        assert_eq!(part(&HeaderMap::new(), 10), Part::Whole);
    }
}
