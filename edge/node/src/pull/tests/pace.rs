//! How often a pull asks, how much at once, and how long it waits for answers. Its time is the test's: none passes.

use super::*;

/// More than a pause, for what is counted in whole milliseconds.
const ROUNDED: Duration = Duration::from_millis(10);

/// Follows the parent for this long.
async fn follow(node: &mut Node, seconds: u64) {
    let pull = node.pull.take().expect("running");
    pull.run(tokio::time::sleep(Duration::from_secs(seconds))).await;
}

/// Whether each pause is half to one and a half times what it should be, and not all of them the same part.
fn assert_jittered(pauses: &[Duration], expected: impl Iterator<Item = Duration>) {
    assert!(pauses.len() > 8, "{pauses:?}");
    let parts: Vec<_> =
        pauses.iter().zip(expected).map(|(pause, whole)| pause.as_secs_f64() / whole.as_secs_f64()).collect();
    assert!(parts.iter().all(|part| (0.49..=1.53).contains(part)), "{parts:?}");
    assert!(parts.iter().any(|part| (part - parts[0]).abs() > 0.01), "{parts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_parent_is_polled_every_20_s_jittered_and_told_every_5_s_how_the_node_is() {
    let (world, mut node) = running().await;
    world.shelf(|shelf| shelf.asks.lock().expect("whole").clear());
    follow(&mut node, 600).await;
    assert_jittered(&world.pauses("timestamp"), std::iter::repeat(Duration::from_secs(20)));
    assert_jittered(&world.pauses("report"), std::iter::repeat(Duration::from_secs(5)));
    assert!(world.pauses("watch").is_empty(), "a stream that stands is not opened again");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_not_answered_is_given_up_after_20_s() {
    let (world, mut node) = running().await;
    world.shelf(|shelf| shelf.mute = Some("report"));
    follow(&mut node, 300).await;
    let pauses = world.pauses("report");
    let good = |pause: &Duration| (Duration::from_secs(20)..Duration::from_secs(20) + ROUNDED).contains(pause);
    assert!(pauses.len() > 10 && pauses.iter().all(good), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_is_opened_again_after_pauses_that_double_to_30_s() {
    let (world, mut node) = running().await;
    world.shelf(|shelf| shelf.away = true);
    follow(&mut node, 600).await;
    let doubled = (0..).map(|times| Duration::from_millis((500 << times.min(10)).min(30_000)));
    assert_jittered(&world.pauses("watch"), doubled);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_tried_again_after_pauses_that_double_to_10_min() {
    let (mut world, mut node) = running().await;
    world.publish(&with_function(release("shop", 2), WASM));
    follow(&mut node, 3 * 3600).await;
    let pauses = world.pauses("blob");
    assert!(pauses.len() > 15, "{pauses:?}");
    for (times, pause) in pauses.iter().enumerate() {
        let whole = Duration::from_secs((2 << times.min(12)).min(600));
        assert!((whole..whole + ROUNDED).contains(pause), "pause {times} is {pause:?}");
    }
    assert_eq!(node.answers(), "blog 1, shop 1");
}

#[tokio::test(start_paused = true)]
async fn a_round_is_given_up_after_120_s_and_the_next_goes_on() {
    let (mut world, mut node) = running().await;
    world.publish(&release("shop", 2));
    world.shelf(|shelf| shelf.mute = Some("metadata"));
    let began = Instant::now();
    node.round().await;
    assert!((Duration::from_secs(120)..Duration::from_secs(120) + ROUNDED).contains(&began.elapsed()));
    assert!(node.status.facts().unreachable.as_ref().is_some_and(|why| why.contains("120 s")));
    world.shelf(|shelf| shelf.mute = None);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
}

#[tokio::test]
async fn a_parent_is_asked_for_8_files_at_once() {
    let apps: Vec<_> = (0..20).map(|number| format!("app-{number}")).collect();
    let mut world = World::new(&apps.iter().map(String::as_str).collect::<Vec<_>>());
    for app in &apps {
        world.publish(&release(app, 1));
    }
    let mut node = Node::new(&world);
    node.pull().round(BTreeMap::new()).await;
    assert_eq!(world.parent.0.lock().expect("whole").asking.1.load(Ordering::Relaxed), 8);
}
