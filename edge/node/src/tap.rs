//! The tap: what is told of an app as it happens, to those who follow it. It never holds up what it tells of: a
//! follower who is slow loses lines, which are counted. When nobody follows, nothing is even put together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eyot_bundle::name::Name;
use eyot_link::tail::{LINES_MAX, Line, Lost};
use tokio::sync::mpsc;

/// Followers at once.
const FOLLOWERS_MAX: usize = 64;
/// What functions say takes at most this many of the places of lines that wait: one that floods its log does not hide
/// its requests and faults.
const SAID_MAX: usize = LINES_MAX / 2;

/// Where lines are told.
#[derive(Debug, Default)]
pub struct Tap {
    /// How many follow, so that a request that nobody follows looks at nothing else.
    count: AtomicUsize,
    followers: Mutex<Vec<Arc<Follower>>>,
}

#[derive(Debug)]
struct Follower {
    /// None: all apps.
    app: Option<Name>,
    lines: mpsc::Sender<Line>,
    /// Lines that found no room since the last that did.
    lost: AtomicU64,
}

/// The lines of one follower, who is gone when this is dropped.
#[derive(Debug)]
pub struct Following {
    tap: Arc<Tap>,
    me: Arc<Follower>,
    lines: mpsc::Receiver<Line>,
    /// A line that waits until it was said what is missing before it.
    held: Option<Line>,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Follower>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `app`; none: all apps. `None`: too many follow already.
    pub fn follow(self: &Arc<Self>, app: Option<Name>) -> Option<Following> {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let me = Arc::new(Follower { app, lines: sender, lost: AtomicU64::new(0) });
        let mut followers = self.lock();
        if followers.len() >= FOLLOWERS_MAX {
            return None;
        }
        followers.push(Arc::clone(&me));
        self.count.store(followers.len(), Ordering::Release);
        drop(followers);
        Some(Following { tap: Arc::clone(self), me, lines, held: None })
    }

    /// Tells what `line` puts together to those who follow `app`; nothing is put together when nobody does.
    pub(crate) fn tell(&self, app: &str, line: impl FnOnce() -> Line) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let followers: Vec<_> = self.lock().iter().filter(|follower| follower.hears(app)).cloned().collect();
        let Some((last, others)) = followers.split_last() else { return };
        let line = line();
        others.iter().for_each(|follower| follower.take(line.clone()));
        last.take(line);
    }
}

impl Follower {
    fn hears(&self, app: &str) -> bool {
        self.app.as_ref().is_none_or(|name| name.as_str() == app)
    }

    fn take(&self, line: Line) {
        let is_full = matches!(line, Line::Log(_)) && self.lines.capacity() <= LINES_MAX - SAID_MAX;
        if is_full || self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Following {
    /// The next line, as soon as there is one. Safe to drop and call again.
    pub async fn next(&mut self) -> Line {
        if let Some(line) = self.held.take() {
            return line;
        }
        match self.lines.recv().await {
            Some(line) => self.after_lost(line),
            // The sender lives as long as this does.
            None => std::future::pending().await,
        }
    }

    /// The next line, if there is one now.
    pub fn now(&mut self) -> Option<Line> {
        let line = self.held.take();
        line.or_else(|| self.lines.try_recv().ok().map(|line| self.after_lost(line)))
    }

    /// What is said first where lines are missing. They went missing after those that waited, so their place is told
    /// only roughly.
    fn after_lost(&mut self, line: Line) -> Line {
        match self.me.lost.swap(0, Ordering::Relaxed) {
            0 => line,
            lines => {
                self.held = Some(line);
                Line::Lost(Lost { lines })
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followers = self.tap.lock();
        followers.retain(|follower| !Arc::ptr_eq(follower, &self.me));
        self.tap.count.store(followers.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use eyot_link::tail::Said;
    use jiff::Timestamp;

    use super::*;

    fn numbered(lines: u64) -> Line {
        Line::Lost(Lost { lines })
    }

    #[tokio::test]
    async fn who_follows_an_app_hears_of_it_and_of_no_other_and_nothing_is_put_together_for_nobody() {
        let tap = Arc::new(Tap::default());
        tap.tell("shop", || panic!("nobody follows"));
        let mut shop = tap.follow(Some("shop".parse().expect("a name"))).expect("room");
        let mut all = tap.follow(None).expect("room");
        tap.tell("shop", || numbered(1));
        tap.tell("books", || numbered(2));
        assert_eq!((all.next().await, all.next().await), (numbered(1), numbered(2)));
        assert_eq!((shop.next().await, shop.now()), (numbered(1), None));
        drop(all);
        tap.tell("books", || panic!("nobody follows that any more"));
        drop(shop);
        tap.tell("shop", || panic!("nobody follows any more"));
    }

    #[test]
    fn lines_over_2048_that_wait_are_dropped_and_how_many_is_said() {
        let tap = Arc::new(Tap::default());
        let mut slow = tap.follow(None).expect("room");
        let count = u64::try_from(LINES_MAX).expect("small");
        (0..count + 7).for_each(|number| tap.tell("shop", || numbered(1000 + number)));
        assert_eq!(slow.now(), Some(numbered(7)));
        let rest = std::iter::from_fn(|| slow.now()).count();
        assert_eq!((rest, LINES_MAX), (LINES_MAX, 2048));
    }

    #[test]
    fn a_function_that_floods_its_log_leaves_room_for_its_requests_and_faults() {
        let tap = Arc::new(Tap::default());
        let mut slow = tap.follow(None).expect("room");
        let said = || {
            Line::Log(Said {
                time: Timestamp::UNIX_EPOCH,
                id: String::new(),
                app: "shop".to_owned(),
                function: "flood".to_owned(),
                release: 1,
                stream: "stdout".to_owned(),
                level: None,
                context: None,
                text: "a line".to_owned(),
            })
        };
        (0..LINES_MAX + 7).for_each(|_| tap.tell("shop", said));
        tap.tell("shop", || numbered(3000));
        let lost = u64::try_from(LINES_MAX - SAID_MAX + 7).expect("small");
        assert_eq!(slow.now(), Some(numbered(lost)));
        let lines: Vec<_> = std::iter::from_fn(|| slow.now()).collect();
        assert_eq!((lines.len(), lines.last()), (SAID_MAX + 1, Some(&numbered(3000))));
    }

    #[test]
    fn no_more_than_64_follow_and_one_who_leaves_makes_room() {
        let tap = Arc::new(Tap::default());
        let mut all: Vec<_> = (0..FOLLOWERS_MAX).map(|_| tap.follow(None).expect("room")).collect();
        assert!(tap.follow(None).is_none());
        assert_eq!(FOLLOWERS_MAX, 64);
        all.pop();
        assert!(tap.follow(None).is_some());
    }
}
