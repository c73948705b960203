//! How often one app may purge. Beyond that all who ask within a second get one purge of the whole app.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::denied::Denied;

/// Purges of one app that may come at once.
pub(super) const BURST: u32 = 100;
/// Purges of one app a second, for long.
pub(super) const PER_SECOND: u32 = 10;
/// Purges of the whole app for those who purge too often come no nearer to each other.
const APART: Duration = Duration::from_secs(1);
/// So many wait for one at most.
const WAITING_MAX: usize = 256;

/// The pace of one app.
#[derive(Debug)]
pub(super) struct Pace {
    /// What is left, in purges, and when that was so.
    left: Mutex<(f64, Instant)>,
    /// The last purge for all: when it began, its number, and whether it was soft.
    together: tokio::sync::Mutex<Option<(Instant, u64, bool)>>,
    waiting: Semaphore,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            left: Mutex::new((f64::from(BURST), Instant::now())),
            together: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl Pace {
    /// Whether one more may come; it is counted.
    pub(super) fn has_room(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(left.1).as_secs_f64() * f64::from(PER_SECOND);
        *left = ((left.0 + gained).min(f64::from(BURST)), now);
        let has_room = left.0 >= 1.0;
        if has_room {
            left.0 -= 1.0;
        }
        has_room
    }

    /// The number of a purge that began after this was asked and is as hard: another's, or `purge`'s.
    pub(super) async fn together<F>(&self, soft: bool, purge: impl FnOnce() -> F) -> Result<u64, Denied>
    where
        F: Future<Output = Result<u64, Denied>>,
    {
        let asked = Instant::now();
        let _waiting = self.waiting.try_acquire().map_err(|_| {
            let detail = format!("{WAITING_MAX} purges of this app wait already; each is one of the whole app");
            Denied::request(StatusCode::TOO_MANY_REQUESTS, "rate", detail)
        })?;
        let mut last = self.together.lock().await;
        match *last {
            Some((began, n, was_soft)) if began > asked && (soft || !was_soft) => return Ok(n),
            Some((began, ..)) => tokio::time::sleep_until(began + APART).await,
            None => {}
        }
        let began = Instant::now();
        let n = purge().await?;
        *last = Some((began, n, soft));
        Ok(n)
    }
}
