//! From a publish to a node that watches.

use std::collections::BTreeMap;

use bytes::Bytes;
use eyot_bundle::control::State;
use eyot_bundle::trust::Trust;
use eyot_bundle::verify;
use eyot_link::client::Client;
use eyot_link::watch::WatchStream;
use eyot_link::wire::{Action, AppReport, Change, Load, Report, RolloutRequest, WatchLine};
use jiff::Timestamp;

use super::house::{House, block_on, file, name, release, wasm, with_function};

/// The next change of a stream.
pub(super) async fn change(stream: &mut WatchStream) -> Change {
    loop {
        if let WatchLine::Change(change) = stream.next().await.expect("a line") {
            return change;
        }
    }
}

/// One round of a node: what is inline is taken from the line, the rest fetched.
pub(super) async fn round(trust: &mut Trust, node: &Client, inline: &BTreeMap<String, Bytes>) -> usize {
    let mut fetched = 0;
    trust.begin();
    while let Some(want) = trust.wants().into_iter().next() {
        let bytes = match inline.get(&want.file) {
            Some(bytes) => Some(bytes.clone()),
            None => {
                fetched += usize::from(!want.may_be_absent);
                node.metadata(&want.file).await.expect("an answer")
            }
        };
        match bytes {
            Some(bytes) => drop(trust.feed(&want.file, &bytes, Timestamp::now()).expect("a file that is believed")),
            None => trust.absent(&want.file),
        }
    }
    fetched
}

fn inline(change: Change) -> BTreeMap<String, Bytes> {
    change.inline.into_iter().map(|(file, bytes)| (file, bytes.0.into())).collect()
}

pub(super) fn report(seq: u64, active: u64) -> Report {
    Report {
        node: name("fra-1"),
        region: "eu-fra".to_owned(),
        version: "0.1.0".to_owned(),
        boot: "boot".to_owned(),
        seq,
        purge: 0,
        ledger: "ok".to_owned(),
        clock_ms_off: 0,
        apps: ["shop", "blog"]
            .map(|app| (name(app), AppReport { active: Some(active), ..AppReport::default() }))
            .into(),
        load: Load::default(),
        draining: false,
    }
}

#[test]
fn a_release_reaches_a_watching_node_at_once_with_all_that_it_must_verify() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, publisher) = (house.node(&origin, "fra-1"), house.publisher(&origin, "shop"));
    let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
    let wasm = wasm(&"one".repeat(300_000));
    let shop = with_function(release("shop", 1, &[]), &wasm);
    block_on(async {
        let mut stream = node.watch(0, None).await.expect("a stream");
        let mut trust = Trust::new(&root).expect("the root");
        let first = change(&mut stream).await;
        assert_eq!(first.seq, 1);
        assert_eq!(round(&mut trust, &node, &inline(first)).await, 0, "all was inline");

        assert!(!publisher.has_blob(shop.functions["cart"].bundle.sha256).await.expect("an answer"));
        let digest = publisher.put_blob(wasm.clone()).await.expect("an upload");
        assert!(publisher.has_blob(digest).await.expect("an answer"));
        let publish = house.publish(&shop, &[]);
        let published = publisher.publish(&shop.app, &publish).await.expect("a publish");
        assert_eq!((published.seq, published.number), (2, 1));
        // The same publish again, as after an answer that was lost, changes nothing.
        let again = publisher.publish(&shop.app, &publish).await;
        assert_eq!(again.expect("the same answer").seq, 2);

        let second = change(&mut stream).await;
        assert_eq!(second.seq, 2);
        assert!(second.inline.contains_key("1.app-shop.json") && !second.inline.contains_key("1.targets.json"));
        assert_eq!(round(&mut trust, &node, &inline(second)).await, 0, "all was inline");
        let app = trust.apps().into_iter().find(|app| app.app == shop.app).expect("the app");
        let listed = &app.releases[&1];
        assert_eq!(*listed, file(&shop));
        let bytes = node.target(&listed.path, listed.sha256, 1 << 20).await.expect("the release");
        assert_eq!(verify::release(&bytes, &shop.app, 1, &app.grant).expect("a good release"), shop);
        let listed = app.control.expect("a control");
        let bytes = node.target(&listed.path, listed.sha256, 1 << 20).await.expect("the control");
        let control = verify::control(&bytes, &shop.app).expect("a good control");
        assert_eq!((control.release, control.state), (1, State::Done));

        let into = house.folder.path().join("blob");
        std::fs::write(&into, &wasm[..100_000]).expect("the beginning, from an earlier try");
        node.blob(digest, wasm.len() as u64, &into).await.expect("the rest");
        assert_eq!(std::fs::read(&into).expect("the blob"), wasm);
        std::fs::write(&into, vec![0; 100_000]).expect("a wrong beginning");
        assert!(node.blob(digest, wasm.len() as u64, &into).await.is_err());
        node.blob(digest, wasm.len() as u64, &into).await.expect("all of it, after the wrong part was thrown away");

        let mut long = report(2, 1);
        long.version = "é".repeat(10_000);
        long.apps.extend((0..100).map(|number| (name(&format!("strange-{number}")), AppReport::default())));
        assert_eq!(node.report(&long).await.expect("an answer").seq, 2);
        let operators = house.operator_client(&origin).fleet().await.expect("the fleet");
        let kept = operators.nodes["fra-1"].report.as_ref().expect("a report");
        assert_eq!((kept.version.chars().count(), kept.apps.len()), (64, 2), "what is kept of a report is bounded");
        assert_eq!(node.report(&report(2, 1)).await.expect("an answer").seq, 2);
        assert_eq!(node.report(&report(1, 1)).await.expect("an answer").seq, 2, "a node that fell back is told");
        let fleet = publisher.fleet().await.expect("the fleet");
        let row = &fleet.nodes["fra-1"];
        let apps: Vec<_> = row.report.as_ref().expect("a report").apps.keys().map(ToString::to_string).collect();
        assert_eq!((row.watching, apps), (true, vec!["shop".to_owned()]), "a publisher sees its own apps only");
        assert_eq!(publisher.releases(&shop.app).await.expect("the releases").releases[0].nodes, 1);
    });
    origin.stop();
}

#[test]
fn a_node_that_missed_everything_catches_up_by_asking() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, publisher) = (house.node(&origin, "fra-2"), house.publisher(&origin, "blog"));
    let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
    block_on(async {
        let one = release("blog", 1, &[]);
        publisher.publish(&one.app, &house.publish(&one, &[])).await.expect("a publish");
        let mut trust = Trust::new(&root).expect("the root");
        round(&mut trust, &node, &BTreeMap::new()).await;
        let two = release("blog", 2, &[1]);
        publisher.publish(&two.app, &house.publish(&two, &[&one])).await.expect("a publish");
        // What the node had begun to read can still be had, and what is newer too.
        for file in ["2.snapshot.json", "3.snapshot.json", "1.app-blog.json", "2.app-blog.json", "1.targets.json"] {
            assert!(node.metadata(file).await.expect("an answer").is_some(), "{file}");
        }
        for file in ["4.snapshot.json", "snapshot.json", "2.root.json", "0.app-blog.json", "x.json", "1.app-none.json"]
        {
            assert!(node.metadata(file).await.expect("an answer").is_none(), "{file}");
        }
        round(&mut trust, &node, &BTreeMap::new()).await;
        assert_eq!(trust.seq(), 3);
        let mut stream = node.watch(3, None).await.expect("a stream");
        // But for how far the log of purges is, which every stream begins with.
        assert!(matches!(stream.next().await.expect("a line"), WatchLine::Purges(_)));
        assert!(matches!(stream.next().await.expect("a line"), WatchLine::Beat(_)), "nothing is new");
    });
}

#[test]
fn a_rollback_is_a_control_that_every_node_is_told_of() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, publisher) = (house.node(&origin, "fra-1"), house.publisher(&origin, "shop"));
    let ask = |action, release| RolloutRequest { action, release };
    block_on(async {
        let (one, two) = (release("shop", 1, &[]), release("shop", 2, &[1]));
        let early =
            publisher.rollout(&one.app, &ask(Action::Rollback, Some(1))).await.expect_err("nothing is published");
        assert_eq!(early.code(), Some("not_found"));
        publisher.publish(&one.app, &house.publish(&one, &[])).await.expect("a publish");
        publisher.publish(&two.app, &house.publish(&two, &[&one])).await.expect("a publish");
        let mut stream = node.watch(3, None).await.expect("a stream");
        let back = publisher.rollout(&one.app, &ask(Action::Rollback, Some(1))).await.expect("a rollback");
        assert_eq!((back.seq, change(&mut stream).await.seq), (4, 4));
        let rollout = publisher.releases(&one.app).await.expect("the releases").rollout.expect("a rollout");
        assert_eq!((rollout.release, rollout.base, rollout.state), (2, 1, State::RolledBack));
        let never = publisher.rollout(&one.app, &ask(Action::Rollback, Some(7))).await.expect_err("never published");
        assert_eq!(never.code(), Some("rollout"));
        let other = house.publisher(&origin, "blog").rollout(&one.app, &ask(Action::Resume, None)).await;
        assert_eq!(other.expect_err("not their app").code(), Some("not_yours"));
        house.operator_client(&origin).rollout(&one.app, &ask(Action::Resume, None)).await.expect("the operator may");
        let records = publisher.audit().await.expect("the audit").records;
        let seen: Vec<_> = records.iter().map(|record| (record.action.as_str(), record.result.as_str())).collect();
        assert_eq!(
            seen[seen.len() - 3..],
            [("rollout.rollback", "done"), ("rollout.rollback", "rollout"), ("rollout.resume", "done")]
        );
    });
}
