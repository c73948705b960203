//! The checks of what a route asks of requests and does to answers, as a manifest and a release have them. Each says in
//! words what is wrong; the caller knows where it stands.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::checks::{LimitsMost, header, is_token, methods, short};
use crate::credential::{Password, Token};
use crate::files::Encoding;
use crate::host::HostPattern;
use crate::release::policy::{
    Access, Auth, Changes, Compress, Cors, Countries, Headers, Maintenance, Policy, Rate, SecurityHeaders, Window,
};
use crate::web_origin::WebOrigin;

/// Networks of one list.
pub const NETS_MAX: usize = 1_000;
/// Countries of one list: there are fewer.
pub const COUNTRIES_MAX: usize = 300;
/// Names with a password, and tokens, of one route.
pub const CREDENTIALS_MAX: usize = 100;
/// Origins, and fields of each list, of one route's CORS.
pub const CORS_MAX: usize = 100;
/// Fields that one list changes.
pub const CHANGES_MAX: usize = 50;
/// Rates of one route.
pub const RATES_MAX: usize = 4;
/// Requests of one window.
pub const REQUESTS_MAX: u32 = 10_000_000;
/// Media types that a route compresses beside those that are known.
pub const TYPES_MAX: usize = 50;
/// The page of a maintenance, in bytes.
pub const PAGE_BYTES_MAX: usize = 64 << 10;
const WINDOW_MS_MIN: u64 = 1_000;
const WINDOW_MS_MAX: u64 = 24 * 3_600_000;
const COMPRESS_MIN_BYTES_MAX: u64 = 1 << 30;
const CORS_AGE_S_MAX: u64 = 24 * 3_600;
const RETRY_AFTER_S_MAX: u32 = 30 * 24 * 3_600;
const HSTS_S_MAX: u64 = 10 * 365 * 24 * 3_600;
const NAME_BYTES_MAX: usize = 100;
const PATH_BYTES_MAX: usize = 1_024;

/// Values of `Referrer-Policy` (W3C Referrer Policy, section 3).
const REFERRERS: [&str; 9] = [
    "",
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

/// Fields of a request that frame it, belong to one hop, or are the node's to say.
const REQUEST_OURS: [&str; 20] = [
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "early-data",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
    "http2-settings",
];

/// Fields of an answer that say what its bytes are: who changes them alone changes what they mean.
const CONTENT: [&str; 4] = ["accept-ranges", "content-encoding", "content-range", "etag"];

pub(super) fn policy(policy: &Policy) -> Result<(), String> {
    let Policy { access, auth, body_bytes, compress, cors, headers, .. } = policy;
    let Policy { maintenance, rate, response_body_bytes, rewrite, security_headers, .. } = policy;
    let check = |name: &str, result: Result<(), String>| result.map_err(|text| format!("`{name}`: {text}"));
    check("access", access.as_ref().map_or(Ok(()), self::access))?;
    check("auth", auth.as_ref().map_or(Ok(()), self::auth))?;
    check("limits", limits(*body_bytes, *response_body_bytes))?;
    check("limits", rate.as_ref().map_or(Ok(()), self::rate))?;
    check("compress", compress.as_ref().map_or(Ok(()), self::compress))?;
    check("cors", cors.as_ref().map_or(Ok(()), self::cors))?;
    check("headers", headers.as_ref().map_or(Ok(()), self::headers))?;
    check("maintenance", maintenance.as_ref().map_or(Ok(()), self::maintenance))?;
    check("rewrite", rewrite.as_ref().map_or(Ok(()), |to| self::rewrite(to)))?;
    check("security_headers", security_headers.as_ref().map_or(Ok(()), self::security_headers))
}

/// A name of a field or cookie.
pub(crate) fn name(name: &str) -> Result<(), String> {
    match is_token(name) && name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("`{}` is no name of a field", short(name))),
    }
}

fn nets(what: &str, nets: &[IpNet]) -> Result<(), String> {
    if nets.len() > NETS_MAX {
        return Err(format!("`{what}`: {} networks; at most {NETS_MAX}", nets.len()));
    }
    match nets.iter().find(|net| net.trunc() != **net) {
        Some(net) => Err(format!("`{what}`: `{net}` has bits beyond its length: is `{}` meant?", net.trunc())),
        None => Ok(()),
    }
}

pub(crate) fn access(access: &Access) -> Result<(), String> {
    let Access { allow, deny, countries: Countries { allow: allowed, deny: denied } } = access;
    nets("allow", allow)?;
    nets("deny", deny)?;
    let code = |code: &&String| code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_uppercase());
    if let Some(bad) = allowed.iter().chain(denied).find(code) {
        return Err(format!("`countries`: `{}` is no country: write its code in capitals, as `DE`", short(bad)));
    }
    if allowed.len() > COUNTRIES_MAX || denied.len() > COUNTRIES_MAX {
        return Err(format!("`countries`: more than {COUNTRIES_MAX}"));
    }
    match allow.is_empty() && deny.is_empty() && allowed.is_empty() && denied.is_empty() {
        true => Err("names nobody: it needs `allow`, `deny` or `countries`".to_owned()),
        false => Ok(()),
    }
}

pub(crate) fn auth(auth: &Auth) -> Result<(), String> {
    let Auth { realm, basic, bearer, pass: _ } = auth;
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte);
    if realm.is_empty() || realm.len() > NAME_BYTES_MAX || !realm.bytes().all(plain) {
        return Err("`realm` is 1 to 100 characters of ASCII, without `\"` and `\\`".to_owned());
    }
    if basic.is_empty() && bearer.is_empty() {
        return Err("lets nobody in: it needs `basic` or `bearer`".to_owned());
    }
    if basic.len() > CREDENTIALS_MAX || bearer.len() > CREDENTIALS_MAX {
        return Err(format!("more than {CREDENTIALS_MAX} names"));
    }
    // RFC 7617, section 2: a name has no colon and no control character.
    let named = |name: &str| {
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(':') && !name.chars().any(char::is_control)
    };
    if let Some(bad) = basic.keys().chain(bearer.keys()).find(|name| !named(name)) {
        return Err(format!("`{}` is no name: 1 to {NAME_BYTES_MAX} characters without `:`", short(bad)));
    }
    // What stands there may be a password that somebody wrote as it is: it is not said again.
    let says = |name: &str, error: &dyn std::fmt::Display| format!("what stands for `{}` {error}", short(name));
    for (name, hash) in basic {
        hash.parse::<Password>().map_err(|error| says(name, &error))?;
    }
    for (name, hash) in bearer {
        hash.parse::<Token>().map_err(|error| says(name, &error))?;
    }
    Ok(())
}

pub(crate) fn limits(body_bytes: Option<u64>, response_body_bytes: Option<u64>) -> Result<(), String> {
    let most = LimitsMost::BODY_BYTES;
    match body_bytes.into_iter().chain(response_body_bytes).find(|bytes| *bytes > most) {
        Some(bytes) => Err(format!("a body of {bytes} bytes; at most {most}")),
        None => Ok(()),
    }
}

pub(crate) fn rate(rate: &Rate) -> Result<(), String> {
    if rate.windows.is_empty() || rate.windows.len() > RATES_MAX {
        return Err(format!("`requests`: {} rates; it needs 1 to {RATES_MAX}", rate.windows.len()));
    }
    let distinct: BTreeSet<_> = rate.windows.iter().map(|window| window.window_ms).collect();
    if distinct.len() != rate.windows.len() {
        return Err("`requests`: two rates of the same time".to_owned());
    }
    rate.windows.iter().try_for_each(window)
}

fn window(window: &Window) -> Result<(), String> {
    let Window { requests, window_ms } = *window;
    // What clients are told is in whole seconds.
    if !(WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(&window_ms) || window_ms % 1_000 != 0 {
        return Err("`requests`: a rate is of whole seconds, at most 24 hours: `100/1s`".to_owned());
    }
    match (1..=REQUESTS_MAX).contains(&requests) {
        true => Ok(()),
        false => Err(format!("`requests`: {requests} requests are outside 1 to {REQUESTS_MAX}")),
    }
}

pub(crate) fn compress(compress: &Compress) -> Result<(), String> {
    let Compress { encodings, min_bytes, types } = compress;
    let distinct: BTreeSet<_> = encodings.iter().collect();
    if encodings.is_empty() || distinct.len() != encodings.len() || encodings.contains(&Encoding::Identity) {
        return Err("`encodings` names `br`, `zstd`, `gzip`, each at most once, at least one".to_owned());
    }
    if *min_bytes > COMPRESS_MIN_BYTES_MAX {
        return Err(format!("`min` is more than {COMPRESS_MIN_BYTES_MAX} bytes"));
    }
    if types.len() > TYPES_MAX {
        return Err(format!("`types`: {} types; at most {TYPES_MAX}", types.len()));
    }
    let legal = |text: &&String| !text.split_once('/').is_some_and(|(main, sub)| is_token(main) && is_token(sub));
    match types.iter().find(|text| legal(text) || text.len() > NAME_BYTES_MAX) {
        Some(bad) => Err(format!("`types`: `{}` is no media type: write `application/x-thing`", short(bad))),
        None => Ok(()),
    }
}

pub(crate) fn cors(cors: &Cors) -> Result<(), String> {
    let Cors { origins, methods: allowed, headers, expose, credentials, max_age_s } = cors;
    if origins.is_empty() || [origins.len(), headers.len(), expose.len()].iter().any(|count| *count > CORS_MAX) {
        return Err(format!("needs 1 to {CORS_MAX} `origins`, and at most as many `headers` and `expose`"));
    }
    let any = |list: &[String]| list.iter().any(|text| text == "*");
    if any(origins) && origins.len() > 1 {
        return Err("`origins`: `*` is all of them; it stands alone".to_owned());
    }
    for origin in origins.iter().filter(|origin| *origin != "*") {
        origin.parse::<WebOrigin>().map_err(|error| format!("`origins`: {error}"))?;
    }
    methods(allowed).map_err(|text| format!("`methods`: {text}"))?;
    headers.iter().chain(expose).try_for_each(|text| name(text))?;
    if *credentials && [origins, headers, expose].into_iter().any(|list| any(list)) {
        return Err(
            "with `credentials`, `*` is not taken: every page could read what only one may (name them)".to_owned()
        );
    }
    let every = |origin: &WebOrigin| origin.host == HostPattern::Any;
    if *credentials && origins.iter().filter_map(|text| text.parse().ok()).any(|origin| every(&origin)) {
        return Err("with `credentials`, `origins` name hosts: of every host is of every page".to_owned());
    }
    match *max_age_s > CORS_AGE_S_MAX {
        true => Err("`max_age` is more than 24 hours".to_owned()),
        false => Ok(()),
    }
}

pub(crate) fn headers(headers: &Headers) -> Result<(), String> {
    let Headers { request, response } = headers;
    changes(request, request_field).map_err(|text| format!("`request`: {text}"))?;
    changes(response, response_field).map_err(|text| format!("`response`: {text}"))?;
    // What an answer varies by is more than one says (RFC 9110, section 12.5.5): it is added to.
    let vary = |name: &&String| name.eq_ignore_ascii_case("vary");
    if response.remove.iter().chain(response.set.keys()).any(|name| vary(&name)) {
        return Err("`response`: `vary` can be added to, and not taken away: caches would give answers to whom they are not for".to_owned());
    }
    Ok(())
}

fn changes(changes: &Changes, field: fn(&str, &str) -> Result<(), String>) -> Result<(), String> {
    let Changes { set, add, remove } = changes;
    if [set.len(), add.len(), remove.len()].iter().any(|count| *count > CHANGES_MAX) {
        return Err(format!("a list of more than {CHANGES_MAX} fields"));
    }
    remove.iter().try_for_each(|name| field(name, ""))?;
    set.iter().chain(add).try_for_each(|(name, value)| field(name, value))?;
    once(set).and_then(|()| once(add))
}

/// No name in two spellings.
fn once(fields: &BTreeMap<String, String>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match fields.keys().find(|name| !seen.insert(name.to_ascii_lowercase())) {
        Some(name) => Err(format!("the field `{}` stands twice", short(name))),
        None => Ok(()),
    }
}

fn request_field(name: &str, value: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    if REQUEST_OURS.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") {
        return Err(format!("the field `{}` is set by the node", short(name)));
    }
    header(name, value)
}

fn response_field(name: &str, value: &str) -> Result<(), String> {
    if CONTENT.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("the field `{}` says what the bytes are; who makes them says it", short(name)));
    }
    header(name, value)
}

pub(crate) fn maintenance(maintenance: &Maintenance) -> Result<(), String> {
    let Maintenance { allow, page, retry_after_s } = maintenance;
    nets("allow", allow)?;
    if page.as_ref().is_some_and(|page| page.is_empty() || page.len() > PAGE_BYTES_MAX) {
        return Err(format!("`page` is empty, or more than {PAGE_BYTES_MAX} bytes"));
    }
    match (1..=RETRY_AFTER_S_MAX).contains(retry_after_s) {
        true => Ok(()),
        false => Err("`retry_after` is outside one second to 30 days".to_owned()),
    }
}

/// Where a rewrite goes: a path in its one spelling, whatever comes in the place of `{path}` and `{rest}`.
pub(crate) fn rewrite(to: &str) -> Result<(), String> {
    let rooted = ["/", "{path}", "{rest}"].iter().any(|start| to.starts_with(start));
    let filled = to.replacen("{path}", "/p", 1).replacen("{rest}", "/r", 1);
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"#%<>?\\^`{|}*".contains(&byte);
    let dotted = filled.split('/').any(|segment| matches!(segment, "." | ".."));
    // `/x/{rest}` makes one slash of the two.
    let doubled = to.contains("//");
    match rooted && !dotted && !doubled && to.len() <= PATH_BYTES_MAX && filled.bytes().all(legal) {
        true => Ok(()),
        false => Err(format!(
            "`{}` is no path to go to: write `/new{{rest}}`, with `{{path}}` and `{{rest}}` at most once each, and without `?`, `#`, `%`, `..` or `//`",
            short(to)
        )),
    }
}

pub(crate) fn security_headers(security: &SecurityHeaders) -> Result<(), String> {
    let SecurityHeaders { hsts_s, hsts_subdomains: _, nosniff: _, frame, referrer, csp } = security;
    if *hsts_s > HSTS_S_MAX {
        return Err("`hsts` is more than ten years".to_owned());
    }
    if !["", "DENY", "SAMEORIGIN"].contains(&frame.as_str()) {
        return Err(format!("`frame`: `{}` is none of `DENY`, `SAMEORIGIN`, nothing", short(frame)));
    }
    if !REFERRERS.contains(&referrer.as_str()) {
        return Err(format!("`referrer`: `{}` is no policy of referrers", short(referrer)));
    }
    csp.as_ref().map_or(Ok(()), |csp| header("content-security-policy", csp))
}
