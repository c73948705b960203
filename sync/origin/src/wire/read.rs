//! What is asked for and changes nothing: metadata, targets, apps, releases, the fleet, the audit.

use std::collections::BTreeMap;

use bytes::Bytes;
use eyot_bundle::control::Control;
use eyot_bundle::grant::GrantState;
use eyot_bundle::name::Name;
use eyot_bundle::trust::app_of_role;
use eyot_link::path::parse_target;
use eyot_link::status::{Audit, Fleet};
use eyot_link::wire::{App, Apps, ReleaseRow, Releases, Rollout};
use eyot_plan::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::auth::{self, Caller};
use super::{Asked, Wire, json};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::heads::Heads;
use crate::view::{AppView, document};

impl<H: Heads, B: Blobs> Wire<H, B> {
    /// A metadata file, the exact bytes. A publisher gets those of its own apps.
    pub(super) async fn metadata(&self, asked: &Asked, file: &str) -> Result<Response<Body>, Denied> {
        let missing = || Denied::not_found(format!("there is no `{file}`"));
        let role = file.strip_suffix(".json").ok_or_else(missing)?;
        let role = role.split_once('.').map_or(role, |(_, role)| role);
        // A publisher's walk takes what is of another app for absent, and goes on.
        if app_of_role(role).is_some_and(|app| !asked.caller.sees(&app)) {
            return Err(missing());
        }
        let found = asked.view.metadata(file).ok_or_else(missing)?;
        let bytes = self.catalog.blobs.get(found.sha256, 0..found.length).await?.ok_or_else(missing)?;
        Ok(exact(bytes, file != "timestamp.json"))
    }

    /// A target: `releases/<app>/<sha256>.<n>.json`, `control/…`, `fleet/…`.
    pub(super) async fn target(&self, asked: &Asked, rest: &str) -> Result<Response<Body>, Denied> {
        let missing = || Denied::not_found("no role lists this target");
        let (path, sha256) = parse_target(rest).ok_or_else(missing)?;
        if !asked.caller.sees_target(&path) {
            return Err(missing());
        }
        let file = asked.view.targets.get(&path).filter(|file| file.sha256 == sha256).ok_or_else(missing)?;
        Ok(exact(document(&self.catalog.blobs, file).await?, true))
    }

    pub(super) fn apps(&self, asked: &Asked) -> Result<Response<Body>, Denied> {
        let seen = asked.view.apps.iter().filter(|(name, _)| asked.caller.sees(name));
        let apps = seen.map(|(name, app)| (name.clone(), row(app))).collect();
        json(StatusCode::OK, &Apps { apps })
    }

    pub(super) fn releases(&self, asked: &Asked, app: &Name) -> Result<Response<Body>, Denied> {
        let known = asked.view.apps.get(app).filter(|_| asked.caller.sees(app));
        let known = known.ok_or_else(|| Denied::not_found(format!("no app `{app}` was granted to this key")))?;
        let nodes = self.fleet.nodes(&asked.view, None);
        let mut active: BTreeMap<u64, u64> = BTreeMap::new();
        let reports = nodes.values().filter_map(|node| node.report.as_ref()?.apps.get(app)?.active);
        reports.for_each(|number| *active.entry(number).or_default() += 1);
        let releases = known.trust.releases.iter().map(|(number, file)| ReleaseRow {
            number: *number,
            sha256: file.sha256,
            length: file.length,
            nodes: active.get(number).copied().unwrap_or(0),
        });
        let rollout = known.control.as_ref().map(rollout);
        let role_version = known.role_version;
        json(StatusCode::OK, &Releases { role_version, releases: releases.collect(), rollout })
    }

    /// The nodes. A publisher sees of each what concerns its own apps.
    pub(super) fn fleet(&self, asked: &Asked) -> Result<Response<Body>, Denied> {
        let apps = match &asked.caller {
            Caller::Node(_) => return Err(auth::not_yours("nodes do not ask for the fleet".to_owned())),
            Caller::Signer { holder, .. } if holder.operator => None,
            Caller::Signer { holder, .. } => Some(&holder.apps),
        };
        let nodes = self.fleet.nodes(&asked.view, apps);
        json(StatusCode::OK, &Fleet { seq: asked.view.seq(), nodes })
    }

    pub(super) fn audit(&self, asked: &Asked) -> Result<Response<Body>, Denied> {
        let Caller::Signer { holder, .. } = &asked.caller else {
            return Err(auth::not_yours("nodes do not ask for the audit".to_owned()));
        };
        let theirs = |app: &Option<Name>| app.as_ref().is_some_and(|app| holder.apps.contains(app));
        let records = self.audit.recent(|record| holder.operator || theirs(&record.app));
        json(StatusCode::OK, &Audit { records })
    }
}

/// Signed bytes. What is named by its version or digest never changes.
fn exact(bytes: Bytes, immutable: bool) -> Response<Body> {
    let mut response = Response::new(eyot_plan::body::full(bytes));
    let cache = if immutable { "private, max-age=31536000, immutable" } else { "no-store" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn row(app: &AppView) -> App {
    let state = match app.trust.grant.state {
        GrantState::Active => "active",
        GrantState::Removed => "removed",
        GrantState::Suspended => "suspended",
    };
    App {
        state: state.to_owned(),
        hosts: app.trust.grant.hosts.iter().map(ToString::to_string).collect(),
        release: app.trust.releases.keys().next_back().copied(),
        rollout: app.control.as_ref().map(rollout),
    }
}

fn rollout(control: &Control) -> Rollout {
    Rollout {
        release: control.release,
        base: control.base,
        step: control.step,
        state: control.state,
        since: control.since,
        reason: control.reason.clone(),
    }
}
