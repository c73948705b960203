//! What each app may use of this node, over all its calls: CPU per second, memory, calls at once, log bytes.
//!
//! A share outlives releases: publishing again neither pays a debt nor gives memory back. It knows no request and no
//! release; an app's share is made of its grant and of what the node has.

mod routes;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eyot_bundle::grant;
use eyot_bundle::name::Name;
use eyot_guest::{Entering, Limit, Rate, Rated, slots_below};
use eyot_plan::allowance::Allowance;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::DEPTH_MAX;
use eyot_plan::windows::{Counted, Key, Windows};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::telemetry::Telemetry;
use routes::Routes;

/// Log bytes of one app a second.
const LOG_BYTES_PER_SECOND: u64 = 64 << 10;
/// Log bytes of one app at once.
const LOG_BYTES_BURST: u64 = 1 << 20;

/// Keys that one app counts at once (`eyot:edge/rate-limit`).
const WINDOWS_MAX: usize = 20_000;

/// What a node has for the functions of all apps.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Calls at once, of all apps: an app holds no larger part of them than of the memory.
    pub slots: u32,
    /// Guest threads: each gives a second of CPU a second.
    pub threads: usize,
    /// Memory of all calls together, in bytes (`guest_memory_max`).
    pub memory_bytes: u64,
    /// How long a call may wait for its share.
    pub wait: Duration,
    /// Calls of one app that may wait.
    pub waiting_max: usize,
}

/// The shares of all apps.
pub struct Shares {
    capacity: Capacity,
    telemetry: Arc<Telemetry>,
    /// The clock of all allowances.
    start: Instant,
    apps: Mutex<HashMap<Name, Arc<Inner>>>,
}

impl Shares {
    /// Shares of what a node has.
    pub fn new(capacity: Capacity, telemetry: Arc<Telemetry>) -> Self {
        Self { capacity, telemetry, start: Instant::now(), apps: Mutex::default() }
    }

    /// The share of `app`, from now on as `granted` says. What it has used stays used.
    pub fn of(&self, app: &Name, granted: &grant::Share) -> Arc<Share> {
        let mut apps = lock(&self.apps);
        let inner = apps.entry(app.clone()).or_insert_with(|| Arc::new(Inner::new(self)));
        inner.set(&self.capacity, granted);
        Arc::new(Share(Arc::clone(inner)))
    }
}

/// One app's share.
pub struct Share(Arc<Inner>);

struct Inner {
    start: Instant,
    wait: Duration,
    waiting_max: usize,
    /// Calls that wait.
    waiting: AtomicUsize,
    /// CPU, in microseconds.
    cpu: Mutex<Allowance>,
    /// Log bytes.
    log: Mutex<Allowance>,
    /// What its functions count.
    windows: Mutex<Windows>,
    /// What its routes count and use.
    routes: Routes,
    memory_bytes: AtomicU64,
    memory_bytes_max: AtomicU64,
    /// Calls at once: how many, and their permits.
    calls: Mutex<(usize, Arc<Semaphore>)>,
    /// The same of those that are called by name, by depth from 1 on. Each depth has its own: who is called never waits for
    /// a permit that one who waits for it holds.
    below: Mutex<Vec<(usize, Arc<Semaphore>)>>,
    telemetry: Arc<Telemetry>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `part` of `whole`, for a part from 0 to 1.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn part_of(whole: u64, part: f64) -> u64 {
    (whole as f64 * part.clamp(0.0, 1.0)) as u64
}

impl Inner {
    fn new(shares: &Shares) -> Self {
        Self {
            start: shares.start,
            wait: shares.capacity.wait,
            waiting_max: shares.capacity.waiting_max,
            waiting: AtomicUsize::new(0),
            cpu: Mutex::new(Allowance::new(0, 0, 0)),
            log: Mutex::new(Allowance::new(LOG_BYTES_PER_SECOND, LOG_BYTES_BURST, 0)),
            windows: Mutex::new(Windows::new(WINDOWS_MAX)),
            routes: Routes::default(),
            memory_bytes: AtomicU64::new(0),
            memory_bytes_max: AtomicU64::new(0),
            calls: Mutex::new((0, Arc::new(Semaphore::new(0)))),
            below: Mutex::default(),
            telemetry: Arc::clone(&shares.telemetry),
        }
    }

    fn set(&self, capacity: &Capacity, granted: &grant::Share) {
        let cpu_us_per_second = part_of(capacity.threads as u64 * 1_000_000, granted.cpu);
        let now_us = self.now_us();
        let mut cpu = lock(&self.cpu);
        if lock(&self.calls).0 == 0 {
            *cpu = Allowance::new(cpu_us_per_second, cpu_us_per_second, now_us);
        } else {
            cpu.set(cpu_us_per_second, cpu_us_per_second, now_us);
        }
        self.memory_bytes_max.store(part_of(capacity.memory_bytes, granted.memory), Ordering::Relaxed);
        // Zero would be a share that lets nothing in; an app that may not run is suspended instead.
        let at_once = |slots: u32| {
            let slots = part_of(slots.into(), granted.memory);
            let calls = usize::try_from(slots.min(granted.concurrency.into())).unwrap_or(usize::MAX);
            calls.clamp(1, Semaphore::MAX_PERMITS)
        };
        allow(&mut lock(&self.calls), at_once(capacity.slots));
        let mut below = lock(&self.below);
        below.resize_with(usize::from(DEPTH_MAX - 1), || (0, Arc::new(Semaphore::new(0))));
        for (depth, calls) in (1..DEPTH_MAX).zip(below.iter_mut()) {
            allow(calls, at_once(slots_below(capacity.slots, depth)));
        }
    }

    /// Lets a call in that is called by name. Its tree was let in, so it pays no debt: what runs goes on.
    async fn enter_below(self: Arc<Self>, depth: u8) -> Result<Box<dyn Send>, Fault> {
        let level = usize::from(depth).checked_sub(1).and_then(|level| lock(&self.below).get(level).cloned());
        let (_, permits) = level.ok_or_else(|| Fault::new(Code::LoopDetected).because("called too deep"))?;
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Ok(Box::new(permit));
        }
        let _place = Place::take(&self)?;
        let permit = tokio::time::timeout(self.wait, permits.acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(|| spent("its calls of each other at once"))?;
        Ok(Box::new(permit))
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Waits for a permit and for an allowance that is not in debt, together no longer than `wait`.
    async fn enter(self: Arc<Self>) -> Result<Box<dyn Send>, Fault> {
        let began = Instant::now();
        let entered = self.clone().wait(began).await;
        self.telemetry.queued(began.elapsed());
        entered
    }

    async fn wait(self: Arc<Self>, began: Instant) -> Result<Box<dyn Send>, Fault> {
        let permits = Arc::clone(&lock(&self.calls).1);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = Place::take(&self)?;
                let permit = tokio::time::timeout_at(began + self.wait, permits.acquire_owned()).await;
                permit.ok().and_then(Result::ok).ok_or_else(|| spent("its calls at once"))?
            }
        };
        let owed = lock(&self.cpu).wait_us(self.now_us());
        if owed > 0 {
            let _place = Place::take(&self)?;
            self.pay(owed, began).await?;
        }
        Ok(Box::new(permit))
    }

    /// Waits until the allowance is out of debt.
    async fn pay(&self, mut owed_us: u64, began: Instant) -> Result<(), Fault> {
        while owed_us > 0 {
            let until = Instant::now() + Duration::from_micros(owed_us.min(60_000_000));
            if until > began + self.wait {
                let mut fault = spent("its CPU per second");
                fault.retry_after = Some(u32::try_from((owed_us / 1000).div_ceil(1000)).unwrap_or(u32::MAX).min(60));
                return Err(fault);
            }
            tokio::time::sleep_until(until).await;
            owed_us = lock(&self.cpu).wait_us(self.now_us());
        }
        Ok(())
    }
}

/// So many calls at once from now on.
fn allow(calls: &mut (usize, Arc<Semaphore>), concurrency: usize) {
    if calls.0 != concurrency {
        *calls = (concurrency, Arc::new(Semaphore::new(concurrency)));
    }
}

fn spent(what: &str) -> Fault {
    Fault::new(Code::AllowanceSpent).because(what)
}

/// A place among those who wait, until it is dropped.
struct Place<'a>(&'a Inner);

impl<'a> Place<'a> {
    fn take(inner: &'a Inner) -> Result<Self, Fault> {
        let place = Self(inner);
        if inner.waiting.fetch_add(1, Ordering::Relaxed) >= inner.waiting_max {
            return Err(spent("too many of its calls wait"));
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Whether `bytes` may go to the log now.
    pub fn log(&self, bytes: usize) -> bool {
        let taken = lock(&self.0.log).take(bytes as u64, self.0.now_us());
        if !taken {
            self.0.telemetry.log_dropped("function", 1);
        }
        taken
    }
}

impl Share {
    /// Counts for a function of the app.
    pub fn rate(&self, rate: &Rate<'_>) -> Rated {
        let Rate { key, limit, window_ms, cost } = *rate;
        let key = Key { key: key.to_owned(), limit, window_ms };
        let Counted { allowed, remaining, reset_ms } = lock(&self.0.windows).take(&key, cost, self.0.now_us() / 1000);
        Rated { allowed, remaining, reset_ms }
    }
}

impl Limit for Share {
    fn memory(&self, bytes: u64) -> bool {
        let max = self.0.memory_bytes_max.load(Ordering::Relaxed);
        let grown = |used: u64| used.checked_add(bytes).filter(|grown| *grown <= max);
        self.0.memory_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    fn memory_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.0.memory_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn cpu(&self, us: u64) -> bool {
        lock(&self.0.cpu).draw(us, self.0.now_us())
    }

    fn enter(&self) -> Entering {
        Box::pin(Arc::clone(&self.0).enter())
    }

    fn enter_below(&self, depth: u8) -> Entering {
        Box::pin(Arc::clone(&self.0).enter_below(depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(wait_ms: u64) -> Shares {
        let capacity = Capacity {
            slots: 100,
            threads: 2,
            memory_bytes: 1000,
            wait: Duration::from_millis(wait_ms),
            waiting_max: 1,
        };
        Shares::new(capacity, Arc::new(Telemetry::new()))
    }

    fn app(name: &str) -> Name {
        name.parse().expect("a name")
    }

    fn granted(cpu: f64, memory: f64, concurrency: u32) -> grant::Share {
        grant::Share { cpu, memory, concurrency, ..grant::Share::default() }
    }

    #[test]
    fn memory_is_shared_by_all_calls_of_an_app_and_given_back() {
        let shares = shares(0);
        let share = shares.of(&app("a"), &granted(0.5, 0.5, 1));
        assert!(share.memory(500) && !share.memory(1));
        assert!(shares.of(&app("b"), &granted(0.5, 0.5, 1)).memory(500), "another app has its own");
        let later = shares.of(&app("a"), &granted(0.5, 0.6, 1));
        assert!(later.memory(100) && !later.memory(1), "a new release does not forget what is used");
        share.memory_back(600);
        assert!(share.memory(600));
    }

    #[tokio::test(start_paused = true)]
    async fn what_functions_count_is_counted_for_their_app_across_releases() {
        let shares = shares(0);
        let count = |name: &str| {
            let rate = Rate { key: "user", limit: 2, window_ms: 1_000, cost: 1 };
            shares.of(&app(name), &granted(1.0, 1.0, 1)).rate(&rate)
        };
        assert_eq!(count("a"), Rated { allowed: true, remaining: 1, reset_ms: 1_000 });
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(count("a"), Rated { allowed: true, remaining: 0, reset_ms: 600 });
        assert_eq!(count("a"), Rated { allowed: false, remaining: 0, reset_ms: 600 });
        assert!(count("b").allowed, "another app has its own");
        tokio::time::advance(Duration::from_millis(600)).await;
        assert!(count("a").allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_in_debt_is_let_in_when_it_has_paid_and_refused_when_that_takes_too_long() {
        let shares = shares(1000);
        let share = shares.of(&app("a"), &granted(0.5, 0.5, 8));
        drop(share.enter().await.expect("a full bucket"));
        assert!(!share.cpu(5_000_000));
        let fault = share.enter().await.map(drop).expect_err("four seconds of debt");
        assert_eq!((fault.code, fault.retry_after), (Code::AllowanceSpent, Some(4)));
        assert!(shares.of(&app("a"), &granted(0.5, 0.5, 8)).enter().await.is_err(), "a new release pays no debt");
        let other = shares.of(&app("b"), &granted(0.5, 0.5, 8));
        assert!(other.enter().await.is_ok(), "another app has its own");
        assert!(!other.cpu(1_500_000));
        assert!(other.enter().await.is_ok(), "half a second of debt is waited out");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_over_the_concurrency_wait_briefly_in_a_bounded_queue() {
        let share = shares(1000).of(&app("a"), &granted(1.0, 1.0, 1));
        let held = share.enter().await.expect("free");
        let (one, two) = tokio::join!(share.enter(), share.enter());
        assert_eq!(one.map(drop).expect_err("none came free").cause.as_deref(), Some("its calls at once"));
        assert_eq!(two.map(drop).expect_err("one waits").cause.as_deref(), Some("too many of its calls wait"));
        let (waited, ()) = tokio::join!(share.enter(), async { drop(held) });
        assert!(waited.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_app_holds_a_larger_part_of_the_slots_than_of_the_memory_whatever_it_was_granted_at_once() {
        let share = shares(0).of(&app("a"), &granted(1.0, 0.02, 512));
        let held = (share.enter().await, share.enter().await);
        assert!(held.0.is_ok() && held.1.is_ok());
        assert!(share.enter().await.is_err(), "the third of two in a hundred");
    }

    #[test]
    fn an_app_that_floods_the_log_is_cut_off_and_counted() {
        let share = shares(0).of(&app("a"), &granted(1.0, 1.0, 1));
        let taken = (0..1000).filter(|_| share.log(4096)).count();
        assert!((256..300).contains(&taken), "{taken}");
        assert!(share.0.telemetry.render().contains(r#"eyot_log_dropped_total{log="function"}"#));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_called_by_name_never_waits_for_what_its_callers_hold_and_an_app_has_its_part_at_each_depth() {
        let share = shares(1000).of(&app("a"), &granted(1.0, 0.02, 1));
        let mut held = vec![share.enter().await.expect("free")];
        for depth in 1..DEPTH_MAX {
            held.push(share.enter_below(depth).await.expect("free, though all above it are taken"));
        }
        assert!(!share.cpu(5_000_000), "in debt");
        let fault = share.enter_below(1).await.map(drop).expect_err("it has one at each depth");
        assert_eq!(
            (fault.code, fault.cause.as_deref()),
            (Code::AllowanceSpent, Some("its calls of each other at once"))
        );
        drop(held);
        assert!(share.enter_below(1).await.is_ok(), "a tree that was let in pays no debt");
        let deep = share.enter_below(DEPTH_MAX).await.map(drop).expect_err("too deep");
        assert_eq!(deep.code, Code::LoopDetected);
    }
}
