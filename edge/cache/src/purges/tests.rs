//! Purges against a model that keeps a list, over restarts, deaths in the middle of a write, and too many of them.

mod deaths;

use std::path::Path;

use proptest::prelude::*;

use super::*;

const APPS: [&str; 2] = ["shop", "other"];

fn url(app: &str, n: u8) -> Hash {
    Hash::url(app, &format!("https://shop.example/{n}").parse().expect("a URL"))
}

fn key(app: &str, n: u8) -> Hash {
    Hash::key(app, &format!("product-{n}"))
}

/// What happens to a node.
#[derive(Clone, Debug)]
enum Event {
    /// A fill of an app begins, for a URL and with two keys.
    Fill { app: usize, url: u8, keys: [u8; 2] },
    /// A purge; the name is a URL below 4, a key below 8, else the app.
    Purge { app: usize, name: u8, how: How },
    /// The node ends and begins again.
    Restart,
    /// The node dies while a purge is written, of which so much, in parts of 256, is on the disk.
    Torn { app: usize, name: u8, part: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    let how = prop_oneof![Just(How::Soft), Just(How::Doubt), Just(How::Hard)];
    prop_oneof![
        4 => (0..2_usize, 0..4_u8, [0..4_u8, 0..4_u8]).prop_map(|(app, url, keys)| Event::Fill { app, url, keys }),
        4 => (0..2_usize, 0..9_u8, how).prop_map(|(app, name, how)| Event::Purge { app, name, how }),
        1 => Just(Event::Restart),
        1 => (0..2_usize, 0..9_u8, any::<u8>()).prop_map(|(app, name, part)| Event::Torn { app, name, part }),
    ]
}

/// An answer, and what the model says of it.
struct Answer {
    app: usize,
    url: u8,
    keys: [u8; 2],
    born: Born,
    expect: Verdict,
}

struct World<'a> {
    folder: &'a Path,
    purges: Purges,
    marks_max: usize,
    answers: Vec<Answer>,
    now_ms: u64,
}

impl<'a> World<'a> {
    fn new(folder: &'a Path, marks_max: usize) -> Self {
        let mut world =
            Self { folder, purges: Purges::in_memory(None, 1), marks_max, answers: Vec::new(), now_ms: 1_000 };
        assert!(world.begin().is_some(), "there is no journal yet");
        world
    }

    fn begin(&mut self) -> Option<String> {
        let opened = Purges::open_within(self.marks_max, self.folder, None, self.now_ms);
        let Opened { purges, lost } = opened.expect("a journal");
        self.purges = purges;
        lost
    }

    fn purge(&self, app: usize, name: u8, how: How) {
        let what = match name {
            0..4 => What::Named(url(APPS[app], name)),
            4..8 => What::Named(key(APPS[app], name - 4)),
            _ => What::App,
        };
        self.purges.apply(&[(APPS[app], Purge { what, how })], None).expect("a disk");
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("purges")).expect("a journal")
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Fill { app, url, keys } => {
                let born = self.purges.now(self.now_ms);
                self.answers.push(Answer { app, url, keys, born, expect: Verdict::Fresh });
            }
            Event::Purge { app, name, how } => {
                self.purge(app, name, how);
                let verdict = match how {
                    How::Soft => Verdict::Stale,
                    How::Doubt => Verdict::Doubted,
                    How::Hard => Verdict::Gone,
                };
                let named = |answer: &Answer| match name {
                    0..4 => answer.url == name,
                    4..8 => answer.keys.contains(&(name - 4)),
                    _ => true,
                };
                for answer in self.answers.iter_mut().filter(|answer| answer.app == app && named(answer)) {
                    answer.expect = answer.expect.max(verdict);
                }
            }
            Event::Restart => assert_eq!(self.begin(), None),
            Event::Torn { app, name, part } => {
                let before = self.bytes();
                self.purge(app, name, How::Hard);
                // What a fill that began now keeps must not survive a purge that comes after the death.
                let fill = Event::Fill { app, url: name % 4, keys: [name % 4; 2] };
                self.happen(&fill);
                let after = self.bytes();
                let added = after.strip_prefix(&before[..]).unwrap_or_default();
                let written = added.len() * usize::from(part) / 256;
                let torn = if added.is_empty() { after } else { [&before[..], &added[..written]].concat() };
                std::fs::write(self.folder.join("purges"), torn).expect("a disk");
                assert_eq!(self.begin(), None);
            }
        }
    }

    fn verdict(&self, answer: &Answer) -> Verdict {
        let app = APPS[answer.app];
        let keys = answer.keys.map(|n| key(app, n));
        self.purges.judge(app, answer.born, url(app, answer.url), &keys, self.now_ms)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_judged_by_each_purge_that_came_after_its_fill_began_and_by_no_other(
        events in prop::collection::vec(event(), 1..40)
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut world = World::new(folder.path(), MARKS_MAX);
        for event in &events {
            world.happen(event);
            for answer in &world.answers {
                prop_assert_eq!(world.verdict(answer), answer.expect);
            }
        }
    }

    #[test]
    fn of_more_purges_than_are_told_apart_none_is_forgotten(
        events in prop::collection::vec(event(), 1..60), marks_max in 1..6_usize
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut world = World::new(folder.path(), marks_max);
        for event in &events {
            world.happen(event);
            prop_assert!(world.purges.marks() <= marks_max);
            for answer in &world.answers {
                prop_assert!(world.verdict(answer) >= answer.expect);
            }
        }
        // And what begins now is asked for by nobody's purge.
        world.happen(&Event::Fill { app: 0, url: 0, keys: [0, 1] });
        prop_assert_eq!(world.answers.last().map(|answer| world.verdict(answer)), Some(Verdict::Fresh));
    }
}

#[test]
fn too_many_purges_leave_what_came_after_the_oldest_of_them() {
    let mut purges = Purges::in_memory(None, 1);
    purges.marks_max = 8;
    let mut borns = Vec::new();
    for n in 0..9_u8 {
        borns.push(purges.now(1));
        let purge = Purge { what: What::Named(key("shop", n)), how: How::Hard };
        purges.apply(&[("shop", purge)], None).expect("no disk");
    }
    let judge = |born: &Born| purges.judge("shop", *born, url("shop", 0), &[], 1);
    let verdicts: Vec<Verdict> = borns.iter().map(judge).collect();
    assert_eq!(verdicts[..3], [Verdict::Gone; 3], "born before the purges that became one");
    assert_eq!(verdicts[3..], [Verdict::Fresh; 6]);
    assert_eq!(purges.judge("other", borns[0], url("other", 0), &[], 1), Verdict::Fresh);
}

#[test]
fn what_was_kept_beside_a_journal_that_is_lost_or_damaged_is_gone() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 3] = [
        ("removed", |file| std::fs::remove_file(file).expect("a journal")),
        ("emptied", |file| std::fs::write(file, b"").expect("a disk")),
        ("turned", |file| {
            let mut bytes = std::fs::read(file).expect("a journal");
            *bytes.last_mut().expect("bytes") ^= 1;
            std::fs::write(file, bytes).expect("a disk");
        }),
    ];
    for (name, damage) in damage {
        let folder = tempfile::tempdir().expect("a folder");
        let Opened { purges, .. } = Purges::open(folder.path(), None, 1_000).expect("a journal");
        let born = purges.now(1_000);
        damage(&folder.path().join("purges"));
        let Opened { purges, lost } = Purges::open(folder.path(), None, 1_001).expect("a journal");
        assert!(lost.is_some(), "{name}");
        assert_eq!(purges.judge("shop", born, url("shop", 0), &[], 1_001), Verdict::Gone, "{name}");
        assert_eq!(purges.position(), None);
        let again = Purges::open(folder.path(), None, 1_002).expect("a journal");
        assert_eq!(again.lost, None, "{name}: a journal that was begun anew is one");
        assert_eq!(again.purges.judge("shop", born, url("shop", 0), &[], 1_002), Verdict::Gone, "{name}");
    }
}

/// A node that may lag by 100 ms and began at 1,000: heard at (0: never), born at, asked at, whether in doubt.
const LAGS: &[(u64, u64, u64, bool)] = &[
    (0, 900, 1_000, true),
    (0, 1_000, 1_100, false),
    (0, 1_000, 1_101, true),
    (1_050, 900, 1_150, false),
    (1_050, 900, 1_151, true),
    (1_050, 1_120, 1_220, false),
    (1_050, 1_120, 1_221, true),
    // A clock that went back: what was kept later than now was kept nobody knows when.
    (1_050, 9_000, 1_151, true),
];

#[test]
fn a_node_that_has_not_heard_its_parent_doubts_what_it_kept_longer_ago_than_it_may_lag() {
    for (heard, born, now, expect) in LAGS {
        let purges = Purges::in_memory(Some(100), 1_000);
        purges.heard(*heard);
        let verdict = purges.judge("shop", purges.now(*born), url("shop", 0), &[], *now);
        let expect = if *expect { Verdict::Doubted } else { Verdict::Fresh };
        assert_eq!(verdict, expect, "heard {heard}, born {born}, asked {now}");
    }
    let alone = Purges::in_memory(None, 1_000);
    assert_eq!(alone.judge("shop", alone.now(1), url("shop", 0), &[], u64::MAX), Verdict::Fresh);
    assert!(!alone.lagging(u64::MAX));
}

#[test]
fn a_journal_that_is_taken_up_late_judges_what_was_kept_before_and_a_purge_of_every_app_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { purges: before, .. } = Purges::open(folder.path(), None, 1_000).expect("a journal");
    let old = before.now(1_000);
    let purge = |name: u8, how| Purge { what: What::Named(key("shop", name)), how };
    let at = Position { log: 7, n: 5 };
    before.apply(&[("shop", purge(0, How::Hard))], Some(at)).expect("a disk");
    let newer = before.now(1_000);
    // Another process, which has purged something before it has the journal.
    let after = Purges::in_memory(None, 2_000);
    let young = after.now(2_000);
    after.apply(&[("shop", purge(1, How::Soft))], None).expect("no disk");
    before.let_go();
    assert_eq!(after.take_up(folder.path(), 2_000).expect("a journal"), None);
    assert_eq!(after.position(), Some(at));
    let judge = |born, name| after.judge("shop", born, url("shop", 0), &[key("shop", name)], 2_000);
    assert_eq!((judge(old, 0), judge(old, 1)), (Verdict::Gone, Verdict::Stale));
    assert_eq!((judge(newer, 0), judge(young, 0), judge(young, 1)), (Verdict::Fresh, Verdict::Fresh, Verdict::Stale));
    let every = Purge { what: What::App, how: How::Doubt };
    let now = after.now(2_000);
    after.apply(&[(EVERY_APP, every)], None).expect("a disk");
    assert_eq!((judge(now, 3), judge(after.now(2_000), 3)), (Verdict::Doubted, Verdict::Fresh));
    let Opened { purges, .. } = Purges::open(folder.path(), None, 3_000).expect("a journal");
    let judge = |born, name| purges.judge("shop", born, url("shop", 0), &[key("shop", name)], 3_000);
    let verdicts = (judge(old, 0), judge(old, 1), judge(now, 3));
    assert_eq!(verdicts, (Verdict::Gone, Verdict::Doubted, Verdict::Doubted), "all are in the journal");
    let Opened { purges, .. } = Purges::open(folder.path(), None, 3_000).expect("a journal");
    assert!(purges.marks() == 2, "and those that were done before it was taken up");
}

#[test]
fn how_far_the_parents_log_was_followed_is_known_with_the_purges_and_not_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { purges, .. } = Purges::open(folder.path(), None, 1_000).expect("a journal");
    let (first, then) = (Position { log: 7, n: 1 }, Position { log: 7, n: 2 });
    let purge = Purge { what: What::App, how: How::Soft };
    purges.apply(&[("shop", purge)], Some(first)).expect("a disk");
    purges.apply(&[("shop", purge)], None).expect("a disk");
    assert_eq!(purges.position(), Some(first));
    purges.apply(&[], Some(then)).expect("a disk");
    let Opened { purges, .. } = Purges::open(folder.path(), None, 1_000).expect("a journal");
    assert_eq!(purges.position(), Some(then));
    purges.let_go();
    purges.apply(&[], Some(first)).expect("no disk is asked");
    let Opened { purges, .. } = Purges::open(folder.path(), None, 1_000).expect("a journal");
    assert_eq!(purges.position(), Some(then), "who let go writes nothing");
}

#[test]
fn a_journal_that_grows_is_written_anew_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { purges, .. } = Purges::open(folder.path(), None, 1_000).expect("a journal");
    let born = purges.now(1_000);
    let batch: Vec<(&str, Purge)> = (0..4_000)
        .map(|n| ("shop", Purge { what: What::Named(Hash::key("shop", &n.to_string())), how: How::Hard }))
        .collect();
    for _ in 0..6 {
        purges.apply(&batch, None).expect("a disk");
    }
    let size = std::fs::metadata(folder.path().join("purges")).expect("a journal").len();
    assert!(size < 4 * 4_000 * 52, "{size} bytes for six batches of 4,000");
    let Opened { purges, lost } = Purges::open(folder.path(), None, 1_000).expect("a journal");
    assert_eq!((lost, purges.marks()), (None, 4_000));
    for n in [0, 1, 3_999] {
        let keys = [Hash::key("shop", &n.to_string())];
        assert_eq!(purges.judge("shop", born, url("shop", 0), &keys, 1_000), Verdict::Gone, "{n}");
    }
}
