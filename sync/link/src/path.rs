//! The paths of the wire, each written in one place for both ends.

use eyot_bundle::digest::Digest;

use crate::purge::Since;

/// What every path begins with.
pub const ROOT: &str = "/v1";

/// A metadata file: `timestamp.json` or `<version>.<role>.json`.
pub fn metadata(file: &str) -> String {
    format!("{ROOT}/metadata/{file}")
}

/// The target `path` (`releases/shop/417.json`) with consistent snapshots: `/v1/targets/releases/shop/<sha256>.417.json`.
pub fn target(path: &str, sha256: Digest) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{ROOT}/targets/{directory}/{sha256}.{name}"),
        None => format!("{ROOT}/targets/{sha256}.{path}"),
    }
}

/// The other way round: the target's path and digest from what follows `/v1/targets/`.
pub fn parse_target(rest: &str) -> Option<(String, Digest)> {
    let (directory, file) = rest.rsplit_once('/').map_or((None, rest), |(directory, file)| (Some(directory), file));
    let (sha256, name) = file.split_once('.')?;
    let sha256 = sha256.parse().ok()?;
    let path = directory.map_or_else(|| name.to_owned(), |directory| format!("{directory}/{name}"));
    (!name.is_empty()).then_some((path, sha256))
}

/// A blob.
pub fn blob(digest: Digest) -> String {
    format!("{ROOT}/blobs/{digest}")
}

/// The stream of changes after `seq`, and of purges after those that were done.
pub fn watch(seq: u64, purged: Option<&Since>) -> String {
    match purged {
        Some(Since { log, n }) => format!("{ROOT}/watch?seq={seq}&purge={n}&log={log}"),
        None => format!("{ROOT}/watch?seq={seq}"),
    }
}

/// The reports of nodes.
pub const REPORT: &str = "/v1/report";
/// The apps.
pub const APPS: &str = "/v1/apps";
/// The fleet and what it reports.
pub const FLEET: &str = "/v1/fleet";
/// Who did what.
pub const AUDIT: &str = "/v1/audit";
/// The operator's uploads of metadata that was signed offline.
pub const METADATA: &str = "/v1/metadata";

/// Which node orders certificates.
pub const ACME_LEASE: &str = "/v1/acme/lease";
/// Challenges for all nodes.
pub const ACME_CHALLENGES: &str = "/v1/acme/challenges";

/// The sealed certificate of a DNS name.
pub fn acme_certificate(name: &str) -> String {
    format!("{ROOT}/acme/certificates/{name}")
}

/// The releases of an app.
pub fn releases(app: &str) -> String {
    format!("{APPS}/{app}/releases")
}

/// The turns of an app's schedules.
pub fn lease(app: &str) -> String {
    format!("{APPS}/{app}/lease")
}

/// The purges of an app.
pub fn purge(app: &str) -> String {
    format!("{APPS}/{app}/purge")
}

/// What is told of an app, as it happens.
pub fn follow(app: &str) -> String {
    format!("{APPS}/{app}/tail")
}

/// Where nodes bring what is told, for the follower of this id.
pub fn tail(id: &str) -> String {
    format!("{ROOT}/tail/{id}")
}

/// The rollout of an app.
pub fn rollout(app: &str) -> String {
    format!("{APPS}/{app}/rollout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_path_carries_its_digest_before_its_name_and_reads_back() {
        let digest = Digest::of(b"x");
        for path in ["releases/shop/417.json", "control/shop.json", "alone.json"] {
            let text = target(path, digest);
            let rest = text.strip_prefix("/v1/targets/").expect("a target");
            assert_eq!(parse_target(rest), Some((path.to_owned(), digest)));
        }
        for bad in ["", "a/b", "releases/shop/417.json", "x.json", &format!("a/{digest}."), &format!("a/{digest}")] {
            assert_eq!(parse_target(bad), None, "{bad}");
        }
    }
}
