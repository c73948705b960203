//! Telling those who follow an app through the origin. Lines are gathered for a moment and sent; what cannot be sent is
//! dropped and counted, and nothing waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use eyot_link::tail::{BATCH_BYTES_MAX, FOLLOW_S_MAX, LINE_BYTES_MAX, Line, Lost, Tail};
use eyot_plan::fault::{Code, Side};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::parent::Parent;
use crate::tap::Following;

/// Followers that are told at once; the lines of more are not sent.
const TAILS_MAX: usize = 32;
/// Lines of this time are sent together.
const GATHER: Duration = Duration::from_millis(100);
/// How long the origin may take to accept some.
const SEND: Duration = Duration::from_secs(10);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Failures in a row after which a follower is given up; the origin says anew who follows when it is reached again.
const FAILURES_MAX: u32 = 5;

/// The followers that are told now.
#[derive(Default)]
pub(super) struct Tails {
    ids: BTreeSet<String>,
    running: JoinSet<String>,
}

impl Tails {
    /// Begins to tell, unless it is told already.
    pub(super) fn begin<P: Parent>(&mut self, tail: Tail, follow: impl FnOnce() -> Option<Following>, parent: &P) {
        while let Some(ended) = self.running.try_join_next() {
            if let Ok(id) = ended {
                self.ids.remove(&id);
            }
        }
        let now = Timestamp::now();
        // An origin's clock may differ; nobody follows for longer than one may.
        let left_s = tail.until.duration_since(now).as_secs().clamp(0, FOLLOW_S_MAX);
        if left_s == 0 || self.ids.len() >= TAILS_MAX || self.ids.contains(&tail.id) {
            return;
        }
        let Some(following) = follow() else { return };
        self.ids.insert(tail.id.clone());
        let until = Instant::now() + Duration::from_secs(left_s.unsigned_abs());
        let parent = parent.clone();
        self.running.spawn(async move {
            tokio::select! {
                () = tell(&parent, &tail.id, following) => {}
                () = sleep_until(until) => {}
            }
            tail.id
        });
    }
}

/// Tells until nobody follows any more.
async fn tell<P: Parent>(parent: &P, id: &str, mut following: Following) {
    let mut failures = 0;
    let mut lost = 0;
    loop {
        let first = following.next().await;
        sleep(GATHER).await;
        let (batch, count) = batch(first, &mut following, std::mem::take(&mut lost));
        match timeout(SEND, parent.tail(id, batch.into())).await {
            Ok(Ok(true)) => failures = 0,
            Ok(Ok(false)) => return,
            Ok(Err(_)) | Err(_) => {
                (failures, lost) = (failures + 1, count);
                if failures == FAILURES_MAX {
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Lines that are sent together, and how many lines they tell of.
fn batch(first: Line, following: &mut Following, lost: u64) -> (Vec<u8>, u64) {
    let mut batch = Vec::new();
    let mut count = lost;
    if lost > 0 {
        batch.extend(Line::Lost(Lost { lines: lost }).encode().unwrap_or_default());
    }
    let mut next = Some(first);
    while let Some(line) = next.take() {
        count += if let Line::Lost(lost) = &line { lost.lines } else { 1 };
        batch.extend(outside(line).encode().unwrap_or_default());
        if batch.len() + LINE_BYTES_MAX <= BATCH_BYTES_MAX {
            next = following.now();
        }
    }
    (batch, count)
}

/// The line as it leaves this node: the causes of faults of others than the function may name what is the operator's.
fn outside(line: Line) -> Line {
    let Line::Fault(mut fault) = line else { return line };
    let code = Code::ALL.into_iter().find(|code| code.name() == fault.code);
    if code.is_none_or(|code| code.side() != Side::Function) {
        fault.cause.clear();
    }
    Line::Fault(fault)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eyot_link::tail::{Activated, Fault};

    use super::*;
    use crate::tap::Tap;

    fn activated(release: u64) -> Line {
        Line::Activated(Activated { time: Timestamp::UNIX_EPOCH, app: "x".repeat(1000), release })
    }

    #[tokio::test]
    async fn what_is_sent_at_once_is_bounded_and_the_rest_follows() {
        let tap = Arc::new(Tap::default());
        let mut following = tap.follow(None).expect("room");
        (0..1_000).for_each(|release| tap.tell("shop", || activated(release)));
        let (mut lines, mut batches) = (0, 0);
        while let Some(first) = following.now() {
            let (bytes, count) = batch(first, &mut following, 0);
            assert!(bytes.len() <= BATCH_BYTES_MAX, "{}", bytes.len());
            (lines, batches) = (lines + count, batches + 1);
        }
        assert!(lines == 1_000 && batches > 1, "{lines} in {batches}");
        assert_eq!(BATCH_BYTES_MAX, 256 << 10);
    }

    #[test]
    fn the_cause_of_a_fault_leaves_the_node_only_where_the_function_is_at_fault() {
        for (code, expect) in
            [("function_trapped", "why"), ("upstream_unreachable", ""), ("egress_denied", ""), ("later", "")]
        {
            let fault = Fault {
                time: Timestamp::UNIX_EPOCH,
                id: String::new(),
                app: "shop".to_owned(),
                release: None,
                target: String::new(),
                code: code.to_owned(),
                cause: "why".to_owned(),
            };
            let Line::Fault(fault) = outside(Line::Fault(fault)) else { panic!("a fault") };
            assert_eq!(fault.cause, expect, "{code}");
        }
    }
}
