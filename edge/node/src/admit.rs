//! Admission: what a request must fit into before its target sees it. The listener has checked its form already; here
//! the route's limits and the guard against loops apply.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use eyot_plan::arrival::Connect;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::Trail;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::entry::Route;

/// The field by which one hop tells the next that a request came in early data (RFC 8470, section 5.1).
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// How a request came, beside its fields.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    /// What it opens.
    pub(crate) connect: Option<Connect>,
    /// Whether it came in TLS early data.
    pub(crate) early: bool,
}

/// Lets a request in: it may be a replay only where its route takes those, its head is within the target's limit, its
/// body will be, and it has not passed here too often. Its body's bytes are counted in `in_bytes`; what goes through a
/// tunnel is counted and has no limit.
///
/// # Errors
/// `too_early`, `headers_too_large`, `request_too_large`, `loop_detected`.
pub(crate) fn admit(
    mut request: Request<Body>,
    came: Came,
    route: &Route,
    fleet: &str,
    in_bytes: &Arc<AtomicU64>,
) -> Result<(Request<Body>, Trail), Fault> {
    early(&mut request, came, route)?;
    let trail = Trail::enter(request.headers(), fleet)?;
    let (body_bytes_max, header_bytes_max) = route.limits();
    let body_bytes_max = if came.connect.is_some() { u64::MAX } else { body_bytes_max };
    let head = head_bytes(request.uri(), request.headers());
    if head > header_bytes_max {
        return Err(Fault::new(Code::HeadersTooLarge).over("header_bytes", header_bytes_max, head));
    }
    let declared = request.body().size_hint().lower();
    if declared > body_bytes_max {
        return Err(too_large(body_bytes_max, declared));
    }
    let count = Arc::clone(in_bytes);
    Ok((request.map(|body| Counted { body, count, bytes_max: body_bytes_max }.boxed_unsync()), trail))
}

/// A request in early data is refused unless its route takes it and it is safe, and told from others to whoever is asked.
/// What a hop before us says is as good as what we saw (RFC 8470, section 5.1), however often and however it says it. A
/// tunnel is never safe: what goes through it would be replayed too.
fn early(request: &mut Request<Body>, came: Came, route: &Route) -> Result<(), Fault> {
    let said = request.headers_mut().remove(EARLY_DATA).is_some();
    if !came.early && !said {
        return Ok(());
    }
    if !route.early_data || !request.method().is_safe() || came.connect.is_some() {
        return Err(Code::TooEarly.into());
    }
    request.headers_mut().insert(EARLY_DATA, HeaderValue::from_static("1"));
    Ok(())
}

/// The size of a head as RFC 9113, section 6.5.2 counts it.
pub(crate) fn head_bytes(uri: &http::Uri, headers: &HeaderMap) -> u64 {
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len());
    (fields + target) as u64
}

fn too_large(allowed: u64, used: u64) -> Fault {
    Fault::new(Code::RequestTooLarge).over("body_bytes", allowed, used)
}

/// A request's body that is counted and ends in a fault when it grows over its limit.
struct Counted {
    body: Body,
    count: Arc<AtomicU64>,
    bytes_max: u64,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let more = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            let used = self.count.fetch_add(more, Ordering::Relaxed) + more;
            if used > self.bytes_max {
                return Poll::Ready(Some(Err(too_large(self.bytes_max, used))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
