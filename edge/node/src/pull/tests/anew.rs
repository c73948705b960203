//! The operator resets a node's trust: what answers goes on, until metadata that was verified anew says otherwise.

use eyot_link::wire::ReportAnswer;

use super::*;

/// How often anything was put into the snapshot.
fn puts(node: &Node) -> usize {
    node.seen.1.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_reset_takes_nothing_away_with_the_parents_away_not_even_by_a_restart() {
    let (world, mut node) = running().await;
    let before = puts(&node);
    world.shelf(|shelf| shelf.away = true);
    node.pull().reset();
    node.round().await;
    assert_eq!((node.answers().as_str(), puts(&node)), ("blog 1, shop 1", before));
    assert_eq!(node.status.facts().ledger.word(), "ok");
    for _ in 0..2 {
        node.start(&world);
        node.round().await;
        assert_eq!((node.answers().as_str(), node.status.facts().ledger.word()), ("blog 1, shop 1", "ok"));
    }
    world.shelf(|shelf| shelf.away = false);
    let before = puts(&node);
    node.round().await;
    assert_eq!((node.answers().as_str(), puts(&node)), ("blog 1, shop 1", before), "the same entries go on");
    assert!(node.pull().trust.seq() > 0);
}

#[tokio::test]
async fn after_a_reset_an_expired_role_keeps_what_is_new_away_and_what_answers_in_place() {
    for role in ["timestamp", "snapshot", "targets", "director", "app-shop"] {
        let (mut world, mut node) = running().await;
        world.publish(&release("shop", 2));
        world.expire(role);
        let before = puts(&node);
        node.pull().reset();
        for _ in 0..2 {
            node.round().await;
            assert_eq!((node.answers().as_str(), puts(&node)), ("blog 1, shop 1", before), "{role}");
        }
        node.start(&world);
        assert_eq!(node.answers(), "blog 1, shop 1", "{role}, after a restart");
        node.round().await;
        assert_eq!(node.answers(), "blog 1, shop 1", "{role}, after a restart and a round");
    }
}

#[tokio::test]
async fn after_a_reset_what_the_new_trust_refuses_stops() {
    let (mut world, mut node) = running().await;
    node.pull().reset();
    world.keys.insert("app-shop".to_owned(), Key::generate().expect("a key"));
    world.grants.get_mut(&name("blog")).expect("granted").state = GrantState::Suspended;
    world.targets();
    world.online();
    node.round().await;
    assert_eq!(node.answers(), "blog suspended, shop not ready");
    assert_eq!(node.refused("shop").map(|(_, reason)| reason), Some(Reason::WrongKey));
}

#[tokio::test]
async fn a_reset_begins_no_bake_anew_and_forgets_no_death_but_every_floor() {
    let (mut world, mut node) = running().await;
    let mut second = release("shop", 2);
    second.min_release = 2;
    world.publish(&second);
    node.round().await;
    let record = node.pull().records.get_mut(&name("shop")).expect("noted");
    record.failed.insert(7, 2);
    let seen = record.seen[&2];
    node.pull().reset();
    let kept = AppRecord {
        active: Some(2),
        previous: Some(1),
        seen: BTreeMap::from([(2, seen)]),
        failed: BTreeMap::from([(7, 2)]),
        min_release: 0,
    };
    assert_eq!(node.pull().records[&name("shop")], kept);
    node.start(&world);
    assert_eq!(node.pull().records[&name("shop")], kept, "durably");
    assert_eq!(node.pull().trust.seq(), 0);
}

#[tokio::test]
async fn a_reset_that_is_cut_off_before_its_end_takes_nothing_away() {
    let (world, mut node) = running().await;
    node.pull = None;
    drop(Ledger::reset(node.folder.path()).expect("reset, and no more"));
    node.start(&world);
    assert_eq!((node.answers().as_str(), node.status.facts().ledger.word()), ("blog 1, shop 1", "ok"));
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 1");
    world.shelf(|shelf| shelf.away = true);
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop 1");
}

#[tokio::test]
async fn what_a_parent_remembers_of_the_time_before_a_reset_undoes_no_reset() {
    let (world, mut node) = running().await;
    let seq = node.pull().trust.seq();
    world.shelf(|shelf| shelf.away = true);
    node.pull().reset();
    assert!(!node.pull().asked, "nothing is reported before a round has ended well");
    node.pull().answered(Ok(ReportAnswer { seq }));
    assert_eq!(node.status.facts().ledger.word(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_reset_while_reports_go_on_is_not_taken_for_an_old_disk() {
    for away in [Duration::ZERO, Duration::from_secs(300)] {
        let (world, mut node) = running().await;
        let heard = node.pull().trust.seq();
        world.shelf(|shelf| (shelf.heard, shelf.away) = (heard, !away.is_zero()));
        let (pull, handle) = (node.pull.take().expect("running"), node.handle.take().expect("running"));
        tokio::join!(pull.run(tokio::time::sleep(away + Duration::from_secs(300))), async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(11)).await;
                assert!(handle.reset_trust());
            }
            tokio::time::sleep(away).await;
            world.shelf(|shelf| shelf.away = false);
        });
        assert_eq!((node.answers().as_str(), node.status.facts().ledger.word()), ("blog 1, shop 1", "ok"));
        assert_eq!(node.status.facts().seq, heard);
    }
}
