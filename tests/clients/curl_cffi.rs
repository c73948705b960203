//! curl_cffi: libcurl with the TLS, HTTP/2 and HTTP/3 settings of Chrome.

use eyot_bundle::digest::Digest;
use serde::Deserialize;

use super::{House, told_all};
use crate::harness::peers;
use crate::harness::size::size;
use crate::harness::tools::python;

/// What the client saw of one request.
#[derive(Debug, Deserialize)]
struct Seen {
    error: Option<String>,
    status: u16,
    protocol: String,
    sha256: String,
    /// Of the connection.
    local_port: u16,
}

#[test]
fn with_the_settings_of_chrome_one_connection_gets_posts_and_takes_large_bodies_over_http_3_and_2() {
    let house = House::new();
    let node = house.node("a", "", "");
    let bodies = [0, 1 << 10, 1 << 20, size().body_bytes];
    for (version, protocol) in [("v3only", "h3"), ("v3", "h3"), ("v2", "h2")] {
        let before = [told_all(&node, "/up/curl", 0).len(), told_all(&node, "/up/echo", 0).len()];
        let url = format!("https://shop.test:{}/up/", node.port);
        let mut command = python("curl_cffi_client.py");
        command.arg(version).arg(house.world.ca()).arg(url).args(bodies.map(|bytes| bytes.to_string()));
        let seen: Vec<Seen> = peers::told(command);
        let fixed = std::iter::repeat_n(Digest::of(b"upstream /up/curl"), 5);
        let echoed = bodies.iter().map(|bytes| Digest::of(&peers::body(*bytes)));
        let expect: Vec<String> = fixed.chain(echoed).map(|digest| digest.to_string()).collect();
        for seen in &seen {
            let facts = (seen.error.as_deref(), seen.status, seen.protocol.as_str());
            assert_eq!(facts, (None, 200, protocol), "{version}: {seen:?}");
        }
        assert_eq!(seen.iter().map(|seen| seen.sha256.clone()).collect::<Vec<_>>(), expect, "{version}");
        assert!(seen.windows(2).all(|two| two[0].local_port == two[1].local_port), "{version}: {seen:?}");
        for (path, count, before) in [("/up/curl", 5, before[0]), ("/up/echo", bodies.len(), before[1])] {
            let told = told_all(&node, path, before + count);
            let told: Vec<_> =
                told[before..].iter().map(|(protocol, status, _)| (protocol.as_str(), *status)).collect();
            assert_eq!(told, vec![(protocol, 200); count], "{version} {path}");
        }
    }
}
