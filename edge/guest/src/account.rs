//! The account of one call: what it has spent, what it has answered, and how it ended. The guest's thread writes it, the
//! response's body reads it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use eyot_bundle::release::Limits;
use eyot_plan::fault::{Code, Fault};
use http::Response;
use wasmtime_wasi_http::WasiBody;

use crate::call::{Meter, Remaining};
use crate::clock;
use crate::doors::Limit;
use crate::tree::{Sender, Tree};

/// What a guest answered; or the error it gave instead, by name.
pub(crate) type Answered = Result<Response<WasiBody>, String>;

/// The account of one call.
pub(crate) struct Account {
    /// Its budget.
    pub(crate) limits: Limits,
    /// The app's share, which CPU is drawn from.
    pub(crate) share: Arc<dyn Limit>,
    /// What the caller reads.
    pub(crate) meter: Arc<Meter>,
    /// When it was handed over.
    pub(crate) began: Instant,
    /// What it spends is spent by its tree too.
    pub(crate) tree: Arc<Tree>,
    /// How deep in its tree it is.
    pub(crate) depth: u8,
    /// CPU that is settled, in nanoseconds.
    used_ns: AtomicU64,
    /// The thread's clock when that was, or when the poll under way began, in nanoseconds.
    settled_ns: AtomicU64,
    /// When a byte last went either way, in milliseconds after `began`.
    touched_ms: AtomicU64,
    /// The last poll ended in a yield: it can go on at once.
    yielded: AtomicBool,
    /// Bodies on their way to the guest that have not ended.
    flows: AtomicUsize,
    story: Mutex<Story>,
}

/// Says that this thread runs the guest no longer, even if the work panicked.
struct Off<'a>(&'a dyn Limit);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.on_thread(false);
    }
}

/// What has happened.
#[derive(Default)]
struct Story {
    /// The head it has given, until it is delivered.
    answered: Option<Answered>,
    /// What is to blame if it now fails: it saw this as an error first.
    blame: Option<Fault>,
    /// What ends it at the next chance.
    cut: Option<Fault>,
    /// How it ended; set before its store is dropped.
    ended: Option<Result<(), Fault>>,
}

impl Account {
    pub(crate) fn new(limits: Limits, share: Arc<dyn Limit>, meter: Arc<Meter>) -> Self {
        Self {
            limits,
            share,
            meter,
            began: Instant::now(),
            tree: Tree::new(Remaining { cpu_us: limits.cpu_us, subrequests: limits.subrequests }, None),
            depth: 0,
            used_ns: AtomicU64::new(0),
            settled_ns: AtomicU64::new(0),
            touched_ms: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
            flows: AtomicUsize::new(0),
            story: Mutex::default(),
        }
    }

    /// The same, as a call at `depth` of `tree`; at depth 0 as the root of its own within that.
    pub(crate) fn within(mut self, tree: Option<Arc<Tree>>, depth: u8) -> Self {
        let own = Remaining { cpu_us: self.limits.cpu_us, subrequests: self.limits.subrequests };
        self.tree = match tree {
            Some(tree) if depth > 0 => tree,
            tree => Tree::new(own, tree),
        };
        self.depth = depth;
        self
    }

    /// Charges what `work` takes of this thread, in CPU.
    pub(crate) fn charge<T>(&self, work: impl FnOnce() -> T) -> T {
        self.settled_ns.store(clock::thread_ns(), Ordering::Relaxed);
        self.share.on_thread(true);
        let _off = Off(&*self.share);
        let done = work();
        self.settle();
        done
    }

    /// Charges the work under way up to now, to the call, its tree and its app. Only within work that is being charged.
    fn settle(&self) {
        let now_ns = clock::thread_ns();
        let ns = now_ns.saturating_sub(self.settled_ns.swap(now_ns, Ordering::Relaxed));
        let before_ns = self.used_ns.fetch_add(ns, Ordering::Relaxed);
        self.meter.add_cpu_ns(ns);
        self.tree.spend_cpu_ns(ns);
        let us = (before_ns + ns) / 1000 - before_ns / 1000;
        if us > 0 {
            // The allowance may go into debt: this call goes on within its own budget, the next one waits.
            let _ = self.share.cpu(us);
        }
    }

    /// CPU spent, without the work that is being charged, in microseconds.
    fn used_us(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed) / 1000
    }

    /// Between two pieces of work: the fault of a spent budget, its own or its tree's, if one is spent.
    pub(crate) fn spent(&self) -> Option<Fault> {
        let (most, used) = (self.limits.cpu_us, self.used_us());
        let (allowed, used) = if used > most { (most, used) } else { self.tree.overrun()? };
        Some(Fault::new(Code::CpuBudgetExceeded).over("cpu_us", allowed, used))
    }

    /// Within a piece of work, at each tick: the same.
    pub(crate) fn spent_under_way(&self) -> Option<Fault> {
        self.settle();
        self.spent()
    }

    /// What is left for whom it asks.
    pub(crate) fn remaining(&self) -> Remaining {
        let asked = u32::try_from(self.meter.subrequests()).unwrap_or(u32::MAX);
        let own = Remaining {
            cpu_us: self.limits.cpu_us.saturating_sub(self.used_us()),
            subrequests: self.limits.subrequests.saturating_sub(asked),
        };
        own.min(self.tree.remaining())
    }

    /// Counts one more outbound request, if there is one left of its own and of its tree's.
    pub(crate) fn ask(&self) -> Result<Sender, Fault> {
        let left = self.remaining();
        if left.subrequests == 0 || !self.tree.take(1) {
            let used = self.meter.subrequests();
            return Err(Fault::new(Code::SubrequestsExceeded).over("subrequests", used, used + 1));
        }
        self.meter.add_subrequest();
        let remaining = Remaining { subrequests: left.subrequests - 1, ..left };
        Ok(Sender { tree: Arc::clone(&self.tree), depth: self.depth, remaining })
    }

    /// A byte went either way.
    pub(crate) fn touch(&self) {
        self.touched_ms.store(clock::ms(self.began.elapsed()), Ordering::Relaxed);
    }

    /// When a byte last went either way, in milliseconds after `began`.
    pub(crate) fn touched_ms(&self) -> u64 {
        self.touched_ms.load(Ordering::Relaxed)
    }

    /// The guest gave way and can go on at once.
    pub(crate) fn gave_way(&self) {
        self.yielded.store(true, Ordering::Relaxed);
    }

    /// Whether it gave way since this was last asked.
    pub(crate) fn take_gave_way(&self) -> bool {
        self.yielded.swap(false, Ordering::Relaxed)
    }

    /// A body begins or ends on its way to the guest.
    pub(crate) fn flows(&self, begins: bool) {
        if begins {
            self.flows.fetch_add(1, Ordering::Relaxed)
        } else {
            self.flows.fetch_sub(1, Ordering::Relaxed)
        };
    }

    /// Whether any body is on its way to the guest.
    pub(crate) fn has_flows(&self) -> bool {
        self.flows.load(Ordering::Relaxed) > 0
    }

    /// The guest answered.
    pub(crate) fn answer(&self, answered: Answered) {
        self.story().answered.get_or_insert(answered);
    }

    /// Whether there is an answer that was not taken.
    pub(crate) fn has_answered(&self) -> bool {
        self.story().answered.is_some()
    }

    /// What it answered, once.
    pub(crate) fn take_answered(&self) -> Option<Answered> {
        self.story().answered.take()
    }

    /// The guest is told of this as an error; if it then fails, this is why. The first one counts.
    pub(crate) fn blame(&self, fault: Fault) {
        self.story().blame.get_or_insert(fault);
    }

    /// What is to blame, if anything.
    pub(crate) fn blamed(&self) -> Option<Fault> {
        self.story().blame.clone()
    }

    /// Ends the guest at the next chance.
    pub(crate) fn cut(&self, fault: Fault) {
        self.story().cut.get_or_insert(fault);
    }

    /// What ends it, if anything.
    pub(crate) fn is_cut(&self) -> Option<Fault> {
        self.story().cut.clone()
    }

    /// It has ended. The first end counts.
    pub(crate) fn end(&self, how: Result<(), Fault>) {
        let mut story = self.story();
        if let (None, Err(fault)) = (&story.ended, &how) {
            self.meter.ended_in(fault);
        }
        story.ended.get_or_insert(how);
    }

    /// It is ended because nobody waits for it any longer: what it wrote is not whole, but that is no fault of a request.
    pub(crate) fn cancel(&self) {
        let cancelled = Fault::new(Code::NotReady).because("it was cancelled");
        self.story().ended.get_or_insert(Err(cancelled));
    }

    /// Whether what it wrote can be trusted to be what it meant: it has neither failed nor is it about to be ended.
    pub(crate) fn failed(&self) -> Option<Fault> {
        let story = self.story();
        story.ended.clone().and_then(Result::err).or_else(|| story.cut.clone())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Result<(), Fault>> {
        self.story().ended.clone()
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
