//! What an app publishes, as its clients see it: functions of both worlds, instances that serve again, files.

use std::fs;

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::world::World;

const HOST: &str = "shop.test";

#[test]
fn instances_of_both_worlds_serve_as_many_requests_as_the_release_says_and_are_counted_while_they_wait() {
    let world = World::new();
    world.grant("shop", &[HOST], &[]);
    let reuse = "reuse = { requests = 4, idle = \"10m\" }";
    let app = App::new("shop", &[HOST])
        .function("old", "counter", reuse)
        .function("new", "p3-counter", reuse)
        .function("fresh", "p3-counter", "")
        .route(HOST, "/old", "function = \"old\"")
        .route(HOST, "/new", "function = \"new\"")
        .route(HOST, "/fresh", "function = \"fresh\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, HOST, "/fresh", "shop/1");
    let counts = |path: &str| {
        let count = |_| node.ask(&world, Protocol::H3, HOST, path).text().parse::<u32>().expect("a number");
        (0..40).map(count).collect::<Vec<_>>()
    };
    assert!(counts("/fresh").iter().all(|count| *count == 1));
    assert!(node.metric("eyot_slots{state=\"kept\"}") < 1.0);
    for path in ["/old", "/new"] {
        let counts = counts(path);
        assert_eq!(counts.iter().max(), Some(&4), "{path}: {counts:?}");
        let began = counts.iter().filter(|count| **count == 1).count();
        assert!(began >= 10, "{path}: {counts:?}");
    }
    // Whoever waits is of one of the node's threads, and has not served four.
    node.ask(&world, Protocol::H3, HOST, "/old");
    assert!(node.metric("eyot_slots{state=\"kept\"}") >= 1.0);
}

#[test]
fn files_of_a_release_are_served_whole_in_part_compressed_and_not_again() {
    let world = World::new();
    world.grant("shop", &[HOST], &[]);
    let app = App::new("shop", &[HOST])
        .table("[files.site]\npath = \"public\"\nnot_found = \"404.html\"")
        .route(HOST, "/*", "files = \"site\"")
        .written();
    let text = "a line of a page that is worth compressing\n".repeat(200);
    for (name, text) in [("index.html", "<h1>home</h1>"), ("404.html", "<h1>nothing</h1>"), ("docs/index.html", &text)]
    {
        let file = app.folder().join("public").join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, text).expect("written");
    }
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, HOST, "/", "shop/1");
    let get = |path: &str, field: Option<(&str, &str)>| {
        let asked = Ask::get(&world, &node, Protocol::H3, HOST, path);
        ask(field.into_iter().fold(asked, |asked, (name, value)| asked.header(name, value))).expect("an answer")
    };
    let home = get("/", None);
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((get("/nothing", None).status, get("/nothing", None).text().as_str()), (404, "<h1>nothing</h1>"));
    assert_eq!(get("/docs", None).header("location"), Some("/docs/"));
    let whole = get("/docs/", None);
    assert_eq!((whole.status, whole.text().as_str()), (200, text.as_str()));
    let etag = whole.header("etag").expect("an entity tag").to_owned();
    assert_eq!(get("/docs/", Some(("if-none-match", &etag))).status, 304);
    let part = get("/docs/", Some(("range", "bytes=2-5")));
    assert_eq!((part.status, part.text().as_str()), (206, "line"));
    assert_eq!(part.header("content-range"), Some(format!("bytes 2-5/{}", text.len()).as_str()));
    assert_eq!(get("/docs/", Some(("range", "bytes=999999-"))).status, 416);
    for coding in ["br", "zstd", "gzip"] {
        let packed = get("/docs/", Some(("accept-encoding", coding)));
        assert_eq!((packed.status, packed.header("content-encoding")), (200, Some(coding)));
        assert!(packed.body.len() < text.len() / 4 && packed.header("vary").is_some(), "{coding}");
    }
}
