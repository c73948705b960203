//! One guest as a task of its thread: polled under its account, stopped at its deadlines, heard as soon as it answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use eyot_plan::fault::{Code, Fault};
use http::{Method, Response};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, Sleep};

use crate::account::Account;
use crate::answer::{self, Answer};
use crate::clock;
use crate::threads::Turn;

/// From the hand-over to the last byte, in milliseconds.
const TOTAL_MS: u64 = 600_000;

/// What the caller gets.
pub(crate) type Delivery = Result<Response<Answer>, Fault>;

/// A running guest. It sets how it ended before its store is dropped, always.
pub(crate) struct Charged {
    guest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    account: Arc<Account>,
    /// The request's method: some answers have no body.
    method: Method,
    /// Who waits for the head, until it has it.
    caller: Option<oneshot::Sender<Delivery>>,
    /// Made at the first wait: most calls never wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Its head was kept back once, so that the body may come with it.
    held_back: bool,
    /// Its place among the tasks of its thread.
    turn: Turn,
    /// What it holds; let go when the guest is gone and charged, before the caller hears of it.
    held: Option<Held>,
}

/// What a call holds while it runs. The slot goes last: when all are free, all is told.
pub(crate) struct Held {
    /// Who wants to know when it is gone.
    pub(crate) _witness: Box<dyn Send>,
    /// Its place in its app's share.
    pub(crate) _share: Box<dyn Send>,
    /// Its slot.
    pub(crate) _slot: Slot,
}

/// A slot, and what a call of WASI 0.3 has beside it.
pub(crate) struct Slot {
    pub(crate) _of_0_3: Option<OwnedSemaphorePermit>,
    pub(crate) _slot: OwnedSemaphorePermit,
}

impl Charged {
    pub(crate) fn new(
        guest: impl Future<Output = ()> + Send + 'static,
        account: Arc<Account>,
        method: Method,
        caller: oneshot::Sender<Delivery>,
        turn: Turn,
        held: Held,
    ) -> Self {
        let guest: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(guest);
        Self {
            guest: Some(guest),
            account,
            method,
            caller: Some(caller),
            timer: None,
            held_back: false,
            turn,
            held: Some(held),
        }
    }

    /// Ends it: how is known before its store goes, and its going is charged.
    fn stop(&mut self, how: Result<(), Fault>) {
        self.account.end(how);
        self.drop_guest();
    }

    fn drop_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.account.charge(|| drop(guest));
        }
        self.held = None;
    }

    /// Gives the caller the head, or why there is none; if there is anything to say yet.
    fn deliver(&mut self) {
        if self.caller.is_none() {
            return;
        }
        let ended = self.account.ended();
        let delivery = match (ended, self.account.take_answered()) {
            (Some(Err(fault)), _) => Err(fault),
            (None, None) => return,
            (Some(Ok(())), None) => Err(self.account.blamed().unwrap_or(Code::FunctionGaveNoResponse.into())),
            (_, Some(Err(code))) => {
                let gave_none = || Fault::new(Code::FunctionGaveNoResponse).because(format_args!("it answered {code}"));
                Err(self.account.blamed().unwrap_or_else(gave_none))
            }
            (ended, Some(Ok(response))) => answer::check(response, &self.account, &self.method, ended.is_some()),
        };
        if let Err(fault) = &delivery {
            self.stop(Err(fault.clone()));
        }
        if let Some(caller) = self.caller.take() {
            let _ = caller.send(delivery);
        }
    }

    /// When it has to have done the next thing, in milliseconds after the hand-over.
    fn deadline_ms(&self) -> u64 {
        let limits = &self.account.limits;
        match self.caller {
            Some(_) => limits.wall_ms,
            None => self.account.touched_ms().saturating_add(limits.idle_ms).min(TOTAL_MS),
        }
    }

    /// The fault of a deadline that has passed.
    fn too_late(&self, deadline_ms: u64, used_ms: u64) -> Fault {
        let (limit, allowed, used) = match self.caller {
            Some(_) => ("wall_ms", deadline_ms, used_ms),
            None if deadline_ms == TOTAL_MS => ("total_ms", TOTAL_MS, used_ms),
            None => ("idle_ms", self.account.limits.idle_ms, used_ms.saturating_sub(self.account.touched_ms())),
        };
        Fault::new(Code::WallTimeExceeded).over(limit, allowed, used)
    }

    /// Waits for the deadline; ready: it has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let deadline_ms = self.deadline_ms();
            let used_ms = clock::ms(self.account.began.elapsed());
            if used_ms >= deadline_ms {
                return Poll::Ready(self.too_late(deadline_ms, used_ms));
            }
            let at = Instant::from_std(self.account.began) + Duration::from_millis(deadline_ms);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl Future for Charged {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.turn.begins();
        let Some(guest) = this.guest.as_mut() else { return Poll::Ready(()) };
        let polled = this.account.charge(|| guest.as_mut().poll(cx));
        let gave_way = this.account.take_gave_way();
        this.turn.ends(gave_way);
        if polled.is_ready() {
            (this.guest, this.held) = (None, None);
        } else if let Some(fault) = this.account.is_cut().or_else(|| this.account.spent()) {
            this.stop(Err(fault));
        }
        // A tick that falls between a head and its body is no reason to send them apart: it has one more turn.
        if this.guest.is_some() && gave_way && !this.held_back && this.account.has_answered() {
            this.held_back = true;
            return Poll::Pending;
        }
        this.deliver();
        if this.guest.is_none() {
            return Poll::Ready(());
        }
        let fault = ready!(this.poll_deadline(cx));
        this.stop(Err(fault));
        this.deliver();
        Poll::Ready(())
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        // The host panicked, or the caller has left, or the node is stopping: in no case was the answer whole.
        if std::thread::panicking() {
            self.account.end(Err(Fault::new(Code::InternalError).because("a panic")));
        } else {
            self.account.cancel();
        }
        self.drop_guest();
    }
}

/// Charges a future that the guest's thread runs on the guest's behalf, beside the guest.
pub(crate) struct Beside<F> {
    pub(crate) work: Pin<Box<F>>,
    pub(crate) account: Arc<Account>,
}

impl<F: Future> Future for Beside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.account.charge(|| this.work.as_mut().poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use eyot_bundle::release::Limits;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::call::Meter;
    use crate::doors::Closed;

    /// How a guest that waits for ever ends, if it has answered, was handed over that long ago, and sent its last byte just
    /// now or then.
    async fn ends(began_s: u64, sends: bool) -> Option<(&'static str, u64)> {
        let mut account = Account::new(Limits::default(), Arc::new(Closed), Arc::<Meter>::default());
        account.began = std::time::Instant::now().checked_sub(Duration::from_secs(began_s)).expect("a clock that long");
        let account = Arc::new(account);
        if sends {
            account.touch();
        }
        let slot = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("free");
        let held = Held { _witness: Box::new(()), _share: Box::new(()), _slot: Slot { _of_0_3: None, _slot: slot } };
        let (caller, _answer) = oneshot::channel();
        let guest = std::future::pending();
        let mut charged = Charged::new(guest, Arc::clone(&account), Method::GET, caller, Turn::here(), held);
        charged.caller = None;
        let _ = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut charged).poll(cx))).await;
        account.ended().map(|how| {
            let fault = how.expect_err("it waits for ever");
            assert_eq!(fault.code, Code::WallTimeExceeded);
            fault.limit.map(|limit| (limit.name, limit.allowed)).expect("a limit")
        })
    }

    #[tokio::test]
    async fn a_guest_that_sends_on_and_on_ends_ten_minutes_after_it_was_handed_its_request() {
        assert_eq!(ends(30, false).await, None);
        assert_eq!(ends(70, false).await, Some(("idle_ms", 60_000)));
        assert_eq!(ends(70, true).await, None);
        assert_eq!(ends(599, true).await, None);
        assert_eq!(ends(601, true).await, Some(("total_ms", 600_000)));
    }
}
