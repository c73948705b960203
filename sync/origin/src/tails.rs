//! Who follows which app, and what nodes bring of it. It lives in memory, as long as its follower: nothing of it is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use eyot_bundle::name::Name;
use eyot_link::tail::{FOLLOW_S_MAX, LINE_BYTES_MAX, Line, Lost, Tail, Told};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use crate::denied::Denied;

/// Followers at once.
const FOLLOWERS_MAX: usize = 256;
/// Followers of one app at once.
const FOLLOWERS_PER_APP_MAX: usize = 8;
/// What waits for one follower is at most this, in bytes; lines beyond are dropped and counted.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// What functions say takes at most so much of it: one that floods its log does not hide its requests and faults.
const SAID_BYTES_MAX: usize = WAITING_BYTES_MAX / 2;

/// All that is followed. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tails(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: Mutex<BTreeMap<String, Arc<Open>>>,
    orders: watch::Sender<Arc<Vec<Tail>>>,
}

/// What one follower follows.
#[derive(Debug)]
struct Open {
    order: Tail,
    waiting: Mutex<Waiting>,
    told: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Bytes>,
    bytes: usize,
    lost: u64,
}

/// One follower's end; dropped, nobody follows any more.
#[derive(Debug)]
pub(crate) struct Follower {
    tails: Tails,
    open: Arc<Open>,
}

impl Default for Tails {
    fn default() -> Self {
        Self(Arc::new(Inner { open: Mutex::default(), orders: watch::Sender::new(Arc::default()) }))
    }
}

impl Tails {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Open>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What nodes are to send; those that are there already count as news.
    pub(crate) fn orders(&self) -> watch::Receiver<Arc<Vec<Tail>>> {
        let mut orders = self.0.orders.subscribe();
        orders.mark_changed();
        orders
    }

    fn order(&self, open: &BTreeMap<String, Arc<Open>>) {
        let orders = open.values().map(|open| open.order.clone()).collect();
        self.0.orders.send_replace(Arc::new(orders));
    }

    /// Follows `app` from `now` on, for an hour.
    pub(crate) fn follow(&self, app: Name, now: Timestamp) -> Result<Follower, Denied> {
        let full = |count: usize, of: &str| {
            let detail = format!("{count} follow {of} already; try again when one of them has ended");
            Denied::request(StatusCode::TOO_MANY_REQUESTS, "followers", detail)
        };
        let mut all = self.lock();
        if all.len() >= FOLLOWERS_MAX {
            return Err(full(FOLLOWERS_MAX, "apps"));
        }
        if all.values().filter(|open| open.order.app == app).count() >= FOLLOWERS_PER_APP_MAX {
            return Err(full(FOLLOWERS_PER_APP_MAX, &format!("`{app}`")));
        }
        let until = now.saturating_add(SignedDuration::from_secs(FOLLOW_S_MAX)).unwrap_or(Timestamp::MAX);
        let order = Tail { id: id()?, app, until };
        let open = Arc::new(Open { order, waiting: Mutex::default(), told: Notify::new() });
        all.insert(open.order.id.clone(), Arc::clone(&open));
        self.order(&all);
        drop(all);
        Ok(Follower { tails: self.clone(), open })
    }

    /// Takes what `node` brings for the follower `id`: lines of the app that is followed, and no others.
    pub(crate) fn tell(&self, id: &str, node: &Name, lines: &[u8]) -> Result<(), Denied> {
        let open = self.lock().get(id).cloned();
        let open = open.ok_or_else(|| Denied::not_found("nobody follows that any more"))?;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = read(line, &open.order.app)?;
            open.put(&Told { node: node.to_string(), line });
        }
        open.told.notify_one();
        Ok(())
    }
}

/// Reads one line.
fn read(line: &[u8], app: &Name) -> Result<Line, Denied> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Denied::malformed(format!("a line has more than {LINE_BYTES_MAX} bytes")));
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| Denied::malformed(error.to_string()))?;
    let of = match &line {
        Line::Activated(it) => &it.app,
        Line::Fault(it) => &it.app,
        Line::Log(it) => &it.app,
        Line::Lost(_) => app.as_str(),
        Line::Refused(it) => &it.app,
        Line::Request(it) => &it.app,
    };
    if of == app.as_str() { Ok(line) } else { Err(Denied::malformed(format!("a line is not of `{app}`"))) }
}

/// 128 random bits, in hexadecimal digits.
fn id() -> Result<String, Denied> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Denied::Failed("the system gives no random bytes".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, told: &Told) {
        let mut bytes = serde_json::to_vec(told).unwrap_or_default();
        bytes.push(b'\n');
        let max = if matches!(told.line, Line::Log(_)) { SAID_BYTES_MAX } else { WAITING_BYTES_MAX };
        let mut waiting = self.lock();
        if waiting.bytes + bytes.len() > max {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += bytes.len();
        waiting.lines.push_back(bytes.into());
    }
}

impl Follower {
    /// Until when.
    pub(crate) fn until(&self) -> Timestamp {
        self.open.order.until
    }

    /// The next line, with its end. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            let told = self.open.told.notified();
            if let Some(line) = self.now() {
                return line;
            }
            told.await;
        }
    }

    fn now(&self) -> Option<Bytes> {
        let mut waiting = self.open.lock();
        if let Some(line) = waiting.lines.pop_front() {
            waiting.bytes -= line.len();
            return Some(line);
        }
        // They came after all that waited.
        let lines = std::mem::take(&mut waiting.lost);
        drop(waiting);
        let lost = (lines > 0).then(|| Line::Lost(Lost { lines }).encode()).flatten();
        lost.map(Bytes::from)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut all = self.tails.lock();
        all.remove(&self.open.order.id);
        self.tails.order(&all);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn follow(tails: &Tails, app: &str) -> Follower {
        tails.follow(name(app), Timestamp::UNIX_EPOCH).unwrap_or_else(|denied| panic!("{denied}"))
    }

    fn activated(app: &str, release: u64) -> Vec<u8> {
        let activated = eyot_link::tail::Activated { time: Timestamp::UNIX_EPOCH, app: app.to_owned(), release };
        Line::Activated(activated).encode().expect("short")
    }

    #[tokio::test]
    async fn a_follower_hears_of_its_app_by_node_and_orders_end_with_it() {
        let tails = Tails::default();
        let mut orders = tails.orders();
        let mut shop = follow(&tails, "shop");
        let id = orders.borrow_and_update()[0].id.clone();
        assert_eq!(shop.until().as_second(), 3600);
        tails.tell(&id, &name("fra-1"), &[activated("shop", 7), activated("shop", 8)].concat()).expect("taken");
        for release in [7, 8] {
            let line = shop.next().await;
            let expect = format!(
                r#"{{"node":"fra-1","event":"activated","time":"1970-01-01T00:00:00Z","app":"shop","release":{release}}}"#
            );
            assert_eq!(std::str::from_utf8(&line).expect("text"), expect + "\n");
        }
        let denied = tails.tell(&id, &name("fra-1"), &activated("books", 1)).expect_err("of another app");
        assert_eq!(denied.code(), "bad_request");
        assert!(shop.next().now_or_never().is_none());
        drop(shop);
        assert!(orders.borrow_and_update().is_empty());
        assert_eq!(tails.tell(&id, &name("fra-1"), b"").expect_err("gone").code(), "not_found");
    }

    #[test]
    fn eight_follow_an_app_at_most_and_256_follow_apps() {
        let tails = Tails::default();
        let mut all: Vec<_> = (0..8).map(|_| follow(&tails, "shop")).collect();
        assert_eq!(tails.follow(name("shop"), Timestamp::UNIX_EPOCH).expect_err("full").code(), "followers");
        all.extend((0..248).map(|number| follow(&tails, &format!("a{number}"))));
        assert_eq!(tails.follow(name("books"), Timestamp::UNIX_EPOCH).expect_err("full").code(), "followers");
        all.pop();
        follow(&tails, "books");
        assert_eq!((FOLLOWERS_PER_APP_MAX, FOLLOWERS_MAX), (8, 256));
    }

    #[tokio::test]
    async fn lines_over_a_mebibyte_that_wait_for_a_follower_are_dropped_and_how_many_is_said() {
        let tails = Tails::default();
        let mut orders = tails.orders();
        let mut shop = follow(&tails, "shop");
        let id = orders.borrow_and_update()[0].id.clone();
        for release in 0..100_000 {
            tails.tell(&id, &name("a"), &activated("shop", release)).expect("taken");
        }
        let (mut bytes, mut lines) = (0, 0_u64);
        let lost = loop {
            let line = shop.next().await;
            match serde_json::from_slice(&line).expect("a line") {
                Told { line: Line::Lost(lost), .. } => break lost.lines,
                _ => (bytes, lines) = (bytes + line.len(), lines + 1),
            }
        };
        assert!(bytes <= 1 << 20 && bytes > (1 << 20) - 200, "{bytes}");
        assert_eq!((lines + lost, WAITING_BYTES_MAX), (100_000, 1 << 20));
    }

    #[tokio::test]
    async fn what_functions_say_takes_half_of_the_room_at_most() {
        let tails = Tails::default();
        let mut orders = tails.orders();
        let mut shop = follow(&tails, "shop");
        let id = orders.borrow_and_update()[0].id.clone();
        let said = eyot_link::tail::Said {
            time: Timestamp::UNIX_EPOCH,
            id: String::new(),
            app: "shop".to_owned(),
            release: 1,
            function: "flood".to_owned(),
            stream: "stdout".to_owned(),
            level: None,
            context: None,
            text: "x".repeat(1000),
        };
        let line = Line::Log(said).encode().expect("short");
        (0..1_000).for_each(|_| tails.tell(&id, &name("a"), &line).expect("taken"));
        tails.tell(&id, &name("a"), &activated("shop", 7)).expect("taken");
        let mut bytes = 0;
        loop {
            let line = shop.next().await;
            match serde_json::from_slice(&line).expect("a line") {
                Told { line: Line::Log(_), .. } => bytes += line.len(),
                told => break assert!(matches!(told.line, Line::Activated(_)), "{told:?}"),
            }
        }
        assert!(bytes <= 512 << 10 && bytes > 500 << 10, "{bytes}");
    }
}
