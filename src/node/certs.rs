//! `eyot node certs`: which certificates a running node serves, and until when. It asks the node's admin.

use std::path::Path;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admin::ask;
use crate::out::Out;

pub(super) fn run(admin: &Path, out: Out) -> anyhow::Result<()> {
    let (status, answer) = ask(admin, "GET", "/status/certs")?;
    if status != 200 {
        bail!("the node's admin at {}: it said {status}", admin.display());
    }
    let mut certificates: Value = serde_json::from_str(&answer).context("the node's admin speaks no JSON")?;
    let now = Timestamp::now();
    for certificate in certificates.as_array_mut().into_iter().flatten() {
        let left = days_left(certificate, now);
        out.say(line(certificate, left));
        if let Some(fields) = certificate.as_object_mut() {
            fields.insert("days_left".to_owned(), json!(left));
        }
    }
    out.result(&certificates);
    Ok(())
}

/// Whole days until it ends; below 0 when it has ended.
fn days_left(certificate: &Value, now: Timestamp) -> Option<i64> {
    let expires: Timestamp = certificate["expires"].as_str()?.parse().ok()?;
    Some((expires.as_second() - now.as_second()).div_euclid(24 * 60 * 60))
}

fn line(certificate: &Value, left: Option<i64>) -> String {
    let text = |key: &str| certificate[key].as_str().unwrap_or("-").to_owned();
    let left = match left {
        Some(days) if days < 0 => "has ended".to_owned(),
        Some(days) => format!("{days} days left"),
        None => "-".to_owned(),
    };
    let ocsp = certificate["ocsp_until"].as_str().map(|until| format!("  ocsp until {until}")).unwrap_or_default();
    let (name, algorithm, source, issuer) = (text("name"), text("algorithm"), text("source"), text("issuer"));
    let (from, until) = (text("not_before"), text("expires"));
    format!("{name}  {algorithm}  {source}  {from} to {until}, {left}  by {issuer}{ocsp}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_shown_with_the_days_it_has_left() {
        let mut certificate = json!({
            "name": "shop.test", "names": ["shop.test"], "issuer": "CN=fleet", "algorithm": "ECDSA", "source": "file",
            "not_before": "2026-01-01T00:00:00Z", "expires": "2026-12-01T00:00:00Z", "ocsp_until": null,
        });
        for (now, left, says) in [
            ("2026-11-22T12:00:00Z", 8, "8 days left"),
            ("2026-11-30T00:00:01Z", 0, "0 days left"),
            ("2026-12-01T00:00:01Z", -1, "has ended"),
        ] {
            let found = days_left(&certificate, now.parse().expect("a time"));
            assert_eq!(found, Some(left), "{now}");
            let line = line(&certificate, found);
            assert!(
                line.starts_with("shop.test  ECDSA  file") && line.contains(says) && !line.contains("ocsp"),
                "{line}"
            );
        }
        certificate["ocsp_until"] = json!("2026-11-25T00:00:00Z");
        assert!(line(&certificate, None).ends_with("by CN=fleet  ocsp until 2026-11-25T00:00:00Z"));
        certificate["expires"] = json!("soon");
        assert_eq!(days_left(&certificate, Timestamp::UNIX_EPOCH), None);
    }
}
