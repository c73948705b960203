//! The keys of a route that ask something of requests and do something to answers.

use core::net::IpAddr;

use ipnet::IpNet;

use super::check;
use crate::files::Encoding;
use crate::release::policy::{
    Access, Auth, Changes, Compress, Cors, Countries, Headers, Maintenance, Policy, Rate, SecurityHeaders, Window,
};
use crate::text::{Field, Table};
use crate::verify::policy as checks;

pub(super) fn policy(table: &mut Table<'_>) -> Policy {
    let limits = limits(&mut table.table("limits"));
    Policy {
        access: present(table, "access", access),
        auth: present(table, "auth", auth),
        compress: switched(table, "compress", compress),
        cors: present(table, "cors", cors),
        headers: present(table, "headers", headers),
        maintenance: switched(table, "maintenance", maintenance),
        rewrite: table.string("rewrite").and_then(|to| checks::rewrite(&to).map(|()| to)).optional(),
        security_headers: switched(table, "security_headers", security_headers),
        ..limits
    }
}

/// What a table says, where there is one.
fn present<T>(table: &mut Table<'_>, key: &str, read: fn(&mut Table<'_>) -> T) -> Option<T> {
    let mut inner = table.table(key);
    inner.is_present().then(|| read(&mut inner))
}

/// What a key says that is a table, `true` for one with its defaults, or `false` for none.
fn switched<T: Default>(table: &mut Table<'_>, key: &str, read: fn(&mut Table<'_>) -> T) -> Option<T> {
    match table.is_boolean(key) {
        true => table.boolean(key).or(false).then(T::default),
        false => present(table, key, read),
    }
}

/// A text, or a list of them.
fn one_or_more<T: std::str::FromStr<Err: std::fmt::Display>>(table: &mut Table<'_>, key: &str) -> Field<Vec<T>> {
    match table.is_list(key) {
        true => table.parsed_list(key),
        false => table.parsed::<T>(key).map(|one| vec![one]),
    }
}

/// The limits of a route: what is counted, and sizes.
fn limits(table: &mut Table<'_>) -> Policy {
    let noted = table.noted();
    let windows = one_or_more::<Window>(table, "requests").optional();
    let key = table.parsed("key").optional();
    let body_bytes = table.size_bytes("body").optional();
    let response_body_bytes = table.size_bytes("response_body").optional();
    if windows.is_none() && key.is_some() {
        table.note_lack("has a `key`, and no `requests` to count by it");
    }
    let rate = windows.map(|windows| Rate { windows, key: key.unwrap_or_default() });
    check(table, noted, || checks::limits(body_bytes, response_body_bytes));
    check(table, noted, || rate.as_ref().map_or(Ok(()), checks::rate));
    Policy { rate, body_bytes, response_body_bytes, ..Policy::default() }
}

/// A network, or an address alone.
struct Net(IpNet);

impl std::str::FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alone = || text.parse::<IpAddr>().map(IpNet::from);
        let shown = || text.chars().take(60).collect::<String>();
        let net = text.parse().or_else(|_| alone());
        net.map(Self).map_err(|_| format!("`{}` is no network: write `203.0.113.0/24` or `2001:db8::/32`", shown()))
    }
}

fn nets(table: &mut Table<'_>, key: &str) -> Vec<IpNet> {
    table.parsed_list::<Net>(key).or(Vec::new()).into_iter().map(|net| net.0).collect()
}

fn access(table: &mut Table<'_>) -> Access {
    let noted = table.noted();
    let (allow, deny) = (nets(table, "allow"), nets(table, "deny"));
    let mut countries = table.table("countries");
    let allowed = countries.strings("allow").or(Vec::new());
    let countries = Countries { allow: allowed, deny: countries.strings("deny").or(Vec::new()) };
    let access = Access { allow, deny, countries };
    check(table, noted, || checks::access(&access));
    access
}

fn auth(table: &mut Table<'_>) -> Auth {
    let noted = table.noted();
    let auth = Auth {
        realm: table.string("realm").required(),
        basic: table.string_map("basic").or_default(),
        bearer: table.string_map("bearer").or_default(),
        pass: table.boolean("pass").or(false),
    };
    check(table, noted, || checks::auth(&auth));
    auth
}

fn compress(table: &mut Table<'_>) -> Compress {
    let default = Compress::default();
    let noted = table.noted();
    let named = |names: Vec<String>| names.iter().map(|name| encoding(name)).collect::<Result<Vec<_>, _>>();
    let compress = Compress {
        encodings: table.strings("encodings").and_then(named).or(default.encodings),
        min_bytes: table.size_bytes("min").or(default.min_bytes),
        types: table.strings("types").or(default.types),
    };
    check(table, noted, || checks::compress(&compress));
    compress
}

fn encoding(name: &str) -> Result<Encoding, String> {
    let known = [Encoding::Br, Encoding::Zstd, Encoding::Gzip];
    let found = known.into_iter().find(|encoding| encoding.label() == name);
    found.ok_or_else(|| format!("`{}` is none of `br`, `zstd`, `gzip`", name.chars().take(60).collect::<String>()))
}

fn cors(table: &mut Table<'_>) -> Cors {
    let noted = table.noted();
    let cors = Cors {
        origins: one_or_more::<String>(table, "origins").required(),
        methods: table.strings("methods").or(Vec::new()),
        headers: table.strings("headers").or(Vec::new()),
        expose: table.strings("expose").or(Vec::new()),
        credentials: table.boolean("credentials").or(false),
        max_age_s: seconds(table, "max_age").or(600),
    };
    check(table, noted, || checks::cors(&cors));
    cors
}

/// A duration of whole seconds.
fn seconds(table: &mut Table<'_>, key: &str) -> Field<u64> {
    table.duration_us(key).and_then(|us| match us % 1_000_000 {
        0 => Ok(us / 1_000_000),
        _ => Err("is finer than a second"),
    })
}

fn headers(table: &mut Table<'_>) -> Headers {
    let noted = table.noted();
    let (request, response) = (changes(&mut table.table("request")), changes(&mut table.table("response")));
    let headers = Headers { request, response };
    check(table, noted, || checks::headers(&headers));
    headers
}

fn changes(table: &mut Table<'_>) -> Changes {
    Changes {
        set: table.string_map("set").or_default(),
        add: table.string_map("add").or_default(),
        remove: table.strings("remove").or(Vec::new()),
    }
}

fn maintenance(table: &mut Table<'_>) -> Maintenance {
    let default = Maintenance::default();
    let noted = table.noted();
    let seconds = seconds(table, "retry_after").and_then(u32::try_from);
    let maintenance = Maintenance {
        retry_after_s: seconds.or(default.retry_after_s),
        allow: nets(table, "allow"),
        page: table.string("page").optional(),
    };
    check(table, noted, || checks::maintenance(&maintenance));
    maintenance
}

fn security_headers(table: &mut Table<'_>) -> SecurityHeaders {
    let default = SecurityHeaders::default();
    let noted = table.noted();
    let security = SecurityHeaders {
        hsts_s: seconds(table, "hsts").or(default.hsts_s),
        hsts_subdomains: table.boolean("hsts_subdomains").or(default.hsts_subdomains),
        nosniff: table.boolean("nosniff").or(default.nosniff),
        frame: table.string("frame").or(default.frame),
        referrer: table.string("referrer").or(default.referrer),
        csp: table.string("csp").optional(),
    };
    check(table, noted, || checks::security_headers(&security));
    security
}
