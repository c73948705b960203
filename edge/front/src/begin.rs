//! Beginning an exchange of HTTP/3 or HTTP/2, on a connection that many share.

use core::future::poll_fn;
use core::task::Poll;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::task::coop::consume_budget;

/// Begins an exchange here, in the task of its connection. Most are over before they have to wait for anything; only one that
/// does becomes a task of its own. A client that asks without end lets others have their turn.
pub(crate) async fn begin(exchange: impl Future<Output = ()> + Send + 'static) {
    consume_budget().await;
    // What panics here must not take the connection with it.
    let mut exchange = Box::pin(AssertUnwindSafe(exchange).catch_unwind());
    let waits = poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx).is_pending())).await;
    if waits {
        tokio::spawn(exchange);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn what_waits_for_nothing_is_over_at_once_and_what_waits_holds_nobody_up() {
        let (ended, first) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (go, gone) = oneshot::channel();
        let waiting = Arc::clone(&ended);
        begin(async move {
            let _ = gone.await;
            waiting.fetch_add(1, Ordering::Relaxed);
        })
        .await;
        let over = Arc::clone(&first);
        begin(async move {
            over.fetch_add(1, Ordering::Relaxed);
        })
        .await;
        assert_eq!((ended.load(Ordering::Relaxed), first.load(Ordering::Relaxed)), (0, 1));
        go.send(()).expect("it waits");
        while ended.load(Ordering::Relaxed) == 0 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_its_exchanges_alone() {
        begin(async { panic!("at once") }).await;
        begin(async {
            yield_now().await;
            panic!("later")
        })
        .await;
        yield_now().await;
    }

    #[tokio::test]
    async fn a_client_that_asks_without_end_lets_others_have_their_turn() {
        let others = Arc::new(AtomicUsize::new(0));
        let other = Arc::clone(&others);
        tokio::spawn(async move { other.fetch_add(1, Ordering::Relaxed) });
        let mut asked = 0_usize;
        while others.load(Ordering::Relaxed) == 0 {
            begin(async {}).await;
            asked += 1;
            assert!(asked < 100_000, "nobody else had a turn");
        }
    }
}
