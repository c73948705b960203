//! What nodes say to each other through the origin to get certificates as one fleet. All of it is sealed by nodes for
//! nodes: the origin keeps and passes on bytes that it cannot read, and decides only whose turn it is.

use std::sync::Arc;

use eyot_bundle::host::HostPattern;
use eyot_bundle::name::Name;
use eyot_link::acme::{SEALED_BYTES_MAX, Sealed, SealedCertificate};
use eyot_link::wire::Base64;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::denied::Denied;
use crate::heads::{Entry, Heads};

/// A sealed challenge larger than this is refused, in bytes.
pub(crate) const CHALLENGE_BYTES_MAX: usize = 4 << 10;
/// Challenges that are told at once; the oldest gives way.
const CHALLENGES_MAX: usize = 64;
/// How long a challenge is told to streams that open, in seconds.
const TOLD_S: i64 = 600;
/// Names whose certificates are kept.
const NAMES_MAX: usize = 1_000;
/// How long a node may order before the next one may, in milliseconds.
const LEASE_MS: u64 = 600_000;
/// How often a head is read again after another writer was first.
const TRIES_MAX: usize = 16;
/// The heads.
const LEASE: &str = "acme";
const CHALLENGES: &str = "acme/challenges";
const NAMES: &str = "acme/names";

/// A challenge on its way to all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Counted up from 1.
    pub(crate) n: u64,
    at: Timestamp,
    sealed: Base64,
}

impl Told {
    pub(crate) fn line(&self) -> Sealed {
        Sealed { sealed: self.sealed.clone() }
    }
}

/// The challenges that are told, as of one version of their head. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Acme(Arc<watch::Sender<(u64, Arc<Vec<Told>>)>>);

impl Default for Acme {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new((0, Arc::default()))))
    }
}

impl Acme {
    /// The challenges as they come, the oldest first.
    pub(crate) fn challenges(&self) -> watch::Receiver<(u64, Arc<Vec<Told>>)> {
        self.0.subscribe()
    }

    /// Takes in what was told by this origin or another.
    pub(crate) async fn reload(&self, heads: &impl Heads) -> Result<(), Denied> {
        if let Some(entry) = heads.get(CHALLENGES).await? {
            self.show(entry.version, Arc::new(read(Some(&entry))));
        }
        Ok(())
    }

    fn show(&self, version: u64, challenges: Arc<Vec<Told>>) {
        self.0.send_if_modified(|shown| {
            let later = version > shown.0;
            if later {
                *shown = (version, challenges);
            }
            later
        });
    }

    /// Tells a challenge to all nodes.
    pub(crate) async fn tell(&self, heads: &impl Heads, sealed: Sealed, now: Timestamp) -> Result<(), Denied> {
        if sealed.sealed.0.len() > CHALLENGE_BYTES_MAX {
            return Err(too_large(CHALLENGE_BYTES_MAX));
        }
        for _ in 0..TRIES_MAX {
            let entry = heads.get(CHALLENGES).await?;
            let mut challenges: Vec<Told> = read(entry.as_ref());
            let n = challenges.last().map_or(0, |told| told.n) + 1;
            challenges.push(Told { n, at: now, sealed: sealed.sealed.clone() });
            // The newest stays whatever the clock says: the count goes on from it.
            let spare = challenges.len().saturating_sub(CHALLENGES_MAX);
            challenges.drain(..spare);
            challenges.retain(|told| told.n == n || is_fresh(told, now));
            match swap(heads, CHALLENGES, entry, &challenges).await {
                Ok(version) => {
                    self.show(version, Arc::new(challenges));
                    return Ok(());
                }
                Err(Denied::Moved) => {}
                Err(denied) => return Err(denied),
            }
        }
        Err(Denied::Moved)
    }
}

/// Whether a challenge is still told.
pub(crate) fn is_fresh(told: &Told, now: Timestamp) -> bool {
    now.duration_since(told.at) < SignedDuration::from_secs(TOLD_S)
}

/// Whether `node` orders now: asked for, or given back.
pub(crate) async fn lease(heads: &impl Heads, node: &Name, hold: bool) -> Result<bool, Denied> {
    let held = heads.lease(LEASE, node.as_str(), if hold { LEASE_MS } else { 0 }).await?;
    Ok(held && hold)
}

/// The sealed certificate of `name`.
pub(crate) async fn certificate(heads: &impl Heads, name: &str) -> Result<SealedCertificate, Denied> {
    let entry = heads.get(&key(name)?).await?;
    let entry = entry.ok_or_else(|| Denied::not_found("no node has put a certificate of this name here"))?;
    Ok(SealedCertificate { version: entry.version, sealed: Base64(entry.value.to_vec()) })
}

/// Puts a sealed certificate in the place of the version that its sender saw; the new version.
pub(crate) async fn put(heads: &impl Heads, name: &str, certificate: SealedCertificate) -> Result<u64, Denied> {
    if certificate.sealed.0.len() > SEALED_BYTES_MAX {
        return Err(too_large(SEALED_BYTES_MAX));
    }
    let key = key(name)?;
    let was = (certificate.version > 0).then_some(certificate.version);
    if was.is_none() {
        enter(heads, name).await?;
    }
    let swapped = heads.swap(&key, was, certificate.sealed.0.into()).await.map_err(Denied::from);
    swapped.map_err(|denied| match denied {
        Denied::Moved => Denied::request(StatusCode::CONFLICT, "moved", "another node was first: read it again"),
        denied => denied,
    })
}

/// Enters a name among those whose certificates are kept.
async fn enter(heads: &impl Heads, name: &str) -> Result<(), Denied> {
    for _ in 0..TRIES_MAX {
        let entry = heads.get(NAMES).await?;
        let mut names: Vec<String> = read(entry.as_ref());
        if names.iter().any(|known| known == name) {
            return Ok(());
        }
        if names.len() >= NAMES_MAX {
            let detail = format!("certificates of {NAMES_MAX} names are kept; this is one more");
            return Err(Denied::request(StatusCode::INSUFFICIENT_STORAGE, "too_many", detail));
        }
        names.push(name.to_owned());
        match swap(heads, NAMES, entry, &names).await {
            Ok(_) => return Ok(()),
            Err(Denied::Moved) => {}
            Err(denied) => return Err(denied),
        }
    }
    Err(Denied::Moved)
}

/// The head of a name's certificate.
fn key(name: &str) -> Result<String, Denied> {
    let host: Result<HostPattern, _> = name.parse();
    match host {
        Ok(host) if host.to_string() == name && !name.starts_with('*') => Ok(format!("cert/{name}")),
        _ => Err(Denied::malformed("a certificate is of one DNS name, in lower case")),
    }
}

/// A head's value. One that cannot be read is as if it was not there: what it holds is of passing use.
fn read<T: serde::de::DeserializeOwned + Default>(entry: Option<&Entry>) -> T {
    entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default()
}

async fn swap(heads: &impl Heads, key: &str, was: Option<Entry>, value: &impl Serialize) -> Result<u64, Denied> {
    let bytes = serde_json::to_vec(value).map_err(|error| Denied::Failed(error.to_string()))?;
    Ok(heads.swap(key, was.map(|entry| entry.version), bytes.into()).await?)
}

fn too_large(bytes_max: usize) -> Denied {
    let detail = format!("at most {bytes_max} sealed bytes are taken here");
    Denied::request(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::redb::RedbHeads;

    fn store() -> (tempfile::TempDir, RedbHeads) {
        let folder = tempfile::tempdir().expect("a folder");
        let heads = RedbHeads::open(&folder.path().join("heads.redb")).expect("a new file");
        (folder, heads)
    }

    fn sealed(bytes: usize) -> Base64 {
        Base64(vec![7; bytes])
    }

    #[tokio::test]
    async fn the_64_newest_challenges_of_4_kib_and_ten_minutes_are_told() {
        let (_folder, heads) = store();
        let (acme, other) = (Acme::default(), Acme::default());
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..65 {
            acme.tell(&heads, Sealed { sealed: sealed(4 << 10) }, now).await.expect("told");
        }
        let larger = acme.tell(&heads, Sealed { sealed: sealed((4 << 10) + 1) }, now).await;
        assert_eq!(larger.expect_err("too large").code(), "too_large");
        other.reload(&heads).await.expect("read");
        for acme in [&acme, &other] {
            let told: Vec<_> = acme.challenges().borrow().1.iter().map(|told| told.n).collect();
            assert_eq!(told, (2..=65).collect::<Vec<_>>());
        }
        let later = now + SignedDuration::from_secs(600);
        acme.tell(&heads, Sealed { sealed: sealed(1) }, later).await.expect("told");
        let told: Vec<_> = acme.challenges().borrow().1.iter().map(|told| told.n).collect();
        assert_eq!(told, [66], "the others are ten minutes old");
    }

    #[tokio::test]
    async fn one_node_orders_until_it_gives_that_back() {
        let (_folder, heads) = store();
        let (a, b): (Name, Name) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
        for (node, hold, expect) in [
            (&a, true, true),
            (&b, true, false),
            (&a, true, true),
            (&b, false, false),
            (&b, true, false),
            (&a, false, false),
            (&b, true, true),
            (&a, true, false),
        ] {
            assert_eq!(lease(&heads, node, hold).await.expect("answered"), expect, "{node} {hold}");
        }
    }

    #[tokio::test]
    async fn a_certificate_takes_the_place_of_the_one_that_was_seen() {
        let (_folder, heads) = store();
        let put = |name: &'static str, version, bytes| {
            let heads = &heads;
            async move { put(heads, name, SealedCertificate { version, sealed: sealed(bytes) }).await }
        };
        assert_eq!(certificate(&heads, "a.example").await.expect_err("none").code(), "not_found");
        assert_eq!(put("a.example", 0, 64 << 10).await.expect("put"), 1);
        assert_eq!(put("a.example", 0, 1).await.expect_err("seen too early").code(), "moved");
        assert_eq!(put("a.example", 1, (64 << 10) + 1).await.expect_err("too large").code(), "too_large");
        assert_eq!(put("a.example", 1, 2).await.expect("put"), 2);
        assert_eq!(certificate(&heads, "a.example").await.expect("one").sealed, sealed(2));
        for name in ["", "*.example", "A.example", "a/b", "..", "a.example."] {
            let put = super::put(&heads, name, SealedCertificate { version: 0, sealed: sealed(1) }).await;
            assert_eq!(put.expect_err("no name").code(), "bad_request", "{name}");
        }
    }

    #[tokio::test]
    async fn certificates_of_a_thousand_names_are_kept_and_those_can_be_renewed() {
        let (_folder, heads) = store();
        let names: Vec<String> = (0..1000).map(|count| format!("n{count}.example")).collect();
        heads.swap(NAMES, None, serde_json::to_vec(&names).expect("JSON").into()).await.expect("a swap");
        let one = |version| SealedCertificate { version, sealed: sealed(1) };
        assert_eq!(put(&heads, "one.more.example", one(0)).await.expect_err("one more").code(), "too_many");
        assert_eq!(put(&heads, "n999.example", one(0)).await.expect("known"), 1);
        assert_eq!(put(&heads, "n999.example", one(1)).await.expect("known"), 2);
    }
}
