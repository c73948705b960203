//! What is refused, each with its reason, while nothing that is served changes.

use eyot_bundle::release::Release;
use eyot_bundle::sign;
use eyot_bundle::trust::TargetFile;
use eyot_link::wire::{Base64, Publish};

use super::house::{House, block_on, component_of, file, header, name, release, wasm, with_function};

/// The publish with its role made of `files`, of version `version`, signed by the key of `signer`.
fn signed(house: &House, release: &Release, files: &[TargetFile], version: u64, signer: &str) -> Publish {
    let role = sign::delegated(header(version), files, &[&house.publishers[signer]]).expect("a role");
    Publish { role: Base64(role), release: Base64(sign::document(release).expect("a document")) }
}

fn on_host(mut release: Release, host: &str) -> Release {
    let host: eyot_bundle::host::HostPattern = host.parse().expect("a host");
    release.routes[0].host = host.clone();
    release.routes[0].id = eyot_bundle::verify::route_id(&host, &release.routes[0].path, &[]);
    release.hosts.push(host);
    release
}

#[test]
fn whatever_was_not_signed_and_granted_is_refused_with_its_reason_and_nothing_served_changes() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, shop, blog) =
        (house.node(&origin, "fra-1"), house.publisher(&origin, "shop"), house.publisher(&origin, "blog"));
    let (ours, theirs) = (wasm("ours"), wasm("theirs"));
    let forbidden = component_of(
        r#"(component (import "acme:db/client@1.0.0" (instance)) (instance $h) (export "wasi:http/incoming-handler@0.2.3" (instance $h)))"#,
    );
    let three = release("shop", 3, &[]);
    let good = release("shop", 4, &[3]);
    block_on(async {
        shop.put_blob(ours.clone()).await.expect("an upload");
        shop.put_blob(forbidden.clone()).await.expect("an upload");
        blog.put_blob(theirs.clone()).await.expect("an upload");
        shop.publish(&three.app, &house.publish(&three, &[])).await.expect("a publish");
    });
    let listed = [file(&three), file(&good)];
    let mut other_bytes = house.publish(&good, &[&three]);
    *other_bytes.release.0.last_mut().expect("a byte") = b' ';
    let mut short = with_function(good.clone(), &ours);
    short.functions.values_mut().for_each(|function| function.bundle.size -= 1);
    let mut lying = with_function(good.clone(), &ours);
    lying.functions.values_mut().for_each(|function| function.imports = vec!["wasi:io/poll@0.2.0".to_owned()]);
    let changed_three = Release { min_release: 1, ..three.clone() };
    let many = house.publish(&Release { routes: vec![good.routes[0].clone(); 1001], ..good.clone() }, &[&three]);
    let plain = |release: &Release| house.publish(release, &[&three]);
    let attempts = [
        ("a role signed by another app's key", "wrong_key", signed(&house, &good, &listed, 4, "blog")),
        ("a role whose signature was changed", "signature", {
            let mut publish = plain(&good);
            let text = String::from_utf8(publish.role.0).expect("JSON");
            publish.role.0 = text.replace("\"version\":4", "\"version\":5").into_bytes();
            publish
        }),
        (
            "a release of another app in the role",
            "wrong_key",
            signed(&house, &release("blog", 4, &[]), &[file(&release("blog", 4, &[]))], 4, "shop"),
        ),
        ("a host outside the grant", "host_not_granted", plain(&on_host(good.clone(), "evil.example.com"))),
        ("the host of another app", "host_not_granted", plain(&on_host(good.clone(), "blog.example.com"))),
        ("every host", "host_not_granted", plain(&on_host(good.clone(), "*"))),
        (
            "an older number",
            "older_than_floor",
            signed(&house, &release("shop", 2, &[]), &[file(&release("shop", 2, &[]))], 4, "shop"),
        ),
        (
            "the same number with other bytes",
            "older_than_floor",
            signed(&house, &changed_three, &[file(&changed_three)], 4, "shop"),
        ),
        ("a role version that was there", "older_than_floor", signed(&house, &good, &listed, 3, "shop")),
        ("a release changed by one byte", "digest_mismatch", other_bytes),
        ("a bundle nobody uploaded", "missing_blob", plain(&with_function(good.clone(), &wasm("nobody's")))),
        ("a bundle that another app uploaded", "missing_blob", plain(&with_function(good.clone(), &theirs))),
        ("a bundle of another size", "digest_mismatch", plain(&short)),
        ("a bundle with a forbidden import", "import_forbidden", plain(&with_function(good.clone(), &forbidden))),
        ("a bundle that imports other things than it says", "parse", plain(&lying)),
        (
            "a release it does not name in `previous`",
            "parse",
            signed(
                &house,
                &Release { previous: vec![], ..good.clone() },
                &[file(&three), file(&Release { previous: vec![], ..good.clone() })],
                4,
                "shop",
            ),
        ),
        (
            "an earlier release with other bytes",
            "parse",
            signed(&house, &good, &[file(&changed_three), file(&good)], 4, "shop"),
        ),
        ("too many routes", "parse", many),
        ("no metadata at all", "parse", Publish { role: Base64(b"{}".to_vec()), release: Base64(Vec::new()) }),
    ];
    let before = block_on(node.metadata("timestamp.json")).expect("an answer");
    for (what, code, publish) in attempts {
        let error = block_on(shop.publish(&name("shop"), &publish)).expect_err(what);
        assert_eq!(error.code(), Some(code), "{what}: {error}");
        assert_eq!(block_on(node.metadata("timestamp.json")).expect("an answer"), before, "{what}");
    }
    let published = block_on(shop.publish(&name("shop"), &plain(&with_function(good.clone(), &ours))));
    assert_eq!(published.expect("the good one").number, 4);
}

#[test]
fn only_a_publisher_of_the_app_may_publish_it_and_only_within_its_quotas() {
    let mut house = House::new();
    house.more = "[quotas]\nbundles_bytes = \"100KiB\"\npublishes_per_hour = 2\n".to_owned();
    let origin = house.start_granted();
    let (shop, blog) = (house.publisher(&origin, "shop"), house.publisher(&origin, "blog"));
    let one = release("shop", 1, &[]);
    block_on(async {
        let publish = house.publish(&one, &[]);
        for (client, code) in [
            (&blog, "not_yours"),
            (&house.operator_client(&origin), "not_yours"),
            (&house.node(&origin, "fra-1"), "not_yours"),
            (&house.client(&origin, None, Some(&sign::Key::generate().expect("a key"))), "unknown_key"),
            (&house.client(&origin, None, None), "unsigned"),
            (&house.client(&origin, Some("no-token-of-this-fleet"), None), "unknown_token"),
        ] {
            assert_eq!(client.publish(&one.app, &publish).await.expect_err(code).code(), Some(code));
        }
        let big = wasm(&"x".repeat(101 << 10));
        assert_eq!(shop.put_blob(big).await.expect_err("over the quota").code(), Some("over_quota"));
        let half = wasm(&"y".repeat(60 << 10));
        shop.put_blob(half.clone()).await.expect("within the quota");
        shop.put_blob(half).await.expect("it is there already");
        assert_eq!(shop.put_blob(wasm(&"z".repeat(60 << 10))).await.expect_err("over").code(), Some("over_quota"));
        shop.publish(&one.app, &publish).await.expect("the first");
        shop.publish(&one.app, &publish).await.expect("the second");
        assert_eq!(shop.publish(&one.app, &publish).await.expect_err("the third").code(), Some("over_quota"));
        blog.publish(&name("blog"), &house.publish(&release("blog", 1, &[]), &[]))
            .await
            .expect("a neighbour's quota is its own");
    });
}

#[test]
fn an_operators_upload_counts_by_its_own_signatures() {
    let mut house = House::new();
    let origin = house.start_granted();
    let operator = house.operator_client(&origin);
    let node = house.node(&origin, "fra-1");
    block_on(async {
        let before = node.metadata("timestamp.json").await.expect("an answer");
        let good = house.upload(&house.delegations(), &House::nodes());
        assert_eq!(
            house.publisher(&origin, "shop").upload(&good).await.expect_err("no operator").code(),
            Some("not_yours")
        );
        let mut forged = good.clone();
        let targets = sign::targets(header(9), &house.delegations(), &[&house.publishers["shop"]]).expect("targets");
        forged.metadata.insert("targets.json".to_owned(), Base64(targets));
        assert_eq!(operator.upload(&forged).await.expect_err("forged").code(), Some("wrong_key"));
        let mut online = good.clone();
        online.metadata.insert("snapshot.json".to_owned(), Base64(b"{}".to_vec()));
        assert_eq!(operator.upload(&online).await.expect_err("not theirs").code(), Some("bad_request"));
        let stranger = House::new();
        for (file, root, code) in [
            ("2.root.json", stranger.root(2), "wrong_key"),
            ("3.root.json", house.root(3), "wrong_key"),
            ("2.root.json", house.root(3), "older_than_floor"),
            ("02.root.json", house.root(2), "bad_request"),
            ("root.json", house.root(2), "bad_request"),
        ] {
            let mut upload = good.clone();
            upload.metadata.insert(file.to_owned(), Base64(root));
            let refused = operator.upload(&upload).await.expect_err(file);
            assert_eq!(refused.code(), Some(code), "{file}: {refused}");
        }
        let mut absent = good.clone();
        absent.targets.clear();
        let mut nodes = House::nodes();
        nodes.nodes.values_mut().for_each(|node| node.revoked = true);
        let lost = house.upload(&house.delegations(), &nodes);
        absent.metadata = lost.metadata;
        assert!(operator.upload(&absent).await.is_err(), "a document that is listed must come with it");
        assert_eq!(node.metadata("timestamp.json").await.expect("an answer"), before);
        operator.upload(&good).await.expect("the good one");
        assert_eq!(operator.upload(&good).await.expect("again").seq, 2);
    });
}

#[test]
fn a_publish_that_no_node_could_follow_is_refused() {
    let mut house = House::new();
    let origin = house.start();
    let (operator, shop) = (house.operator_client(&origin), house.publisher(&origin, "shop"));
    let one = release("shop", 1, &[]);
    block_on(async {
        let mut delegations = house.delegations();
        let unknown = shop.publish(&one.app, &house.publish(&one, &[])).await.expect_err("nothing is granted yet");
        assert_eq!(unknown.code(), Some("unknown_key"));
        delegations.retain(|delegation| delegation.role != "director");
        operator.upload(&house.upload(&delegations, &House::nodes())).await.expect("targets without a director");
        let refused = shop.publish(&one.app, &house.publish(&one, &[])).await.expect_err("no control could be signed");
        assert!(refused.code() == Some("wrong_key") && refused.to_string().contains("director"), "{refused}");
        operator.upload(&house.upload(&house.delegations(), &House::nodes())).await.expect("targets with one");
        shop.publish(&one.app, &house.publish(&one, &[])).await.expect("a publish");
    });
}
