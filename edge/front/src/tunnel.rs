//! Tunnels: both directions of one share how long nothing may pass.

use core::future::Future as _;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep, sleep_until};

/// The response that opens a tunnel has this among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted;

/// When something last passed through a tunnel. Clones are the same.
#[derive(Clone)]
pub(crate) struct Pulse {
    last: Arc<Mutex<Instant>>,
    idle: Duration,
}

impl Pulse {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), idle }
    }

    /// One direction of the tunnel: a fault once nothing has passed in either.
    pub(crate) fn through(&self, body: Body) -> Body {
        Direction { body, pulse: self.clone(), timer: None }.boxed_unsync()
    }

    fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn deadline(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.idle
    }
}

struct Direction {
    body: Body,
    pulse: Pulse,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Direction {
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pulse = &self.pulse;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(pulse.deadline())));
        while timer.as_mut().poll(cx).is_ready() {
            let deadline = pulse.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl http_body::Body for Direction {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                let idle = || Fault::new(Code::ClientTimeout).because("nothing passed through a tunnel for too long");
                self.poll_idle(cx).map(|()| Some(Err(idle())))
            }
            Poll::Ready(said) => {
                self.pulse.beat();
                Poll::Ready(said)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::channel::Channel;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_one_side_speaks_is_not_idle_and_silence_of_both_ends_both() {
        let idle = Duration::from_secs(60);
        let pulse = Pulse::new(idle);
        let (_silent, up) = Channel::<Bytes, Fault>::new(1);
        let (mut speaks, down) = Channel::<Bytes, Fault>::new(1);
        let mut up = pulse.through(up.boxed_unsync());
        let mut down = pulse.through(down.boxed_unsync());
        let hearing = tokio::spawn(async move { up.frame().await });
        for _ in 0..5 {
            tokio::time::advance(idle * 2 / 3).await;
            speaks.send_data(Bytes::from_static(b"x")).await.expect("it is read");
            assert!(down.frame().await.is_some_and(|frame| frame.is_ok()));
            assert!(!hearing.is_finished());
        }
        assert!(down.frame().await.is_some_and(|frame| frame.is_err()));
        let heard = hearing.await.expect("no panic").expect("an end");
        assert_eq!(heard.expect_err("a fault").code, Code::ClientTimeout);
    }
}
