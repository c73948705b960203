//! What each app has uploaded, and when it tried to publish: the head `app/<name>`, and the quotas on both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::Reason;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::blobs::Blobs;
use crate::catalog::Catalog;
use crate::denied::Denied;
use crate::heads::Heads;

/// How often a head is read again after another writer was first.
const TRIES_MAX: usize = 16;
/// Uploads of one app, a count.
const UPLOADS_MAX: usize = 20_000;
/// An upload that no release names is kept for this, in seconds: a publish may still be on its way.
const UNUSED_S: i64 = 24 * 3600;
/// The span of the quota on publishes, in seconds.
const HOUR_S: i64 = 3600;

/// What one app has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Uploads {
    /// The blobs by digest.
    blobs: BTreeMap<Digest, Upload>,
    /// The tries to publish of the last hour, in seconds since 1970.
    publishes: Vec<i64>,
}

/// One blob of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    /// Its bytes, a count.
    size: u64,
    /// When it came last, in seconds since 1970.
    at: i64,
}

impl Uploads {
    pub(crate) fn holds(&self, digest: Digest) -> bool {
        self.blobs.contains_key(&digest)
    }

    fn bytes(&self) -> u64 {
        self.blobs.values().fold(0, |sum, upload| sum.saturating_add(upload.size))
    }

    /// Whether `size` more bytes fit.
    fn fits(&self, digest: Digest, size: u64, bytes_max: u64) -> Result<(), Denied> {
        let used = self.bytes();
        if self.holds(digest) || (used.saturating_add(size) <= bytes_max && self.blobs.len() < UPLOADS_MAX) {
            return Ok(());
        }
        let detail = if self.blobs.len() < UPLOADS_MAX {
            format!("{used} of {bytes_max} bytes of bundles are used, and {size} more do not fit")
        } else {
            format!("{UPLOADS_MAX} bundles are kept; those that no release names are gone after a day")
        };
        Err(Denied::refused(Reason::OverQuota, detail))
    }

    /// Forgets what no release of `used` names and has lain for [`UNUSED_S`].
    fn forget(&mut self, used: &BTreeSet<Digest>, now: Timestamp) {
        let old = |upload: &Upload| now.as_second().saturating_sub(upload.at) >= UNUSED_S;
        self.blobs.retain(|digest, upload| used.contains(digest) || !old(upload));
    }

    /// Counts a try to publish.
    fn count(&mut self, now: Timestamp, publishes_max: u32) -> Result<(), Denied> {
        let now_s = now.as_second();
        self.publishes.retain(|at| now_s.saturating_sub(*at) < HOUR_S && *at <= now_s);
        if self.publishes.len() >= usize::try_from(publishes_max).unwrap_or(usize::MAX) {
            let detail = format!("{publishes_max} publishes an hour are allowed; wait, or ask the operator");
            return Err(Denied::request(StatusCode::TOO_MANY_REQUESTS, Reason::OverQuota.code(), detail));
        }
        self.publishes.push(now_s);
        Ok(())
    }
}

impl<H: Heads, B: Blobs> Catalog<H, B> {
    /// What `app` has uploaded.
    pub(crate) async fn uploads(&self, app: &Name) -> Result<Uploads, Denied> {
        Ok(self.read_uploads(app).await?.1)
    }

    /// Whether `app` may upload `size` bytes more.
    pub(crate) async fn may_upload(&self, app: &Name, digest: Digest, size: u64) -> Result<(), Denied> {
        self.uploads(app).await?.fits(digest, size, self.quotas.bundles_bytes)
    }

    /// Notes an upload that is stored.
    pub(crate) async fn note_upload(
        &self,
        app: &Name,
        digest: Digest,
        size: u64,
        now: Timestamp,
    ) -> Result<(), Denied> {
        let bytes_max = self.quotas.bundles_bytes;
        self.change_uploads(app, |uploads| {
            uploads.fits(digest, size, bytes_max)?;
            uploads.blobs.insert(digest, Upload { size, at: now.as_second() });
            Ok(())
        })
        .await
    }

    /// Counts a try to publish against the quota.
    pub(crate) async fn count_publish(&self, app: &Name, now: Timestamp) -> Result<(), Denied> {
        let publishes_max = self.quotas.publishes_per_hour;
        self.change_uploads(app, |uploads| uploads.count(now, publishes_max)).await
    }

    /// Removes what nothing names any more: uploads of no release that is listed, and the bytes of what was replaced.
    /// Gives how many blobs that were.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<usize, Denied> {
        let _one = self.writing.lock().await;
        self.reload().await?;
        let view = self.view();
        let mut keep: BTreeSet<Digest> = view.targets.values().map(|file| file.sha256).collect();
        keep.extend(view.state.files.values().map(|file| file.sha256));
        keep.extend(view.state.earlier.iter().map(|(_, file)| file.sha256));
        for (app, known) in &view.apps {
            let mut used = BTreeSet::new();
            for number in known.trust.releases.keys() {
                let release = self.listed(known, *number).await?;
                used.extend(release.bundles().map(|bundle| bundle.sha256));
            }
            self.change_uploads(app, |uploads| {
                uploads.forget(&used, now);
                Ok(())
            })
            .await?;
            keep.extend(self.uploads(app).await?.blobs.into_keys());
            keep.extend(used);
        }
        let seconds = u64::try_from(now.as_second().saturating_sub(UNUSED_S)).unwrap_or(0);
        Ok(self.blobs.sweep(keep, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).await?)
    }

    async fn read_uploads(&self, app: &Name) -> Result<(Option<u64>, Uploads), Denied> {
        match self.heads.get(&format!("app/{app}")).await? {
            None => Ok((None, Uploads::default())),
            Some(entry) => {
                let uploads =
                    serde_json::from_slice(&entry.value).map_err(|error| Denied::Failed(error.to_string()))?;
                Ok((Some(entry.version), uploads))
            }
        }
    }

    async fn change_uploads(
        &self,
        app: &Name,
        change: impl Fn(&mut Uploads) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        for _ in 0..TRIES_MAX {
            let (version, mut uploads) = self.read_uploads(app).await?;
            let before = uploads.clone();
            change(&mut uploads)?;
            if uploads == before {
                return Ok(());
            }
            let value = serde_json::to_vec(&uploads).map_err(|error| Denied::Failed(error.to_string()))?;
            match self.heads.swap(&format!("app/{app}"), version, value.into()).await.map_err(Denied::from) {
                Ok(_) => return Ok(()),
                Err(Denied::Moved) => {}
                Err(denied) => return Err(denied),
            }
        }
        Err(Denied::Moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_twenty_thousand_uploads_and_no_more() {
        let digest = |number: usize| Digest::of(&number.to_be_bytes());
        let blobs = (0..19_999).map(|number| (digest(number), Upload { size: 1, at: 0 }));
        let mut uploads = Uploads { blobs: blobs.collect(), publishes: Vec::new() };
        assert!(uploads.fits(digest(20_000), 1, u64::MAX).is_ok());
        uploads.blobs.insert(digest(20_000), Upload { size: 1, at: 0 });
        assert_eq!(uploads.fits(digest(20_001), 1, u64::MAX).expect_err("one more").code(), "over_quota");
        assert!(uploads.fits(digest(7), 1, u64::MAX).is_ok(), "it is there already");
    }

    #[test]
    fn an_app_has_so_many_bytes_and_so_many_publishes_an_hour() {
        let mut uploads =
            Uploads { blobs: [(Digest::of(b"a"), Upload { size: 6, at: 0 })].into(), publishes: Vec::new() };
        assert!(uploads.fits(Digest::of(b"b"), 4, 10).is_ok());
        assert!(uploads.fits(Digest::of(b"a"), u64::MAX, 10).is_ok());
        assert_eq!(uploads.fits(Digest::of(b"b"), 5, 10).expect_err("over").code(), "over_quota");
        assert!(uploads.fits(Digest::of(b"b"), u64::MAX, u64::MAX - 1).is_err());
        let at = |second| Timestamp::from_second(second).expect("a time");
        for second in [0, 1] {
            uploads.count(at(second), 2).expect("within the quota");
        }
        assert_eq!(uploads.count(at(2), 2).expect_err("over").status(), StatusCode::TOO_MANY_REQUESTS);
        uploads.count(at(HOUR_S), 2).expect("the first has passed");
    }
}
