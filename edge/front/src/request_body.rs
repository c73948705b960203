//! A request's body on its way in: bounded in how long the client may pause, its trailers only what trailers may be, its
//! errors the client's faults.

use core::error::Error;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use std::sync::Arc;

use bytes::Bytes;
use eyot_h3::patience::Patience;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward;
use http::header::{self, HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::interim::GoOn;

/// How a body is waited for.
pub(crate) struct Awaited {
    /// How long, and at what rate.
    pub(crate) patience: Patience,
    /// Whether the response has begun. From then on the two may be a conversation, which has pauses, not a rate.
    pub(crate) is_answered: Arc<AtomicBool>,
    /// Tells a client that waits for it to go on, once its body is wanted and not there.
    pub(crate) go_on: Option<GoOn>,
}

/// Wraps what a protocol delivers.
pub(crate) fn incoming<B>(body: B, awaited: Awaited) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return body::empty();
    }
    RequestBody { body, awaited }.boxed_unsync()
}

struct RequestBody<B> {
    body: B,
    awaited: Awaited,
}

impl Awaited {
    /// Nothing has come. Ready when it is waited no longer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(go_on) = self.go_on.take() {
            go_on();
        }
        self.patience.poll(cx)
    }

    fn came(&mut self, bytes: usize) {
        self.go_on = None;
        if self.is_answered.load(Ordering::Relaxed) {
            self.patience.forgive();
        } else {
            self.patience.moved(bytes);
        }
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            return self.awaited.poll(cx).map(|()| {
                Some(Err(Fault::new(Code::ClientTimeout).because("the client paused too long inside a body")))
            });
        };
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        self.awaited.came(data.map_or(0, Bytes::len));
        Poll::Ready(frame.map(|frame| match frame {
            Ok(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    only_trailers(trailers);
                }
                Ok(frame)
            }
            Err(error) => Err(Fault::new(Code::BadRequest).because(describe(error.into().as_ref()))),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An error with its sources, in one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Fields that frame, route, authenticate or describe the message cannot come after it (RFC 9110, section 6.5.1). They
/// are dropped: who reads trailers must not find there what it would have obeyed in the head.
pub(crate) fn only_trailers(trailers: &mut HeaderMap) {
    const NEVER: [HeaderName; 28] = [
        header::AGE,
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::EXPIRES,
        header::HOST,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RANGE,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VARY,
        header::WARNING,
        header::WWW_AUTHENTICATE,
    ];
    for name in &NEVER {
        trailers.remove(name);
    }
    forward::trailers(trailers);
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use http_body_util::channel::Channel;
    use tokio::time::sleep;

    use super::*;

    fn awaited(is_answered: bool) -> Awaited {
        let patience = Patience::new(Duration::from_secs(30), 256);
        Awaited { patience, is_answered: Arc::new(AtomicBool::new(is_answered)), go_on: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_pauses_too_long_inside_a_body_or_sends_too_slowly_is_at_fault() {
        // A piece of so many bytes each 20 s, before or after the response has begun: how many are taken?
        for (bytes, is_answered, expect) in [(8192, false, 50), (1, false, 1), (1, true, 50), (2600, false, 2)] {
            let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(4);
            let mut body = incoming(channel, awaited(is_answered));
            let sending = tokio::spawn(async move {
                for _ in 0..50 {
                    sleep(Duration::from_secs(20)).await;
                    let _ = sender.send_data(Bytes::from(vec![0; bytes])).await;
                }
                core::future::pending::<()>().await;
            });
            let mut taken = 0;
            let fault = loop {
                match body.frame().await.expect("no end") {
                    Ok(_) => taken += 1,
                    Err(fault) => break fault,
                }
            };
            assert_eq!((fault.code, taken), (Code::ClientTimeout, expect), "{bytes} {is_answered}");
            sending.abort();
        }
    }

    #[tokio::test]
    async fn trailers_lose_what_belongs_into_the_head() {
        let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(4);
        let mut trailers = HeaderMap::new();
        let dropped = ["content-length", "host", "authorization", "transfer-encoding", "alt-svc", "x-request-id"];
        let ours = ["eyot-release", "proxy-status", "cache-status", "cdn-loop", "via", "forwarded", "x-forwarded-host"];
        for name in dropped.into_iter().chain(ours).chain(["x-sum"]) {
            trailers.insert(name, "1".parse().expect("a value"));
        }
        sender.send_trailers(trailers).await.expect("it is read");
        let frame = incoming(channel, awaited(false)).frame().await.expect("a frame").expect("no fault");
        let names: Vec<_> = frame.trailers_ref().expect("trailers").keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum"]);
    }
}
