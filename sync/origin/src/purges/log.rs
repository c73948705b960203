//! The log of purges as it is in memory: of each app the newest, by numbers that all apps share, so that one number says
//! how far a node is. Pure.

use std::collections::BTreeMap;

use eyot_bundle::name::Name;
use eyot_link::purge::{Kind, LINE_PURGES_MAX, Logged, Since, Told};
use serde::{Deserialize, Serialize};

/// Purges of one app that are kept; nodes that were not told older ones revalidate all of the app.
pub(super) const KEPT_MAX: usize = 1_000;
/// They measure no more than this together, in bytes of their values.
const KEPT_BYTES_MAX: usize = 128 << 10;
/// Apps of which purges were missed that a line names; of more, it says that all may be.
const MISSED_MAX: usize = 64;

/// The purges of one app: the value of its head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppLog {
    /// The last that was forgotten.
    pub(super) floor: u64,
    /// The others, the newest last.
    pub(super) purges: Vec<Logged>,
}

impl AppLog {
    /// Adds one, and forgets the oldest that there is no room for. What a hard purge of the whole app covers is forgotten
    /// with it: whoever does that one need not do those.
    pub(super) fn push(&mut self, purge: Logged) {
        if purge.kind == Kind::App && !purge.soft {
            *self = Self::default();
        }
        self.purges.push(purge);
        let mut bytes: usize = self.purges.iter().map(|purge| purge.value.len()).sum();
        let mut spare = 0;
        while self.purges.len() - spare > KEPT_MAX || (bytes > KEPT_BYTES_MAX && self.purges.len() - spare > 1) {
            bytes -= self.purges.get(spare).map_or(0, |purge| purge.value.len());
            spare += 1;
        }
        if let Some(last) = self.purges.drain(..spare).next_back() {
            self.floor = last.n;
        }
    }
}

/// The log.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// Which log this is.
    pub(super) id: String,
    /// The last number that was given.
    pub(super) n: u64,
    /// All that are kept.
    pub(super) all: BTreeMap<u64, Logged>,
    /// The last that was forgotten of each app.
    pub(super) floors: BTreeMap<Name, u64>,
}

impl Log {
    /// Puts an app's purges in the place of those that were here.
    pub(super) fn put(&mut self, app: &Name, log: &AppLog) {
        // One at a time comes, so all but the last and those that were forgotten are here.
        let first = log.purges.first().map_or(u64::MAX, |purge| purge.n);
        if self.floors.get(app) != Some(&log.floor) || log.purges.len() == 1 {
            self.all.retain(|n, purge| *n >= first || purge.app != *app);
        }
        self.floors.insert(app.clone(), log.floor);
        let new = log.purges.iter().rev().take_while(|purge| !self.all.contains_key(&purge.n)).cloned();
        let new: Vec<Logged> = new.collect();
        self.all.extend(new.into_iter().map(|purge| (purge.n, purge)));
    }

    /// Whether a node that is at `since` was told all.
    pub(super) fn is_behind(&self, since: Option<&Since>) -> bool {
        since.is_none_or(|since| since.log != self.id || since.n != self.n)
    }

    /// What a node is told that is at `since`.
    pub(super) fn since(&self, since: Option<&Since>) -> Told {
        let told = |purges, n, missed, more| Told { purges, log: self.id.clone(), n, missed, more };
        // A node that is ahead has seen another world: this log was put back from a copy.
        let Some(since) = since.filter(|since| since.log == self.id && since.n <= self.n) else {
            return told(Vec::new(), self.n, true, false);
        };
        let missed = self.floors.iter().filter(|(_, floor)| **floor > since.n);
        let whole = |(app, floor): (&Name, &u64)| Logged {
            n: *floor,
            app: app.clone(),
            kind: Kind::App,
            value: String::new(),
            soft: false,
            missed: true,
        };
        let mut purges: Vec<Logged> = missed.map(whole).take(MISSED_MAX + 1).collect();
        let many = purges.len() > MISSED_MAX;
        if many {
            purges.clear();
        }
        let room = LINE_PURGES_MAX - purges.len();
        let mut later = self.all.range(since.n.saturating_add(1)..).map(|(_, purge)| purge);
        let here: Vec<Logged> = later.by_ref().take(room).cloned().collect();
        let more = later.next().is_some();
        let n = here.last().filter(|_| more).map_or(self.n, |last| last.n);
        purges.extend(here);
        told(purges, n, many, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purge(n: u64, app: &str, kind: Kind, value: &str) -> Logged {
        let app = app.parse().expect("a name");
        Logged { n, app, kind, value: value.to_owned(), soft: false, missed: false }
    }

    /// A log, and what is kept of two apps: keys of the first, now and then one of the second.
    fn log(count: u64) -> (Log, BTreeMap<Name, AppLog>) {
        let mut log = Log { id: "a".to_owned(), ..Log::default() };
        let mut apps: BTreeMap<Name, AppLog> = BTreeMap::new();
        for n in 1..=count {
            let app = if n % 100 == 0 { "blog" } else { "shop" };
            let purge = purge(n, app, Kind::Key, &n.to_string());
            let kept = apps.entry(purge.app.clone()).or_default();
            kept.push(purge.clone());
            log.put(&purge.app, kept);
            log.n = n;
        }
        (log, apps)
    }

    fn at(n: u64) -> Since {
        Since { log: "a".to_owned(), n }
    }

    /// All that a node is told until it is where the log is.
    fn all(log: &Log, mut since: Since) -> Vec<Told> {
        let mut lines = Vec::new();
        loop {
            let told = log.since(Some(&since));
            since.n = told.n;
            let more = told.more;
            lines.push(told);
            if !more {
                return lines;
            }
        }
    }

    #[test]
    fn a_node_that_was_away_is_told_all_it_has_not_done_in_lines_of_128() {
        let (log, _) = log(1_000);
        for since in [0, 1, 700, 871, 872, 873, 999, 1_000] {
            let lines = all(&log, at(since));
            let told: Vec<u64> = lines.iter().flat_map(|told| &told.purges).map(|purge| purge.n).collect();
            assert_eq!(told, (since + 1..=1_000).collect::<Vec<_>>());
            assert!(lines.iter().all(|told| told.purges.len() <= 128 && !told.missed));
            assert_eq!(lines.last().map(|told| told.n), Some(1_000));
        }
    }

    #[test]
    fn who_was_not_told_what_is_forgotten_of_an_app_is_told_so_of_that_app_alone() {
        let (log, apps) = log(2_000);
        let shop = &apps[&"shop".parse::<Name>().expect("a name")];
        assert_eq!((shop.purges.len(), shop.floor), (1_000, shop.purges[0].n - 1));
        for (since, expect) in [(shop.floor - 1, true), (shop.floor, false)] {
            let told = log.since(Some(&at(since)));
            let missed: Vec<_> =
                told.purges.iter().filter(|purge| purge.missed).map(|purge| (purge.app.as_str(), purge.kind)).collect();
            assert_eq!(missed, if expect { vec![("shop", Kind::App)] } else { vec![] });
        }
        let blog =
            all(&log, at(0)).into_iter().flat_map(|told| told.purges).filter(|purge| purge.app.as_str() == "blog");
        assert_eq!(blog.count(), 20);
    }

    #[test]
    fn a_node_of_another_log_or_of_none_or_ahead_may_have_missed_anything() {
        let (log, _) = log(10);
        let other = Since { log: "b".to_owned(), n: 5 };
        for since in [None, Some(&other), Some(&at(11))] {
            let told = log.since(since);
            assert_eq!((told.missed, told.n, told.purges.len()), (true, 10, 0));
        }
        assert!(!log.is_behind(Some(&at(10))) && log.is_behind(Some(&at(9))) && log.is_behind(None));
    }

    #[test]
    fn a_hard_purge_of_an_app_stands_for_those_before_it_and_values_take_128_kib_at_most() {
        let mut app = AppLog::default();
        (1..=100).for_each(|n| app.push(purge(n, "shop", Kind::Url, &"u".repeat(2_000))));
        let bytes: usize = app.purges.iter().map(|purge| purge.value.len()).sum();
        assert_eq!((bytes, app.floor), (130_000, 35));
        app.push(purge(101, "shop", Kind::App, ""));
        assert_eq!((app.purges.len(), app.floor), (1, 0), "who does this one has done all");
        let mut log = Log { id: "a".to_owned(), n: 101, ..Log::default() };
        log.put(&"shop".parse().expect("a name"), &app);
        let told: Vec<u64> = log.since(Some(&at(7))).purges.iter().map(|purge| purge.n).collect();
        assert_eq!(told, [101]);
    }
}
