//! A process that dies: in the middle of a round, or of a release that takes it down.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A component that does this when it is started.
fn component(start: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          (core module $module
            (func $start {start})
            (start $start)
            (func (export "handle") (param i32 i32)))
          (core instance $core (instantiate $module))
          (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $core "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// A compiler that knows one component, and has compiled it before.
fn compiler(node: &Node, wasm: &[u8]) -> PathBuf {
    let (program, artefact) = (node.folder.path().join("compiler"), node.folder.path().join("artefact"));
    std::fs::write(&artefact, eyot_guest::compile::compile(wasm).expect("a good component")).expect("written");
    std::fs::write(&program, format!("#!/bin/sh\nexec /bin/cat {}\n", artefact.display())).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    program
}

#[tokio::test]
async fn an_artefact_is_not_found_before_it_was_probed_so_no_kill_leaves_an_unproven_one() {
    for (start, passes) in [("(loop $more (br $more))", false), ("(nop)", true)] {
        let (mut world, mut node) = running().await;
        let wasm = component(start);
        let digest = Digest::of(&wasm);
        node.compiler = compiler(&node, &wasm);
        node.start(&world);
        world.shelf(|shelf| drop(shelf.blobs.insert(digest, wasm.clone())));
        world.publish(&with_function(release("shop", 2), &wasm));
        let runtime = node.pull().setup.stage.runtime.clone();
        let mut probed = false;
        {
            let mut round = std::pin::pin!(node.round());
            let mut ended = false;
            while !ended {
                tokio::select! {
                    biased;
                    () = &mut round => ended = true,
                    () = tokio::task::yield_now() => {}
                }
                if runtime.slots_free() == 0 {
                    probed = true;
                    assert!(!runtime.artefacts().has(digest), "{start} is found while it is probed");
                }
            }
        }
        assert!(probed || passes, "{start} was seen under its probe");
        assert_eq!(runtime.artefacts().has(digest), passes, "{start}");
        let expected =
            if passes { (None, "blog 1, shop 2") } else { (Some((2, Reason::ProbeFailed)), "blog 1, shop 1") };
        assert_eq!((node.refused("shop"), node.answers().as_str()), expected, "{start}");
        let left = std::fs::read_dir(node.folder.path().join("blobs/tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{start}: what the compiler wrote is taken away");
    }
}

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
