//! Purges over the wire: who may, who is told, and what is left of it after a restart.

use eyot_bundle::sign::Key;
use eyot_link::client::Client;
use eyot_link::purge::{Kind, PurgeRequest, Purged, Since, Told};
use eyot_link::watch::WatchStream;
use eyot_link::wire::{Action, RolloutRequest, WatchLine};

use super::house::{House, block_on, copy, name, release, wasm, with_function};
use super::publish::report;

fn request(value: &str) -> PurgeRequest {
    PurgeRequest { kind: Kind::Key, value: value.to_owned(), soft: true }
}

fn purge(client: &Client, app: &str, value: &str) -> Result<Purged, String> {
    let done = block_on(client.purge(&name(app), &request(value)));
    done.map_err(|error| error.code().unwrap_or("none").to_owned())
}

/// The next line about purges.
async fn told(stream: &mut WatchStream) -> Told {
    loop {
        if let WatchLine::Purges(told) = stream.next().await.expect("a line") {
            return told;
        }
    }
}

fn values(told: &Told) -> Vec<&str> {
    told.purges.iter().map(|purge| purge.value.as_str()).collect()
}

fn delegations(house: &House, purger: &Key) -> Vec<eyot_bundle::sign::Delegation> {
    let mut delegations = house.delegations();
    for grant in delegations.iter_mut().filter(|it| it.role == "app-shop").filter_map(|it| it.grant.as_mut()) {
        grant.keys.purge = vec![purger.public()];
    }
    delegations
}

#[test]
fn a_key_that_may_purge_may_do_nothing_else_and_others_purge_what_is_theirs() {
    let (mut house, purger) = (House::new(), Key::generate().expect("randomness"));
    let origin = house.start();
    let upload = house.upload(&delegations(&house, &purger), &House::nodes());
    block_on(house.operator_client(&origin).upload(&upload)).expect("the upload");
    let with = |key: &Key| house.client(&origin, None, Some(&copy(key)));
    let stranger = Key::generate().expect("randomness");
    // Who, and what of `shop` and of `blog` they are told.
    for (client, shop, blog) in [
        (with(&purger), None, Some("not_yours")),
        (house.publisher(&origin, "shop"), None, Some("not_yours")),
        (house.operator_client(&origin), None, None),
        (with(&stranger), Some("unknown_key"), Some("unknown_key")),
        (house.client(&origin, None, None), Some("unsigned"), Some("unsigned")),
        // Neither app has a function that may.
        (house.node(&origin, "fra-1"), Some("not_yours"), Some("not_yours")),
    ] {
        assert_eq!(purge(&client, "shop", "k").err().as_deref(), shop);
        assert_eq!(purge(&client, "blog", "k").err().as_deref(), blog);
    }
    let client = with(&purger);
    block_on(async {
        let shop = name("shop");
        assert!(client.purge_progress(&shop).await.is_ok());
        let publish = house.publish(&release("shop", 1, &[]), &[]);
        let rollback = RolloutRequest { action: Action::Pause, release: None };
        let refused = [
            client.publish(&shop, &publish).await.err(),
            client.rollout(&shop, &rollback).await.err(),
            client.put_blob(wasm("a")).await.err(),
            client.releases(&shop).await.err(),
            client.apps().await.err(),
            client.fleet().await.err(),
            client.audit().await.err(),
            client.metadata("timestamp.json").await.err(),
            client.watch(0, None).await.err(),
            client.upload(&upload).await.err(),
            client.purge_progress(&name("blog")).await.err(),
        ];
        for (index, error) in refused.into_iter().enumerate() {
            assert_eq!(error.expect("refused").code(), Some("not_yours"), "call {index}");
        }
        for bad in [
            PurgeRequest { kind: Kind::Url, ..request("/a") },
            PurgeRequest { kind: Kind::App, ..request("shop") },
            request("two words"),
        ] {
            assert_eq!(client.purge(&shop, &bad).await.expect_err("bad").code(), Some("bad_request"), "{bad:?}");
        }
        let audit = house.operator_client(&origin).audit().await.expect("the audit").records;
        let mine = audit.iter().filter(|record| record.action == "purge" && record.who == purger.id());
        assert_eq!(mine.count(), 1, "what was not understood is not noted");
    });
}

#[test]
fn nodes_are_told_each_purge_at_once_and_what_came_while_they_or_the_origin_were_away() {
    let mut house = House::new();
    let origin = house.start_granted();
    house.port = origin.bound.wire[0].port();
    let publisher = house.publisher(&origin, "shop");
    let at = block_on(async {
        let (node, shop) = (house.node(&origin, "fra-1"), name("shop"));
        let mut stream = node.watch(0, None).await.expect("a stream");
        assert!(matches!(stream.next().await, Ok(WatchLine::Purges(Told { missed: true, .. }))), "the first line");
        let done = publisher.purge(&shop, &request("a")).await.expect("done");
        let line = told(&mut stream).await;
        assert_eq!((values(&line), line.n, line.missed), (vec!["a"], done.purge, false));
        let mut answer = report(1, 0);
        answer.purge = line.n;
        node.report(&answer).await.expect("taken");
        let progress = publisher.purge_progress(&shop).await.expect("progress");
        let row = &progress.nodes[&name("fra-1")];
        assert_eq!((row.purge, row.since.is_some(), row.watching), (done.purge, true, true));
        assert_eq!(progress.nodes[&name("fra-2")].purge, 0);
        drop(stream);
        publisher.purge(&shop, &request("b")).await.expect("done");
        Since { log: line.log, n: line.n }
    });
    origin.stop();
    let origin = house.start();
    block_on(async {
        let publisher = house.publisher(&origin, "shop");
        publisher.purge(&name("shop"), &request("c")).await.expect("done");
        let node = house.node(&origin, "fra-1");
        let mut stream = node.watch(0, Some(&at)).await.expect("a stream");
        let line = told(&mut stream).await;
        assert_eq!((values(&line), line.missed, &line.log), (vec!["b", "c"], false, &at.log));
        let other = Since { log: "0".repeat(32), n: 1 };
        let mut stream = node.watch(0, Some(&other)).await.expect("a stream");
        assert!(told(&mut stream).await.missed, "of another log nothing is known");
        let now = Since { n: line.n, ..at };
        let mut stream = node.watch(0, Some(&now)).await.expect("a stream");
        let line = told(&mut stream).await;
        assert_eq!((line.purges.len(), line.missed, line.n), (0, false, now.n), "who was told all is told so");
    });
}

#[test]
fn a_node_purges_for_functions_once_a_release_of_their_app_says_that_they_may() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, publisher) = (house.node(&origin, "fra-1"), house.publisher(&origin, "shop"));
    let wasm = wasm("one");
    let mut shop = with_function(release("shop", 1, &[]), &wasm);
    block_on(publisher.put_blob(wasm.clone())).expect("an upload");
    block_on(publisher.publish(&shop.app, &house.publish(&shop, &[]))).expect("a publish");
    assert_eq!(purge(&node, "shop", "k").err().as_deref(), Some("not_yours"));
    let first = shop.clone();
    (shop.number, shop.previous) = (2, vec![1]);
    shop.functions.values_mut().for_each(|function| function.purge = true);
    block_on(publisher.publish(&shop.app, &house.publish(&shop, &[&first]))).expect("a publish");
    assert!(purge(&node, "shop", "k").is_ok());
    assert_eq!(purge(&node, "blog", "k").err().as_deref(), Some("not_yours"), "of that app alone");
}
