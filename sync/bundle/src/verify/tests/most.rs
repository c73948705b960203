//! What a document may have at most: that many is taken, and one more is refused with its reason.

use super::*;

/// A limit: where it is, how many it allows, the reason for one more and a word of it, and how a document comes to have
/// so many.
type Row = (&'static str, usize, Reason, &'static str, fn(&mut Value, usize));

/// So many texts, each another.
fn each(count: usize, text: impl Fn(usize) -> String) -> Value {
    (0..count).map(text).collect()
}

/// Makes the methods of a route, which its id names too.
fn methods(document: &mut Value, count: usize) {
    let methods: Vec<_> = (0..count).map(|number| format!("M{number}")).collect();
    document["routes"][1]["id"] = json!(format!("shop.example.com/cart/* {}", methods.join(",")));
    document["routes"][1]["methods"] = json!(methods);
}

fn path(document: &mut Value, bytes: usize) {
    let path = format!("/{}", "p".repeat(bytes - 1));
    document["routes"][3]["id"] = json!(format!("shop.example.com{path}"));
    document["routes"][3]["path"] = json!(path);
}

fn hosts(document: &mut Value, count: usize) {
    let more = each(count - 2, |number| format!("h{number}.shop.example.com"));
    let hosts = document["hosts"].as_array_mut().unwrap();
    hosts.extend(more.as_array().unwrap().clone());
}

fn functions(document: &mut Value, count: usize) {
    for number in 1..count {
        document["functions"][format!("f{number}")] = document["functions"]["cart"].clone();
    }
}

fn routes(document: &mut Value, count: usize) {
    let more = (4..count).map(|number| {
        json!({"id": format!("shop.example.com/{number}"), "host": "shop.example.com", "path": format!("/{number}"),
               "target": {"upstream": "api"}})
    });
    document["routes"].as_array_mut().unwrap().extend(more);
}

fn fields(document: &mut Value, count: usize) {
    let fields = (0..count).map(|number| (format!("f{number}"), json!("x"))).collect();
    document["routes"][3]["target"]["respond"]["headers"] = Value::Object(fields);
}

fn policy(document: &mut Value, policy: Value) {
    document["routes"][3]["policy"] = policy;
}

fn steps(document: &mut Value, count: usize) {
    let step = |number| json!({"select": "*", "percent_bp": if number == count { 10_000 } else { 1 }, "bake_ms": 1});
    document["rollout"] = json!({"steps": (1..=count).map(step).collect::<Vec<_>>()});
}

/// Upstreams with so many servers in all, each of which is probed.
fn probed(document: &mut Value, count: usize) {
    for number in 0..count.div_ceil(64) {
        let servers = each(64.min(count - number * 64), |server| format!("https://s{server}.internal"));
        document["upstreams"][format!("u{number}")] = json!({"servers": servers, "health": health("/", 1_000, "200")});
    }
}

fn client_certificate(document: &mut Value, bytes: usize) {
    document["upstreams"]["api"]["tls"] =
        super::client(&(super::PEM.to_owned() + &"x".repeat(bytes - super::PEM.len())), "API_KEY", 1);
}

fn ca(document: &mut Value, bytes: usize) {
    let begin = "-----BEGIN CERTIFICATE-----".to_owned();
    document["upstreams"]["api"]["tls"]["ca"] = json!(begin.clone() + &"x".repeat(bytes - begin.len()));
}

#[test]
fn a_release_may_have_so_much_of_each_thing_and_no_more() {
    use Reason::{OverQuota, Parse};
    let table: [Row; 26] = [
        ("previous", 20, Parse, "`previous`", |document, count| {
            document["previous"] = (1..=count).map(|number| json!(number)).collect();
        }),
        ("hosts", 100, Parse, "hosts", hosts),
        ("functions", 100, OverQuota, "functions", functions),
        ("routes", 1_000, Parse, "1001 routes", routes),
        ("imports", 1_000, OverQuota, "imports", |document, count| {
            document["functions"]["cart"]["imports"] = each(count, |_| "wasi:io/streams@0.2.6".to_owned());
        }),
        ("egress", 100, Parse, "egress", |document, count| {
            document["functions"]["cart"]["egress"] = each(count, |number| format!("https://e{number}.example"));
        }),
        ("bytes of a component", 64 << 20, OverQuota, "bundle", |document, bytes| {
            document["functions"]["cart"]["bundle"]["size"] = json!(bytes);
        }),
        ("servers", 64, Parse, "servers", |document, count| {
            document["upstreams"]["api"]["servers"] = each(count, |number| format!("https://s{number}.internal"));
        }),
        ("upstreams", 100, OverQuota, "101 upstreams", |document, count| {
            for number in 1..count {
                document["upstreams"][format!("u{number}")] = document["upstreams"]["api"].clone();
            }
        }),
        ("servers that are probed", 256, OverQuota, "257 servers with `health`", probed),
        ("bytes of a CA", 256 << 10, Parse, "CA", ca),
        ("bytes of a client certificate", 256 << 10, Parse, "client certificate", client_certificate),
        ("methods", 16, Parse, "method", methods),
        ("bytes of a path", 1_024, Parse, "path", path),
        ("bytes of a body", 64 << 10, Parse, "body", |document, bytes| {
            document["routes"][3]["target"]["respond"]["body"] = json!("x".repeat(bytes));
        }),
        ("fields", 50, Parse, "fields", fields),
        ("bytes of a field", 8 << 10, Parse, "8192", |document, bytes| {
            document["routes"][3]["target"]["respond"]["headers"] = json!({"a": "x".repeat(bytes)});
        }),
        ("bytes of a redirect's target", 2_048, Parse, "too long", |document, bytes| {
            document["routes"][2]["target"]["redirect"]["to"] = json!(format!("/{}", "x".repeat(bytes - 1)));
        }),
        ("steps", 32, Parse, "steps", steps),
        ("networks", 1_000, Parse, "networks", |document, count| {
            policy(
                document,
                json!({"access": {"deny": each(count, |number| format!("10.{}.{}.0/24", number / 256, number % 256))}}),
            );
        }),
        ("countries", 300, Parse, "countries", |document, count| {
            policy(document, json!({"access": {"countries": {"deny": each(count, |_| "DE".to_owned())}}}));
        }),
        ("tokens", 100, Parse, "names", |document, count| {
            let hash = json!(format!("sha256${}", "0".repeat(64)));
            let tokens = (0..count).map(|number| (number.to_string(), hash.clone())).collect();
            policy(document, json!({"auth": {"realm": "a", "bearer": Value::Object(tokens)}}));
        }),
        ("origins", 100, Parse, "origins", |document, count| {
            policy(document, json!({"cors": {"origins": each(count, |number| format!("https://o{number}.example"))}}));
        }),
        ("changed fields", 50, Parse, "fields", |document, count| {
            policy(document, json!({"headers": {"request": {"remove": each(count, |number| format!("f{number}"))}}}));
        }),
        ("media types", 50, Parse, "types", |document, count| {
            policy(document, json!({"compress": {"types": each(count, |number| format!("a/{number}"))}}));
        }),
        ("bytes of a page", 64 << 10, Parse, "page", |document, bytes| {
            policy(document, json!({"maintenance": {"page": "x".repeat(bytes)}}));
        }),
    ];
    let verify = |count: usize, make: fn(&mut Value, usize)| {
        let mut document = good();
        document["number"] = json!(100);
        make(&mut document, count);
        release(document.to_string().as_bytes(), &app(), 100, &grant())
    };
    for (what, most, reason, detail, make) in table {
        assert!(verify(most, make).is_ok(), "{most} {what}: {:?}", verify(most, make).err());
        let refusal = verify(most + 1, make).expect_err(what);
        assert_eq!(refusal.reason, reason, "{what}: {refusal}");
        assert!(refusal.detail.contains(detail), "{what}: {refusal}");
    }
}

#[test]
fn a_bake_is_at_most_thirty_days() {
    let most = 30 * 24 * 3_600_000_u64;
    for (bake_ms, good_one) in [(most, true), (most + 1, false)] {
        let mut document = good();
        document["rollout"] = json!({"steps": [{"select": "*", "percent_bp": 10_000, "bake_ms": bake_ms}]});
        assert_eq!(verify(&document).map_err(|refusal| refusal.reason).is_ok(), good_one, "{bake_ms}");
    }
}

#[test]
fn a_document_over_its_size_is_refused_before_it_is_parsed() {
    let padded = |document: &Value, bytes: usize| {
        let text = document.to_string();
        let spaces = " ".repeat(bytes - text.len());
        text + &spaces
    };
    let control_document = json!({
        "format": 1, "app": "shop", "seq": 1, "issued": "2026-11-22T12:00:00Z", "release": 7, "base": 6, "step": 0,
        "state": "running", "since": "2026-11-22T12:00:00Z", "reason": null,
    });
    let read = |bytes: usize| control(padded(&control_document, bytes).as_bytes(), &app());
    assert!(read(16 << 10).is_ok());
    let refusal = read((16 << 10) + 1).unwrap_err();
    assert!(refusal.reason == Reason::Parse && refusal.detail.contains("16384"), "{refusal}");
    let read = |bytes: usize| release(padded(&good(), bytes).as_bytes(), &app(), 7, &grant());
    assert!(read(1 << 20).is_ok());
    assert_eq!(read((1 << 20) + 1).unwrap_err().reason, Reason::Parse);
    // White space is nothing to a parser: only its size is against it. So is what it cannot parse.
    assert!(control(&[b'['; (16 << 10) + 1], &app()).unwrap_err().detail.contains("at most"));
}
