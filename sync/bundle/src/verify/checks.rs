//! The checks of single values that a manifest and a release have in common. Each says in words what is wrong; the
//! caller knows where it stands.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::HostPattern;
use crate::release::upstream::{ClientCertificate, Timeouts, UpstreamTls};
use crate::release::{Limits, PathPattern, Redirect, Respond, Rollout, Route};
use crate::verify::parts;
use crate::web_origin::{Egress, WebOrigin};

/// Routes of one release.
pub const ROUTES_MAX: usize = 1_000;
/// Releases that a release may go back to.
pub const PREVIOUS_MAX: usize = 20;
pub(super) const HOSTS_MAX: usize = 100;
/// Functions of one release.
pub const FUNCTIONS_MAX: usize = 100;
pub(super) const IMPORTS_MAX: usize = 1_000;
const STEPS_MAX: usize = 32;
const BAKE_MS_MAX: u64 = 30 * 24 * 3_600_000;
const SERVERS_MAX: usize = 64;
const EGRESS_MAX: usize = 100;
const METHODS_MAX: usize = 16;
const ENV_BYTES_MAX: usize = 64 << 10;
const RESPOND_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 50;
const HEADER_BYTES_MAX: usize = 8 << 10;
const URL_BYTES_MAX: usize = 2_048;
const CA_BYTES_MAX: usize = 256 << 10;
const TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;

/// What no function may ask more than, whatever its grant says.
pub struct LimitsMost;

impl LimitsMost {
    /// CPU time of one call, in microseconds: a minute.
    pub const CPU_US: u64 = 60_000_000;
    /// Wall time to the head, and idle time, in milliseconds: ten minutes.
    pub const WALL_MS: u64 = 600_000;
    /// Memory, in bytes: what 32-bit memories can hold.
    pub const MEMORY_BYTES: u64 = 4 << 30;
    /// Outbound requests.
    pub const SUBREQUESTS: u64 = 1_000;
    /// The request's body, in bytes.
    pub const BODY_BYTES: u64 = 1 << 40;
    /// The heads, in bytes.
    pub const HEADER_BYTES: u64 = 1 << 20;
}

/// The id of a route, which is its label in metrics: `<host><path>`, then a space and its methods where it has some.
pub fn route_id(host: &HostPattern, path: &PathPattern, methods: &[String]) -> String {
    let space = if methods.is_empty() { "" } else { " " };
    format!("{host}{path}{space}{}", methods.join(","))
}

/// At most 100 characters of a text, for a message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

pub(crate) fn limits(limits: &Limits) -> Result<(), String> {
    let rows = [
        ("cpu_us", limits.cpu_us, LimitsMost::CPU_US),
        ("wall_ms", limits.wall_ms, LimitsMost::WALL_MS),
        ("idle_ms", limits.idle_ms, LimitsMost::WALL_MS),
        ("memory_bytes", limits.memory_bytes, LimitsMost::MEMORY_BYTES),
        ("header_bytes", limits.header_bytes, LimitsMost::HEADER_BYTES),
    ];
    for (name, value, most) in rows {
        if value == 0 || value > most {
            return Err(format!("{name} {value} is outside 1 to {most}"));
        }
    }
    let may_be_none = [
        ("subrequests", limits.subrequests.into(), LimitsMost::SUBREQUESTS),
        ("body_bytes", limits.body_bytes, LimitsMost::BODY_BYTES),
    ];
    match may_be_none.iter().find(|(_, value, most)| value > most) {
        Some((name, value, most)) => Err(format!("{name} {value} is more than {most}")),
        None => Ok(()),
    }
}

pub(crate) fn env(env: &BTreeMap<String, String>) -> Result<(), String> {
    let name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
    if let Some((bad, _)) = env.iter().find(|(key, value)| !name(key) || value.contains('\0')) {
        return Err(format!("`{}` and its value are no environment variable", short(bad)));
    }
    let env_bytes: usize = env.iter().map(|(key, value)| key.len() + value.len()).sum();
    if env_bytes > ENV_BYTES_MAX {
        return Err(format!("an environment of {env_bytes} bytes; at most {ENV_BYTES_MAX}"));
    }
    Ok(())
}

pub(super) fn egress_list(list: &[String]) -> Result<(), String> {
    if list.len() > EGRESS_MAX {
        return Err(format!("{} egress entries; at most {EGRESS_MAX}", list.len()));
    }
    let egress = |text: &String| text.parse::<Egress>().map(|_| ()).map_err(|error| error.to_string());
    list.iter().try_for_each(egress)
}

/// One server of an upstream: an origin with one host.
fn server(text: &str) -> Result<WebOrigin, String> {
    let origin: WebOrigin = text.parse().map_err(|error: crate::web_origin::WebOriginError| error.to_string())?;
    if origin.exact_host().is_some() { Ok(origin) } else { Err(format!("`{}` names no single host", short(text))) }
}

pub(crate) fn servers(list: &[String]) -> Result<(), String> {
    if list.is_empty() || list.len() > SERVERS_MAX {
        return Err(format!("{} servers; it needs 1 to {SERVERS_MAX}", list.len()));
    }
    list.iter().try_for_each(|text| server(text).map(|_| ()))
}

pub(crate) fn timeouts(timeouts: &Timeouts) -> Result<(), String> {
    let Timeouts { connect_ms, first_byte_ms, between_bytes_ms, total_ms, tunnel_idle_ms } = *timeouts;
    let bad = |ms: &u64| *ms == 0 || *ms > TIMEOUT_MS_MAX;
    match [connect_ms, first_byte_ms, between_bytes_ms, total_ms, tunnel_idle_ms].iter().any(bad) {
        true => Err("a timeout is 0, or over 24 hours".to_owned()),
        false => Ok(()),
    }
}

pub(crate) fn upstream_tls(tls: &UpstreamTls) -> Result<(), String> {
    let is_host = |name: &String| matches!(name.parse(), Ok(HostPattern::Exact(_)));
    if tls.name.as_ref().is_some_and(|name| !is_host(name)) {
        return Err("its TLS name is no host".to_owned());
    }
    let is_pem = |ca: &String| ca.len() <= CA_BYTES_MAX && ca.contains("-----BEGIN CERTIFICATE-----");
    if tls.ca.as_ref().is_some_and(|ca| !is_pem(ca)) {
        return Err(format!("its CA is no PEM of certificates, or over {CA_BYTES_MAX} bytes"));
    }
    tls.client.as_ref().map_or(Ok(()), client_certificate)
}

fn client_certificate(client: &ClientCertificate) -> Result<(), String> {
    let ClientCertificate { chain, secret, key } = client;
    if chain.contains("PRIVATE KEY-----") {
        return Err("its client certificate's file holds a private key too, which would be published: keep it as the \
                    secret that `tls.client_key` names, and the certificates alone in the file"
            .to_owned());
    }
    if chain.len() > CA_BYTES_MAX || !chain.contains("-----BEGIN CERTIFICATE-----") {
        return Err(format!("its client certificate is no PEM of certificates, or over {CA_BYTES_MAX} bytes"));
    }
    parts::secret_name(secret)?;
    parts::secret(secret, key)
}

/// Whether a text is a token of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(char)
}

pub(crate) fn methods(methods: &[String]) -> Result<(), String> {
    let good = |method: &str| is_token(method) && method.len() <= 20 && !method.bytes().any(|b| b.is_ascii_lowercase());
    if let Some(bad) = methods.iter().find(|method| !good(method) || *method == "CONNECT") {
        return Err(format!("`{}` is no method that is routed: write it in capitals, as `GET`", short(bad)));
    }
    let distinct: BTreeSet<_> = methods.iter().collect();
    if methods.len() > METHODS_MAX || distinct.len() != methods.len() {
        return Err(format!("a method stands twice, or there are more than {METHODS_MAX}"));
    }
    Ok(())
}

/// `early_data` is for safe methods only (RFC 8470, section 4): a route that takes none says what it cannot mean.
pub(crate) fn early_data(early_data: bool, methods: &[String]) -> Result<(), String> {
    let safe = |method: &String| ["GET", "HEAD", "OPTIONS"].contains(&method.as_str());
    if early_data && !methods.is_empty() && !methods.iter().any(safe) {
        return Err("has `early_data`, and none of its methods is safe".to_owned());
    }
    Ok(())
}

pub(crate) fn respond(respond: &Respond) -> Result<(), String> {
    if !(200..=599).contains(&respond.status) {
        return Err(format!("status {} is outside 200 to 599", respond.status));
    }
    if respond.body.len() > RESPOND_BYTES_MAX {
        return Err(format!("a body of {} bytes; at most {RESPOND_BYTES_MAX}", respond.body.len()));
    }
    if matches!(respond.status, 204 | 205 | 304) && !respond.body.is_empty() {
        return Err(format!("status {} has no body", respond.status));
    }
    if respond.headers.len() > HEADERS_MAX {
        return Err(format!("{} fields; at most {HEADERS_MAX}", respond.headers.len()));
    }
    respond.headers.iter().try_for_each(|(name, value)| header(name, value))
}

/// A field that a tenant may set: legal by RFC 9110 section 5, and neither framing nor one of the node's own.
pub(super) fn header(name: &str, value: &str) -> Result<(), String> {
    const OURS: [&str; 15] = [
        "alt-svc",
        "cache-status",
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "proxy-status",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-request-id",
    ];
    let lower = name.to_ascii_lowercase();
    if !is_token(name) || name.len() > 100 {
        return Err(format!("`{}` is no field name", short(name)));
    }
    if OURS.contains(&lower.as_str()) || lower.starts_with("eyot-") {
        return Err(format!("the field `{name}` is set by the node"));
    }
    let legal = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if value.len() > HEADER_BYTES_MAX || !value.bytes().all(legal) || value.trim_matches([' ', '\t']) != value {
        return Err(format!(
            "the value of `{name}` has control characters, outer spaces, or over {HEADER_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

pub(crate) fn redirect(redirect: &Redirect) -> Result<(), String> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return Err(format!("status {} is none of 301, 302, 303, 307, 308", redirect.status));
    }
    location(&redirect.to).map_err(|reason| format!("`{}`: {reason}", short(&redirect.to)))
}

/// Where a redirect goes: `/path`, or `https://host[:port]` and a path. Placeholders may stand only where what a client
/// puts there cannot name another host (`//evil.example` is a path that a browser takes for a host).
fn location(to: &str) -> Result<(), &'static str> {
    let filled = to.replace("{path}", "").replace("{query}", "");
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if to.len() > URL_BYTES_MAX || !filled.bytes().all(legal) {
        return Err("has characters no URL has, a placeholder other than {path} and {query}, or is too long");
    }
    if let Some(path) = to.strip_prefix('/') {
        let names_a_host = path.starts_with('/') || path.starts_with("{path}");
        return if names_a_host { Err("would let a request choose the host") } else { Ok(()) };
    }
    let after_scheme = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let Some(after_scheme) = after_scheme else { return Err("is neither a path nor an http or https URL") };
    let end = after_scheme.find(['/', '?', '#', '{']).unwrap_or(after_scheme.len());
    let authority = to.len() - after_scheme.len() + end;
    match to[..authority].parse::<WebOrigin>() {
        Ok(origin) if origin.exact_host().is_some() => Ok(()),
        _ => Err("names no host"),
    }
}

pub(crate) fn rollout(rollout: &Rollout) -> Result<(), String> {
    if rollout.salt.len() > 100 {
        return Err("the rollout's salt has more than 100 bytes".to_owned());
    }
    if rollout.steps.is_empty() || rollout.steps.len() > STEPS_MAX {
        return Err(format!("the rollout has {} steps; it needs 1 to {STEPS_MAX}", rollout.steps.len()));
    }
    if let Some(step) = rollout.steps.iter().find(|step| step.select != "*") {
        return Err(format!("a step selects `{}`; this build selects `*`, every node", short(&step.select)));
    }
    if rollout.steps.iter().any(|step| step.percent_bp > 10_000 || step.bake_ms > BAKE_MS_MAX) {
        return Err("a step of the rollout is over 100 %, or bakes over 30 days".to_owned());
    }
    if rollout.steps.last().is_none_or(|step| step.percent_bp != 10_000) {
        return Err("the rollout's last step is not all nodes".to_owned());
    }
    Ok(())
}

/// The places in `routes` of those whose host, path and one of whose methods stood before.
pub(crate) fn twice(routes: &[&Route]) -> Vec<usize> {
    let mut taken: BTreeMap<(&HostPattern, &PathPattern), Vec<&Route>> = BTreeMap::new();
    let shares = |a: &Route, b: &Route| {
        a.methods.is_empty() || b.methods.is_empty() || a.methods.iter().any(|method| b.methods.contains(method))
    };
    let mut again = Vec::new();
    for (index, &route) in routes.iter().enumerate() {
        let before = taken.entry((&route.host, &route.path)).or_default();
        if before.iter().any(|other| shares(other, route)) {
            again.push(index);
        } else {
            // What is kept shares no method with another, and methods are few: the list stays short.
            before.push(route);
        }
    }
    again
}
