//! The questions of the demo: one node over one protocol, and what its answer says.

use bytes::Bytes;
use eyot_link::body;
use eyot_link::get::{Get, get};
use eyot_link::line::{Patience, Protocol};
use eyot_link::tls::Authorities;
use http::{HeaderMap, Method};
use serde_json::json;

use super::house::{House, NodeAt};
use crate::get::{Facts, facts};
use crate::out::Out;

/// An answer of the demo is cut after so many bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long an answer's head may take, in milliseconds.
const HEAD_MS: u64 = 20_000;

/// Asks `node` for `path`.
pub(super) async fn ask(node: &NodeAt, ca: &[u8], protocol: Protocol, path: &str) -> anyhow::Result<(Facts, Bytes)> {
    let url = format!("https://localhost:{}{path}", node.port);
    let request = Get {
        url: url.parse()?,
        protocol,
        connect: Some(([127, 0, 0, 1], node.port).into()),
        authorities: Authorities::Pem(ca.to_vec()),
        method: Method::GET,
        headers: HeaderMap::new(),
        body: body::empty(),
        patience: Patience::each(HEAD_MS),
        head_ms: HEAD_MS,
    };
    let response = get(request).await?;
    let facts = facts(&response);
    Ok((facts, body::read(response.into_body(), &url, BODY_BYTES_MAX).await?))
}

/// Asks each node over each protocol, and says what came. Whether all nine were good.
pub(super) async fn nine(house: &House, path: &str, release: &str, out: Out) -> anyhow::Result<bool> {
    let ca = house.ca()?;
    let (mut rows, mut all_good) = (Vec::new(), true);
    for node in house.nodes() {
        for protocol in [Protocol::H3, Protocol::H2, Protocol::H1] {
            let (row, good) = match ask(node, &ca, protocol, path).await {
                Err(error) => (json!({"error": format!("{error:#}")}), false),
                Ok((facts, body)) => {
                    let same = facts.protocol == protocol.alpn() && facts.release.as_deref() == Some(release);
                    let good = facts.status == 200 && same && facts.cpu_ms.is_some();
                    let body = String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned();
                    let row = json!({
                        "status": facts.status.as_u16(), "protocol": facts.protocol, "release": facts.release,
                        "cpu_ms": facts.cpu_ms, "body": body,
                    });
                    (row, good)
                }
            };
            all_good &= good;
            let word = if good { "good" } else { "BAD" };
            let text = |key: &str| match &row[key] {
                serde_json::Value::Null => "-".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            if row.get("error").is_some() {
                out.say(format!("{:<6} {:<7} {:<9} {word}  {}", node.id, node.region, protocol.alpn(), text("error")));
            } else {
                out.say(format!(
                    "{:<6} {:<7} {:<9} {word}  status {}  cpu {} ms  release {}  {}",
                    node.id,
                    node.region,
                    protocol.alpn(),
                    text("status"),
                    text("cpu_ms"),
                    text("release"),
                    text("body"),
                ));
            }
            rows.push(
                json!({"node": node.id, "region": node.region, "asked": protocol.alpn(), "good": good, "answer": row}),
            );
        }
    }
    out.result(&json!({"good": all_good, "answers": rows}));
    Ok(all_good)
}
