//! Publishing while clients ask without pause: each answer is wholly of one release, and none fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::app::App;
use crate::harness::client::PROTOCOLS;
use crate::harness::size::size;
use crate::harness::world::World;

#[test]
fn while_a_release_takes_over_every_answer_is_of_the_old_or_of_the_new_and_none_fails() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("env", "env", "env = { WORD = \"one\" }")
        .route("shop.test", "/*", "function = \"env\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");

    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let (world, node, stop, asked) = (&world, &node, &stop, &asked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) || asked.load(Ordering::Relaxed) < size().publish_requests {
                    let answer = node.ask(world, protocol, "shop.test", "/");
                    let release = answer.header("eyot-release").unwrap_or_default().to_owned();
                    let word = match release.as_str() {
                        "shop/1" => "WORD=one",
                        "shop/2" => "WORD=two",
                        "shop/3" => "WORD=three",
                        other => panic!("{protocol:?}: {} of `{other}`: {}", answer.status, answer.text()),
                    };
                    assert!(answer.status == 200 && answer.text().contains(word), "{release}: {}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        app.edit("one", "two");
        world.publish(&app);
        node.wait_for_release(&world, "shop.test", "/", "shop/2");
        app.edit("two", "three");
        world.publish(&app);
        node.wait_for_release(&world, "shop.test", "/", "shop/3");
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} answers, none failed", asked.load(Ordering::Relaxed));
}
