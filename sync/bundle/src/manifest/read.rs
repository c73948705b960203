//! The keys of a manifest, table by table.

mod cache;
mod parts;
mod policy;
mod upstream;

use std::collections::BTreeMap;

use super::{FunctionSource, Manifest, Publish};
use crate::host::HostPattern;
use crate::name::Name;
use crate::release::{Limits, OnFault, Redirect, Respond, Rollout, RolloutUnit, Route, Step, Target};
use crate::text::{Blank, Table};
use crate::verify::{self, checks, parts as checks_parts};

pub(super) fn manifest(root: &mut Table<'_>) -> Manifest {
    let app = root.parsed("app").required();
    let hosts: Vec<HostPattern> = root.parsed_list("hosts").not_empty_list().required();
    let publish = publish(&mut root.table("publish"));
    let tables = root.named_tables::<Name>("functions").into_iter();
    let functions: Vec<_> = tables.map(|(name, mut table)| (table.line(), name, function(&mut table))).collect();
    let lines: Vec<_> = functions.iter().map(|(line, name, _)| (*line, name.clone())).collect();
    let functions = functions.into_iter().map(|(_, name, function)| (name, function)).collect();
    let upstreams = root.named_tables("upstreams").into_iter();
    let upstreams = upstreams.map(|(name, mut table)| (name, upstream::upstream(&mut table))).collect();
    let files = root.named_tables("files").into_iter();
    let files = files.map(|(name, mut table)| (name, parts::files(&mut table))).collect();
    let stores = root.named_tables("stores").into_iter();
    let stores = stores.map(|(name, mut table)| (name, parts::store(&mut table))).collect();
    let schedules: Vec<_> = root.tables("schedules").iter_mut().map(parts::schedule).collect();
    let queues: Vec<_> = root.tables("queues").iter_mut().map(parts::queue).collect();
    if !root.has("routes") {
        root.note_lack("`routes` is missing");
    }
    let (places, routes): (Vec<_>, _) = root.tables("routes").into_iter().map(|mut table| route(&mut table)).unzip();
    let rollout = rollout(&mut root.table("rollout"));
    let at = schedules.iter().map(|(line, schedule)| (*line, "schedules", schedule.function.clone()));
    let called: Vec<_> =
        at.chain(queues.iter().map(|(line, queue)| (*line, "queues", queue.function.clone()))).collect();
    let schedules = schedules.into_iter().map(|(_, schedule)| schedule).collect();
    let queues = queues.into_iter().map(|(_, queue)| queue).collect();
    let manifest =
        Manifest { app, hosts, publish, functions, upstreams, files, stores, schedules, queues, routes, rollout };
    references(root, &manifest, &places);
    for (line, name) in lines {
        for text in manifest.functions.get(&name).map(|source| lacks(source, &manifest)).unwrap_or_default() {
            root.note_at(line, format!("`functions.{name}`: {text}"));
        }
    }
    for (line, what, name) in called {
        if name != Name::blank() && !manifest.functions.contains_key(&name) {
            root.note_at(line, format!("`{what}`: there is no function `{name}`"));
        }
    }
    manifest
}

fn publish(table: &mut Table<'_>) -> Publish {
    let url = |text: String| match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() => Ok(text),
        _ => Err("is no URL of an origin: write `https://origin.example.net:7443`"),
    };
    Publish { origin: table.string("origin").and_then(url).optional(), ca: table.string("ca").not_empty().optional() }
}

fn function(table: &mut Table<'_>) -> FunctionSource {
    let path = table.string("path").not_empty().required();
    let build = table.string("build").not_empty().optional();
    let wasm = table.string("wasm").not_empty().required();
    let limits = limits(&mut table.table("limits"));
    let egress = table.parsed_list::<crate::web_origin::Egress>("egress").or(Vec::new());
    let env = table.string_map("env").and_then(|env| checks::env(&env).map(|()| env)).or_default();
    let config = table.string_map("config").and_then(|config| checks_parts::config(&config).map(|()| config));
    let config = config.or_default();
    let secrets = table.strings("secrets").and_then(|names| checks_parts::secret_names(names.iter()).map(|()| names));
    let secrets = secrets.or(Vec::new());
    let stores = table.string_map("stores").and_then(stores).or_default();
    let calls = table.parsed_list("calls").or(Vec::new());
    let reuse = parts::reuse(&mut table.table("reuse"));
    let purge = table.boolean("purge").or(false);
    let egress = egress.iter().map(ToString::to_string).collect();
    FunctionSource { path, build, wasm, limits, egress, env, config, secrets, stores, calls, reuse, purge }
}

/// Names that a function opens, and the stores behind them.
fn stores(stores: BTreeMap<String, String>) -> Result<BTreeMap<String, Name>, String> {
    checks_parts::store_names(stores.keys().collect::<Vec<_>>().into_iter())?;
    let named = |(opened, store): (String, String)| {
        let name = store.parse::<Name>().map_err(|error| error.to_string())?;
        Ok((opened, name))
    };
    stores.into_iter().map(named).collect()
}

fn limits(table: &mut Table<'_>) -> Limits {
    let default = Limits::default();
    let noted = table.noted();
    let limits = Limits {
        cpu_us: table.duration_us("cpu").or(default.cpu_us),
        wall_ms: table.duration_ms("wall").or(default.wall_ms),
        idle_ms: table.duration_ms("idle").or(default.idle_ms),
        memory_bytes: table.size_bytes("memory").or(default.memory_bytes),
        subrequests: table.integer("subrequests").or(default.subrequests),
        body_bytes: table.size_bytes("body").or(default.body_bytes),
        header_bytes: table.size_bytes("header").or(default.header_bytes),
    };
    check(table, noted, || checks::limits(&limits));
    limits
}

/// Where a route stands in the text.
struct Place {
    line: usize,
    /// Whether its host, path and methods were read as they stand.
    sound: bool,
}

fn route(table: &mut Table<'_>) -> (Place, Route) {
    let noted = table.noted();
    let host = table.parsed("host").required();
    let path = table.parsed("path").required();
    let methods = table.strings("methods").and_then(|list| checks::methods(&list).map(|()| list)).or(Vec::new());
    let place = Place { line: table.line(), sound: table.noted() == noted };
    let target = target(table);
    let noted = table.noted();
    let open = &[("close", OnFault::Close), ("open", OnFault::Open)];
    let on_fault = table.choice("on_fault", open).or_default();
    let mut fallback_table = table.table("fallback");
    let fallback = fallback_table.is_present().then(|| self::target(&mut fallback_table));
    drop(fallback_table);
    check(table, noted, || match (&fallback, on_fault) {
        (None, OnFault::Open) => Err("`on_fault` is open, and there is no `fallback`".to_owned()),
        (Some(_), OnFault::Close) => Err("has a `fallback`; it needs `on_fault = \"open\"`".to_owned()),
        (None, OnFault::Close) | (Some(_), OnFault::Open) => Ok(()),
    });
    let noted = table.noted();
    let early_data = table.boolean("early_data").or(false);
    check(table, noted, || checks::early_data(early_data, &methods));
    let before = table.parsed_list("before").and_then(|names| checks_parts::before(&names).map(|()| names));
    let before = before.or(Vec::new());
    let noted = table.noted();
    let cache = cache::cache(table);
    check(table, noted, || cache.as_ref().map_or(Ok(()), |cache| verify::cache::fits(cache, &target)));
    let policy = policy::policy(table);
    let id = verify::route_id(&host, &path, &methods);
    (place, Route { id, host, path, methods, target, before, on_fault, fallback, early_data, cache, policy })
}

/// The one target of a route, or of its fallback.
fn target(table: &mut Table<'_>) -> Target {
    let files = table.parsed::<Name>("files").optional().map(Target::Files);
    let function = table.parsed::<Name>("function").optional().map(Target::Function);
    let upstream = table.parsed::<Name>("upstream").optional().map(Target::Upstream);
    let respond = table.has("respond").then(|| respond(&mut table.table("respond")));
    let redirect = table.has("redirect").then(|| redirect(&mut table.table("redirect")));
    let mut targets: Vec<_> = [files, function, upstream, respond, redirect].into_iter().flatten().collect();
    let one = "needs exactly one of `function`, `upstream`, `files`, `respond`, `redirect`";
    if targets.len() > 1 {
        table.note(one);
    } else if targets.is_empty() {
        table.note_lack(one);
    }
    targets.pop().unwrap_or_else(|| Target::Function(Name::blank()))
}

fn respond(table: &mut Table<'_>) -> Target {
    let noted = table.noted();
    let respond = Respond {
        status: table.integer("status").required(),
        headers: table.string_map("headers").or_default(),
        body: table.string("body").or_default(),
    };
    check(table, noted, || checks::respond(&respond));
    Target::Respond(respond)
}

fn redirect(table: &mut Table<'_>) -> Target {
    let noted = table.noted();
    let redirect = Redirect { to: table.string("to").required(), status: table.integer("status").or(308) };
    check(table, noted, || checks::redirect(&redirect));
    Target::Redirect(redirect)
}

fn rollout(table: &mut Table<'_>) -> Rollout {
    let noted = table.noted();
    let mut rollout = Rollout {
        unit: table.choice("unit", &[("node", RolloutUnit::Node)]).or(RolloutUnit::Node),
        instant: table.boolean("instant").or(false),
        ..Rollout::default()
    };
    if table.has("steps") {
        rollout.steps = table.tables("steps").iter_mut().map(step).collect();
    }
    table.later(&["allow_shrink", "gate", "key", "on_fail"]);
    check(table, noted, || checks::rollout(&rollout));
    rollout
}

fn step(table: &mut Table<'_>) -> Step {
    let percent = table.float("percent").within(0.0, 100.0).or(100.0);
    table.later(&["regions_at_once"]);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 to 100, and rounded on purpose"
    )]
    let percent_bp = (percent * 100.0).round() as u16;
    Step { select: table.string("select").or("*".to_owned()), percent_bp, bake_ms: table.duration_ms("bake").or(0) }
}

/// Notes what `check` says of the table as a whole, if nothing in it was noted since the count was `noted`.
fn check(table: &Table<'_>, noted: usize, check: impl FnOnce() -> Result<(), String>) {
    if table.noted() == noted {
        check().unwrap_or_else(|text| table.note(text));
    }
}

/// What can be said only when all of it was read: names that lead nowhere, hosts outside the app's, routes twice.
fn references(root: &Table<'_>, manifest: &Manifest, places: &[Place]) {
    if manifest.routes.len() > verify::ROUTES_MAX || manifest.functions.len() > verify::FUNCTIONS_MAX {
        root.note(format!("more than {} routes or {} functions", verify::ROUTES_MAX, verify::FUNCTIONS_MAX));
    }
    let upstreams = manifest.upstreams.values().map(|source| &source.upstream);
    verify::upstream::count(upstreams).unwrap_or_else(|text| root.note(text));
    let own = |route: &Route| manifest.hosts.is_empty() || manifest.hosts.iter().any(|host| host.covers(&route.host));
    for (route, place) in manifest.routes.iter().zip(places) {
        for name in route.before.iter().filter(|name| !manifest.functions.contains_key(*name)) {
            root.note_at(place.line, format!("`routes`: `before`: there is no function `{name}`"));
        }
        if place.sound && !own(route) {
            root.note_at(place.line, format!("`routes`: host `{}` is not among the app's `hosts`", route.host));
        }
        for text in std::iter::once(&route.target).chain(&route.fallback).filter_map(|target| missing(target, manifest))
        {
            root.note_at(place.line, format!("`routes`: {text}"));
        }
    }
    let sound = manifest.routes.iter().zip(places).filter(|(_, place)| place.sound);
    let (routes, places): (Vec<&Route>, Vec<&Place>) = sound.unzip();
    for index in checks::twice(&routes) {
        let id = &routes[index].id;
        root.note_at(places[index].line, format!("`routes`: host, path and method of `{id}` stand above already"));
    }
}

/// What is missing of what a function names.
fn lacks(source: &FunctionSource, manifest: &Manifest) -> Vec<String> {
    let calls = source.calls.iter().filter(|name| !manifest.functions.contains_key(*name));
    let calls = calls.map(|name| format!("`calls`: there is no function `{name}`"));
    let stores = source.stores.values().filter(|name| !manifest.stores.contains_key(*name));
    calls.chain(stores.map(|name| format!("`stores`: there is no store `{name}`"))).collect()
}

/// What is missing for a target that names a function or an upstream.
fn missing(target: &Target, manifest: &Manifest) -> Option<String> {
    let (kind, name, known) = match target {
        Target::Function(name) => ("function", name, manifest.functions.contains_key(name)),
        Target::Upstream(name) => ("upstream", name, manifest.upstreams.contains_key(name)),
        Target::Files(name) => ("folder of files", name, manifest.files.contains_key(name)),
        Target::Redirect(_) | Target::Respond(_) => return None,
    };
    (!known && *name != Name::blank()).then(|| format!("there is no {kind} `{name}`"))
}
