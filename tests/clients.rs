//! Clients of others against a node, as their users run them: curl_cffi, gtlsclient, Chromium. aioquic and libcurl stand in
//! `protocols`.

mod chromium;
mod curl_cffi;
mod gtlsclient;

use serde_json::Value;

use crate::harness::app::App;
use crate::harness::process::until;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World};

/// What a node's access log tells of a request: protocol, status and fault.
type Told = (String, u64, Option<String>);

/// An app for `shop.test`: `/fixed` and `/early` answer by themselves, `/early` in early data too; what is below `/up/` or
/// the name of another upstream is its.
struct House {
    world: World,
    upstream: Upstream,
}

impl House {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With more upstreams, by their names.
    fn with(more: &[(&str, &str)]) -> Self {
        let (world, upstream) = (World::new(), Upstream::start());
        let url = upstream.url();
        let upstreams = [&[("up", url.as_str())], more].concat();
        let mut app = App::new("shop", &["shop.test"]);
        let mut grant = Vec::new();
        for (name, url) in upstreams {
            let port = url.rsplit(':').next().unwrap_or_default();
            grant.extend(["--private".to_owned(), format!("127.0.0.1/32={port}")]);
            app = app.upstream(name, url, "");
            app = app.route("shop.test", &format!("/{name}/*"), &format!("upstream = \"{name}\""));
        }
        let app = app
            .route("shop.test", "/fixed", "respond = { status = 200, body = \"fixed\" }")
            .route("shop.test", "/early", "early_data = true\nrespond = { status = 200, body = \"early\" }")
            .written();
        let grant: Vec<_> = grant.iter().map(String::as_str).collect();
        assert!(world.grant("shop", &["shop.test"], &grant).status.success());
        world.publish(&app);
        Self { world, upstream }
    }

    /// The node `id`, with a line for its `[tls]` and more of its configuration.
    fn node(&self, id: &str, tls: &str, more: &str) -> Node {
        let port = crate::harness::process::free_port();
        let node = self.world.node_edited(id, port, |text| text.replace("[tls]\n", &format!("[tls]\n{tls}\n")) + more);
        node.wait_for_release(&self.world, "shop.test", "/fixed", "shop/1");
        node
    }
}

/// What a node's access log tells of such paths.
fn told_of(node: &Node, is_such: impl Fn(&str) -> bool) -> Vec<Told> {
    let log = node.process.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let tell = |line: Value| {
        let is_told = line["path"].as_str().is_some_and(&is_such);
        is_told.then(|| Some((text(&line["protocol"])?, line["status"].as_u64()?, text(&line["fault"])))).flatten()
    };
    lines.filter_map(tell).collect()
}

/// Waits until the node's access log has told of a path so many times; it is written aside.
fn told_all(node: &Node, path: &str, count: usize) -> Vec<Told> {
    until(&format!("the log tells {count} times of {path}"), || {
        Some(told_of(node, |told| told == path)).filter(|told| told.len() >= count)
    })
}
