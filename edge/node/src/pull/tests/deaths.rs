//! A process that dies: in the middle of a round, or of a release that takes it down.

use super::*;

#[tokio::test]
async fn a_release_that_takes_the_process_down_twice_gives_way_to_the_one_before() {
    let (mut world, mut node) = running().await;
    world.publish(&release("shop", 2));
    node.round().await;
    let notes = node.folder.path().join("aborted");
    for (note, answers) in [
        ("shop 2\n", "blog 1, shop 2"),
        ("", "blog 1, shop 2"),
        ("blog 1\nother 1\n\nshop\nshop x\n", "blog 1, shop 2"),
        ("shop 2\n", "blog 1, shop 1"),
        ("", "blog 1, shop 1"),
    ] {
        node.pull = None;
        std::fs::write(&notes, note).expect("written");
        node.start(&world);
        assert_eq!(node.answers(), answers, "after {note:?}");
        node.round().await;
        assert_eq!(node.answers(), answers, "after {note:?} and a round");
    }
    assert_eq!(node.refused("shop"), Some((2, Reason::ProbeFailed)));
    world.publish(&release("shop", 3));
    node.round().await;
    assert_eq!((node.answers().as_str(), node.refused("shop")), ("blog 1, shop 3", None));
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_keeps_no_node_from_starting_and_no_abort_from_counting() {
    let (mut world, mut node) = running().await;
    world.publish(&release("shop", 2));
    node.round().await;
    node.pull = None;
    std::fs::write(node.folder.path().join("aborted"), "shop 2\nshop 2\n").expect("written");
    std::fs::create_dir(node.folder.path().join("ledger.witness.part")).expect("it is in the witness' way");
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop 1");
    assert_eq!(node.status.facts().ledger.word(), "ok");
}

/// One round that is cut off after so many turns. Whether it came to its end.
async fn cut(node: &mut Node, turns: usize) -> bool {
    let mut round = std::pin::pin!(node.round());
    let mut left = turns;
    std::future::poll_fn(|cx| match round.as_mut().poll(cx) {
        std::task::Poll::Ready(()) => std::task::Poll::Ready(true),
        std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(false),
        std::task::Poll::Pending => {
            left -= 1;
            std::task::Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_node_that_dies_anywhere_in_a_round_comes_back_with_the_old_release_or_the_new_one() {
    for turns in 0..200 {
        let (mut world, mut node) = running().await;
        world.publish(&release("shop", 2));
        world.publish(&release("blog", 2));
        let whole = cut(&mut node, turns).await;
        world.shelf(|shelf| shelf.away = true);
        node.start(&world);
        let answers = node.answers();
        assert!(
            ["1", "2"].iter().any(|blog| ["1", "2"].iter().any(|shop| answers == format!("blog {blog}, shop {shop}")))
        );
        assert_eq!(node.status.facts().ledger.word(), "ok");
        world.shelf(|shelf| shelf.away = false);
        node.round().await;
        assert_eq!(node.answers(), "blog 2, shop 2", "after {turns} turns");
        if whole {
            assert!(turns > 2, "it was cut in its middle before");
            return;
        }
    }
    panic!("a round of two apps takes more than 200 turns");
}
