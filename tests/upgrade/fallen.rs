//! The process that takes over is killed on its way, at each moment: the one before it goes on, or takes everything back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use super::house::{House, house, signal};
use super::load::{Fall, Load};
use super::open::Open;
use crate::harness::process::until;

/// When it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// It was started, and has the sockets.
    Sockets,
    /// It has opened the ledger.
    Ledger,
    /// New connections come to it.
    Serves,
    /// It has answered for a while.
    Answered,
    /// The same, and it is not killed but stands still.
    StandsStill,
}

/// The files that a process has open.
fn files(pid: u64) -> Vec<PathBuf> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

fn is_socket(file: &Path) -> bool {
    file.to_string_lossy().starts_with("socket:")
}

impl Moment {
    /// Whether it has come for `new`, which is to take over from `old`, in this state.
    fn is_now(self, old: u64, new: u64, state: &str) -> bool {
        match self {
            Self::Sockets => {
                let held = files(old);
                files(new).iter().any(|file| is_socket(file) && held.contains(file))
            }
            Self::Ledger => files(new).iter().any(|file| file.ends_with("ledger.redb")),
            Self::Serves | Self::Answered | Self::StandsStill => state == "proving",
        }
    }

    /// Whether the new process serves by then; when it has just opened the ledger, it may or may not.
    fn serves(self) -> Option<bool> {
        match self {
            Self::Sockets => Some(false),
            Self::Ledger => None,
            Self::Serves | Self::Answered | Self::StandsStill => Some(true),
        }
    }

    /// Waits for the moment and does it. Just before, and just after.
    fn strike(self, house: &House, old: u64, load: &Load) -> [Instant; 2] {
        let victim = until("the moment", || {
            let state = house.state();
            let new = state["successor"].as_u64()?;
            self.is_now(old, new, state["state"].as_str()?).then_some(new)
        });
        if matches!(self, Self::Answered | Self::StandsStill) {
            load.more(30);
        }
        let aimed = Instant::now();
        // No thread of it gets further than another.
        signal(victim, "STOP");
        if self != Self::StandsStill {
            signal(victim, "KILL");
        }
        [aimed, Instant::now()]
    }
}

#[test]
fn a_process_that_falls_on_its_way_takes_nothing_with_it_but_what_it_had_begun_itself() {
    let house = house();
    let old = house.serves();
    let load = Load::on(&house);
    load.more(10);
    let mut falls = Vec::new();
    for (number, moment) in
        [Moment::Sockets, Moment::Ledger, Moment::Serves, Moment::Answered, Moment::StandsStill].into_iter().enumerate()
    {
        let mut open = Open::on(&house);
        let (told, done) = mpsc::channel();
        let output = std::thread::scope(|scope| {
            let striking = scope.spawn(|| told.send(moment.strike(&house, old, &load)).expect("heard"));
            let output = house.upgrade();
            striking.join().expect("no panic");
            output
        });
        let [aimed, struck] = done.recv().expect("told");
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        let served = complained.contains("this one has taken everything back");
        println!("{moment:?}: {}", if served { "it served" } else { "it did not serve yet" });
        assert_eq!(output.status.code(), Some(1), "{moment:?}: {complained}");
        assert!(served || complained.contains("ended before it was ready"), "{moment:?}: {complained}");
        assert!(moment.serves().is_none_or(|serves| serves == served), "{moment:?}: {complained}");
        if served {
            falls.push(Fall { aimed, struck, replaced: Instant::now() });
        }
        let state = house.state();
        assert_eq!((&state["pid"], &state["state"], &state["successor"]), (&old.into(), &"failed".into(), &().into()));
        assert_eq!(house.node.admin("/readyz").status, 200, "{moment:?}");
        load.more(20);
        open.go_on(&house);
        open.end(&house);
        // The ledger is back.
        house.takes_a_release(number as u64 + 2);
    }
    // And a good one still takes over.
    let open = Open::on(&house);
    house.told_main(house.upgraded());
    load.more(20);
    open.end(&house);
    load.end_but_for(&house, &falls);
}

#[test]
fn a_node_that_is_told_to_end_while_the_next_one_proves_itself_ends_both_and_both_drain() {
    let mut house = house();
    let old = house.serves();
    let before = Open::on(&house);
    let (status, _) = crate::harness::client::unix_asks(&house.socket(), "POST", "/upgrade");
    assert_eq!(status, 200);
    let new = until("the new one serves", || {
        let state = house.state();
        (state["state"] == "proving").then(|| state["successor"].as_u64())?
    });
    signal(old, "TERM");
    let draining = || house.node.process.log().matches("draining").count();
    until("both drain", || (draining() == 2).then_some(()));
    before.end(&house);
    assert_eq!(house.node.process.wait(), 0, "{}", house.node.process.log());
    assert!(files(new).is_empty(), "{}", house.node.process.log());
}
