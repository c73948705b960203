//! A request's body on its way in: bounded in how long the client may pause, its trailers only what trailers may be, its
//! errors the client's faults.

use core::error::Error;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use bytes::Bytes;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward;
use http::header::{self, HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep, sleep_until};

/// Wraps what a protocol delivers.
pub(crate) fn incoming<B>(body: B, idle: Duration) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return body::empty();
    }
    RequestBody { body, idle, waiting: None, timer: None }.boxed_unsync()
}

struct RequestBody<B> {
    body: B,
    idle: Duration,
    /// Since when the client's next piece is waited for.
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> RequestBody<B> {
    /// Whether the client has paused too long. The timer is moved only when it fires, not with every piece.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting.get_or_insert_with(Instant::now) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
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
            return self.poll_idle(cx).map(|()| {
                Some(Err(Fault::new(Code::ClientTimeout).because("the client paused too long inside a body")))
            });
        };
        self.waiting = None;
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
    use super::*;
    use http_body_util::channel::Channel;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_pauses_too_long_inside_a_body_is_at_fault() {
        let (mut sender, channel) = Channel::<Bytes, std::io::Error>::new(4);
        let mut body = incoming(channel, Duration::from_secs(30));
        for _ in 0..3 {
            sender.send_data(Bytes::from_static(b"x")).await.expect("it is read");
            tokio::time::advance(Duration::from_secs(20)).await;
            assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        }
        let fault = body.frame().await.expect("an end").expect_err("a fault");
        assert_eq!(fault.code, Code::ClientTimeout);
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
        let frame = incoming(channel, Duration::from_secs(30)).frame().await.expect("a frame").expect("no fault");
        let names: Vec<_> = frame.trailers_ref().expect("trailers").keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum"]);
    }
}
