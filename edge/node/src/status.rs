//! What became of the releases on this node, for the operator: `/status`, and the report to the parents. Who pulls and
//! activates writes it; nobody decides by it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eyot_bundle::name::Name;
use eyot_bundle::refusal::Refusal;
use eyot_bundle::secret::Recipient;
use eyot_link::wire::{AppReport, Refused};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Refused roles that are shown.
const ROLES_MAX: usize = 200;

/// How the ledger is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LedgerHealth {
    /// No floor is known: the node serves what it served and takes nothing new until the operator resets its trust.
    FloorLost(String),
    /// Not opened yet.
    #[default]
    None,
    /// Every floor is known.
    Ok,
}

impl LedgerHealth {
    /// The word of it in report and metric.
    pub fn word(&self) -> &'static str {
        match self {
            Self::FloorLost(_) => "floor_lost",
            Self::None => "none",
            Self::Ok => "ok",
        }
    }
}

/// One app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppStatus {
    /// The release that answers.
    pub active: Option<u64>,
    /// The newest release made ready.
    pub staged: Option<u64>,
    /// What its grant says: `active`, `suspended` or `removed`.
    pub granted: &'static str,
    /// The last refusal, until something later is taken, and of which release it was; 0: not known.
    pub refused: Option<(u64, Refusal)>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The public half of its identity, which secrets are sealed to.
    pub identity: Option<Recipient>,
    /// How the ledger is.
    pub ledger: LedgerHealth,
    /// The version of the snapshot.
    pub seq: u64,
    /// The apps.
    pub apps: BTreeMap<Name, AppStatus>,
    /// Roles whose newest version is not believed.
    pub roles: BTreeMap<String, Refusal>,
    /// When each role expires.
    pub expiries: Vec<(String, Timestamp)>,
    /// The parent whose changes are followed.
    pub parent: Option<String>,
    /// When a parent was last asked with success.
    pub asked: Option<Timestamp>,
    /// Why the last one was asked without.
    pub unreachable: Option<String>,
    /// This node's clock minus the signed time, when that was new, in milliseconds.
    pub clock_ms_off: i64,
}

/// The facts, shared.
#[derive(Debug, Default)]
pub struct Status(Mutex<Facts>);

impl Status {
    /// The facts, to read or to write. Hold them shortly.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `release` of `app` was refused. Whether that is news.
    pub fn refuse(&self, app: &Name, release: u64, refusal: &Refusal) -> bool {
        let mut facts = self.facts();
        let status = facts.apps.entry(app.clone()).or_default();
        let same = |(number, known): &(u64, Refusal)| *number == release && known.reason == refusal.reason;
        let news = !status.refused.as_ref().is_some_and(same);
        status.refused = Some((release, refusal.clone()));
        news
    }

    /// `/status`.
    pub fn view(&self) -> Value {
        let facts = self.facts();
        let refusal = |refusal: &Refusal| json!({"reason": refusal.reason.code(), "detail": refusal.detail});
        let apps: BTreeMap<_, _> = facts.apps.iter().map(|(name, app)| (name.as_str(), view(app))).collect();
        let roles: BTreeMap<_, _> =
            facts.roles.iter().take(ROLES_MAX).map(|(role, why)| (role, refusal(why))).collect();
        let expiries: BTreeMap<_, _> = facts.expiries.iter().take(ROLES_MAX).cloned().collect();
        json!({
            "identity": facts.identity,
            "seq": facts.seq,
            "ledger": facts.ledger.word(),
            "ledger_detail": match &facts.ledger { LedgerHealth::FloorLost(why) => Some(why), _ => None },
            "parent": facts.parent,
            "asked": facts.asked,
            "unreachable": facts.unreachable,
            "clock_ms_off": facts.clock_ms_off,
            "apps": apps,
            "refused_roles": roles,
            "expires": expiries,
        })
    }

    /// The apps, as a report has them.
    pub fn apps(&self) -> BTreeMap<Name, AppReport> {
        let facts = self.facts();
        facts.apps.iter().map(|(name, app)| (name.clone(), report(app))).collect()
    }
}

fn view(app: &AppStatus) -> Value {
    let refused = app.refused.as_ref().map(
        |(release, refusal)| json!({"release": release, "reason": refusal.reason.code(), "detail": refusal.detail}),
    );
    json!({"active": app.active, "staged": app.staged, "granted": app.granted, "refused": refused})
}

fn report(app: &AppStatus) -> AppReport {
    let refused = app.refused.as_ref().map(|(release, refusal)| Refused {
        release: *release,
        reason: refusal.reason,
        detail: refusal.detail.chars().take(500).collect(),
    });
    AppReport { active: app.active, staged: app.staged, refused, windows: Vec::new() }
}

#[cfg(test)]
mod tests {
    use eyot_bundle::refusal::Reason;

    use super::*;

    #[test]
    fn a_refusal_is_news_once_and_stands_in_status_and_report() {
        let (status, shop): (_, Name) = (Status::default(), "shop".parse().expect("a name"));
        let refusal = Refusal::new(Reason::HostNotGranted, "host `a.b`");
        assert!(status.refuse(&shop, 418, &refusal));
        assert!(!status.refuse(&shop, 418, &refusal));
        assert!(status.refuse(&shop, 419, &refusal));
        assert_eq!(status.view()["apps"]["shop"]["refused"]["reason"], "host_not_granted");
        assert_eq!(status.apps()[&shop].refused.as_ref().map(|refused| refused.release), Some(419));
    }
}
