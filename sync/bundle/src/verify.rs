//! Whether a release or a control says only what it may: the one check that the publisher's command, the origin and
//! every node make with the same code. Signatures and digests were checked before; here it is about what is said.

pub(crate) mod cache;
pub(crate) mod checks;
pub mod parts;
pub mod policy;
pub(crate) mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use checks::{FUNCTIONS_MAX, LimitsMost, PREVIOUS_MAX, ROUTES_MAX, route_id};

use crate::component::{self, COMPONENT_BYTES_MAX, WORLD, WORLD_0_3};
use crate::control::{CONTROL_BYTES_MAX, Control, State};
use crate::grant::{Ceilings, Grant};
use crate::host::HostPattern;
use crate::name::Name;
use crate::refusal::{Reason, Refusal};
use crate::release::{FORMAT, Function, OnFault, RELEASE_BYTES_MAX, Release, Route, Target};

/// Reads the release document `bytes` and checks it as release `number` of `app` within `grant`.
///
/// # Errors
/// `parse` for what is no such document or contradicts itself, `format_unknown` for another version's,
/// `host_not_granted` for a host or route outside the grant, `over_quota` for what asks more than the grant gives,
/// `import_forbidden` and `incompatible` for functions that no node runs. Whether the app may run at all
/// ([`Grant::state`]) is the caller's question.
pub fn release(bytes: &[u8], app: &Name, number: u64, grant: &Grant) -> Result<Release, Refusal> {
    let release: Release = document(bytes, RELEASE_BYTES_MAX)?;
    check(&release, app, number, grant)?;
    Ok(release)
}

/// Checks a release that was read or made already, as [`release`] does.
///
/// # Errors
/// As for [`release`].
pub fn check(release: &Release, app: &Name, number: u64, grant: &Grant) -> Result<(), Refusal> {
    if release.format != FORMAT {
        return Err(Refusal::new(Reason::FormatUnknown, format!("format {}", release.format)));
    }
    identity(release, app, number)?;
    hosts(release, grant)?;
    functions(release, grant)?;
    upstream::count(release.upstreams.values()).map_err(over)?;
    for (name, upstream) in &release.upstreams {
        upstream::upstream(upstream).map_err(|text| parse(format!("upstream `{name}`: {text}")))?;
    }
    routes(release)?;
    engines(release, grant)?;
    parts::release(release).map_err(parse)?;
    checks::rollout(&release.rollout).map_err(parse)
}

/// Reads the control document `bytes` and checks it as one for `app`.
///
/// # Errors
/// `parse` for what is no such document or contradicts itself, `format_unknown` for another version's.
pub fn control(bytes: &[u8], app: &Name) -> Result<Control, Refusal> {
    let control: Control = document(bytes, CONTROL_BYTES_MAX)?;
    let back = matches!(control.state, State::Aborted | State::RolledBack);
    let wrong = if control.app != *app {
        format!("is for the app `{}`, not `{app}`", control.app)
    } else if control.seq == 0 || control.release == 0 {
        "counts from 1".to_owned()
    } else if control.base == control.release {
        format!("goes from release {} to itself", control.release)
    } else if back && control.base == 0 {
        "goes back to nothing".to_owned()
    } else if control.reason.as_ref().is_some_and(|reason| reason.len() > 1_000) {
        "gives a reason of more than 1000 bytes".to_owned()
    } else {
        return Ok(control);
    };
    Err(parse(format!("control: {wrong}")))
}

/// Reads a JSON document of a known format, bounded before it is parsed.
fn document<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, Refusal> {
    /// What every format of the document has.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    if bytes.len() > bytes_max {
        return Err(parse(format!("{} bytes; at most {bytes_max} are read", bytes.len())));
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| parse(error.to_string()))?;
    if head.format != FORMAT {
        return Err(Refusal::new(Reason::FormatUnknown, format!("format {}; this build reads {FORMAT}", head.format)));
    }
    serde_json::from_slice(bytes).map_err(|error| parse(error.to_string()))
}

fn parse(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Parse, detail)
}

fn over(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::OverQuota, detail)
}

fn identity(release: &Release, app: &Name, number: u64) -> Result<(), Refusal> {
    if release.app != *app || release.number != number || number == 0 {
        return Err(parse(format!("says `{}/{}`, but is named `{app}/{number}`", release.app, release.number)));
    }
    let distinct: BTreeSet<_> = release.previous.iter().collect();
    if release.previous.len() > PREVIOUS_MAX || distinct.len() != release.previous.len() {
        return Err(parse(format!("`previous` names one release twice, or more than {PREVIOUS_MAX}")));
    }
    if let Some(bad) = release.previous.iter().find(|previous| **previous >= number || **previous == 0) {
        return Err(parse(format!("`previous` names {bad}, which is not before {number}")));
    }
    if release.min_release > number {
        return Err(parse(format!("`min_release` {} is after {number}", release.min_release)));
    }
    Ok(())
}

fn hosts(release: &Release, grant: &Grant) -> Result<(), Refusal> {
    if release.hosts.is_empty() || release.hosts.len() > checks::HOSTS_MAX {
        return Err(parse(format!("has {} hosts; it needs 1 to {}", release.hosts.len(), checks::HOSTS_MAX)));
    }
    let granted = |host: &HostPattern| grant.hosts.iter().any(|given| given.covers(host));
    let own = |host: &HostPattern| release.hosts.iter().any(|given| given.covers(host));
    if let Some(host) = release.hosts.iter().find(|host| !granted(host)) {
        return Err(Refusal::new(Reason::HostNotGranted, format!("host `{host}` is not granted to this app")));
    }
    if let Some(route) = release.routes.iter().find(|route| !own(&route.host)) {
        let detail = format!("route `{}` is outside the app's hosts", checks::short(&route.id));
        return Err(Refusal::new(Reason::HostNotGranted, detail));
    }
    Ok(())
}

/// Whether the grant gives the engines that stores and queues name.
fn engines(release: &Release, grant: &Grant) -> Result<(), Refusal> {
    let stores = release.stores.values().map(|store| store.engine);
    let missing = stores.chain(release.queues.iter().map(|queue| queue.engine)).find(|it| !grant.stores.contains(it));
    match missing {
        Some(engine) => {
            let engine = engine.label();
            Err(over(format!(
                "the engine `{engine}`; the operator opens it: `eyot app add --replace --engine {engine}`"
            )))
        }
        None => Ok(()),
    }
}

fn functions(release: &Release, grant: &Grant) -> Result<(), Refusal> {
    if release.functions.len() > FUNCTIONS_MAX {
        return Err(over(format!("{} functions; at most {}", release.functions.len(), FUNCTIONS_MAX)));
    }
    for (name, function) in &release.functions {
        self::function(function, grant)
            .and_then(|()| parts::function(function, release).map_err(parse))
            .map_err(|refusal| Refusal::new(refusal.reason, format!("function `{name}`: {}", refusal.detail)))?;
    }
    let mut bundles = BTreeMap::new();
    for bundle in release.bundles() {
        if bundles.insert(bundle.sha256, bundle.size).is_some_and(|size| size != bundle.size) {
            return Err(parse(format!("gives the size of the bundle {} twice, differently", bundle.sha256)));
        }
    }
    let total_bytes = bundles.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
    if total_bytes > grant.share.disk_bytes {
        return Err(over(format!("bundles of {total_bytes} bytes; the grant gives {}", grant.share.disk_bytes)));
    }
    Ok(())
}

fn function(function: &Function, grant: &Grant) -> Result<(), Refusal> {
    if function.bundle.size == 0 || function.bundle.size > COMPONENT_BYTES_MAX as u64 {
        return Err(over(format!(
            "a bundle of {} bytes; it may have 1 to {COMPONENT_BYTES_MAX}",
            function.bundle.size
        )));
    }
    if ![WORLD, WORLD_0_3].contains(&&*function.world) {
        let detail = format!("world `{}`; this build runs `{WORLD}` and `{WORLD_0_3}`", checks::short(&function.world));
        return Err(Refusal::new(Reason::Incompatible, detail));
    }
    if function.imports.len() > checks::IMPORTS_MAX {
        return Err(over(format!("{} imports; at most {}", function.imports.len(), checks::IMPORTS_MAX)));
    }
    function.imports.iter().try_for_each(|import| component::check_import_of(&function.world, import))?;
    checks::limits(&function.limits).map_err(parse)?;
    ceilings(function, &grant.limits)?;
    checks::env(&function.env).map_err(parse)?;
    checks::egress_list(&function.egress).map_err(parse)
}

/// Whether the function asks no more than the grant's ceilings.
fn ceilings(function: &Function, ceilings: &Ceilings) -> Result<(), Refusal> {
    let limits = function.limits;
    let asked = [
        ("cpu_us", limits.cpu_us, ceilings.cpu_us),
        ("wall_ms", limits.wall_ms, ceilings.wall_ms),
        ("memory_bytes", limits.memory_bytes, ceilings.memory_bytes),
        ("subrequests", limits.subrequests.into(), ceilings.subrequests.map(u64::from)),
    ];
    let over_ceiling = |(_, asked, ceiling): &&(_, u64, Option<u64>)| ceiling.is_some_and(|ceiling| *asked > ceiling);
    match asked.iter().find(over_ceiling) {
        Some((name, asked, Some(ceiling))) => Err(over(format!("asks {name} {asked}; the grant gives {ceiling}"))),
        _ => Ok(()),
    }
}

fn routes(release: &Release) -> Result<(), Refusal> {
    if release.routes.is_empty() || release.routes.len() > ROUTES_MAX {
        return Err(parse(format!("has {} routes; it needs 1 to {ROUTES_MAX}", release.routes.len())));
    }
    for route in &release.routes {
        let at = |text| parse(format!("route `{}`: {text}", checks::short(&route.id)));
        self::route(route, release).map_err(at)?;
    }
    let all: Vec<_> = release.routes.iter().collect();
    match checks::twice(&all).first().map(|index| checks::short(&release.routes[*index].id)) {
        Some(id) => Err(parse(format!("route `{id}`: its host, path and method stand twice"))),
        None => Ok(()),
    }
}

fn route(route: &Route, release: &Release) -> Result<(), String> {
    checks::methods(&route.methods)?;
    if route.id != route_id(&route.host, &route.path, &route.methods) {
        return Err("its id is not its host, path and methods".to_owned());
    }
    checks::early_data(route.early_data, &route.methods)?;
    if let Some(cache) = &route.cache {
        cache::check(cache).map_err(|text| format!("`cache`: {text}"))?;
        cache::fits(cache, &route.target)?;
    }
    parts::before(&route.before)?;
    policy::policy(&route.policy)?;
    if let Some(name) = route.before.iter().find(|name| !release.functions.contains_key(*name)) {
        return Err(format!("`before`: there is no function `{name}`"));
    }
    target(&route.target, release)?;
    match (&route.fallback, route.on_fault) {
        (Some(fallback), OnFault::Open) => target(fallback, release),
        (None, OnFault::Close) => Ok(()),
        (None, OnFault::Open) => Err("`on_fault` is open, and there is no fallback".to_owned()),
        (Some(_), OnFault::Close) => Err("has a fallback, and `on_fault` is not open".to_owned()),
    }
}

fn target(target: &Target, release: &Release) -> Result<(), String> {
    match target {
        Target::Function(name) if !release.functions.contains_key(name) => {
            Err(format!("there is no function `{name}`"))
        }
        Target::Upstream(name) if !release.upstreams.contains_key(name) => {
            Err(format!("there is no upstream `{name}`"))
        }
        Target::Files(name) if !release.files.contains_key(name) => Err(format!("there are no files `{name}`")),
        Target::Files(_) | Target::Function(_) | Target::Upstream(_) => Ok(()),
        Target::Redirect(redirect) => checks::redirect(redirect),
        Target::Respond(respond) => checks::respond(respond),
    }
}

#[cfg(test)]
mod tests;
