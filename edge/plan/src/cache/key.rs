//! What makes two requests ask for the same: the key of what is kept. It begins with the app, so nothing that a request
//! says leads to another one's.

use eyot_bundle::digest::Digest;
use http::Uri;
use http::header::{COOKIE, HeaderMap, HeaderName};

use super::vary;

/// What of a request goes into the key beside its URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What of the query.
    pub query: Query,
    /// Whether the order of the query's parameters means nothing.
    pub sort: bool,
    /// Fields.
    pub headers: Vec<HeaderName>,
    /// Cookies by their names.
    pub cookies: Vec<String>,
}

/// The parameters of a query that go into a key, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Query {
    /// All.
    #[default]
    All,
    /// All but these; a name may end in `*`.
    Drop(Vec<String>),
    /// These alone; a name may end in `*`.
    Keep(Vec<String>),
}

/// Fields by which some servers take a request for another one than its line says, and which are in no key.
const DISGUISES: [&str; 10] = [
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-uri",
    "x-rewrite-url",
];

/// Whether a request has a field by which its server may take it for another one. What it is answered is nobody else's.
pub fn is_disguised(request: &HeaderMap) -> bool {
    request.keys().any(|name| name.as_str().starts_with("x-") && DISGUISES.contains(&name.as_str()))
}

/// For whom something is kept.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The app.
    pub app: &'a str,
    /// `production`, or the preview that it is part of.
    pub environment: &'a str,
    /// What kind of thing it is.
    pub class: Class,
    /// What makes the answer: nothing for an upstream, the digest of a function or of a folder of files.
    pub maker: &'a str,
}

/// What kind of thing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What a function keeps by itself.
    Core,
    /// The answer to what a function asks.
    Fetch,
    /// The answer of a route.
    Route,
}

impl Place<'_> {
    /// What every key of this place begins with.
    fn begin(&self) -> Vec<u8> {
        let class = match self.class {
            Class::Core => "core",
            Class::Fetch => "fetch",
            Class::Route => "route",
        };
        let mut key = Vec::with_capacity(128);
        for part in [self.app, self.environment, class, self.maker] {
            put(&mut key, part.as_bytes());
        }
        key
    }
}

/// The key of what functions keep by a name of their own: no request has one of [`Class::Core`].
pub fn named(app: &str, environment: &str, name: &str) -> Vec<u8> {
    let mut key = Place { app, environment, class: Class::Core, maker: "" }.begin();
    put(&mut key, name.as_bytes());
    key
}

/// The key of a slice of what is kept under `id` with this validator, selected by these fields: no request has one like it,
/// for no environment holds zeros.
pub fn slice<'a>(id: u128, tag: &[u8], selected: impl Iterator<Item = Option<&'a str>>, numbers: [u64; 3]) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    put(&mut key, b"slice");
    put(&mut key, &[id.to_be_bytes(), [0; 16]].concat());
    put(&mut key, tag);
    selected.for_each(|part| option(&mut key, part));
    numbers.iter().for_each(|number| put(&mut key, &number.to_le_bytes()));
    key
}

/// The key, unambiguous: each part after its length. `uri` is a request's in its one form.
pub fn bytes(place: &Place<'_>, uri: &Uri, request: &HeaderMap, rules: &Rules) -> Vec<u8> {
    let mut key = place.begin();
    put(&mut key, url(uri, rules).as_bytes());
    for name in &rules.headers {
        put(&mut key, name.as_str().as_bytes());
        option(&mut key, vary::normal(name, request).as_deref());
    }
    for name in &rules.cookies {
        put(&mut key, name.as_bytes());
        option(&mut key, cookie(request, name));
    }
    key
}

/// The URL as the key has it, without the parts of its query that make no difference.
pub fn url(uri: &Uri, rules: &Rules) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let (path, query) = (uri.path(), uri.query());
    match query.map(|query| self::query(query, rules)) {
        Some(query) if !query.is_empty() => format!("{scheme}://{authority}{path}?{query}"),
        // An empty query is one, as long as nobody says what counts of it.
        Some(_) if rules.query == Query::All => format!("{scheme}://{authority}{path}?"),
        Some(_) | None => format!("{scheme}://{authority}{path}"),
    }
}

fn query(query: &str, rules: &Rules) -> String {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let counts = |pair: &&str| match &rules.query {
        Query::All => true,
        Query::Drop(names) => !names.iter().any(|pattern| is_named(pattern, &name(pair))),
        Query::Keep(names) => names.iter().any(|pattern| is_named(pattern, &name(pair))),
    };
    if rules.query == Query::All && !rules.sort {
        return query.to_owned();
    }
    let mut pairs: Vec<&str> = query.split('&').filter(counts).collect();
    if rules.sort {
        // Stable by name: the order of values of one name may mean something.
        pairs.sort_by_key(|pair| name(pair));
    }
    pairs.join("&")
}

fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// The value of a cookie; of several of one name the first.
fn cookie<'a>(request: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = request.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(it, _)| *it == name).map(|(_, value)| value)
}

fn put(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&(part.len() as u64).to_le_bytes());
    key.extend_from_slice(part);
}

fn option(key: &mut Vec<u8>, part: Option<&str>) {
    key.push(u8::from(part.is_some()));
    put(key, part.unwrap_or_default().as_bytes());
}

/// A key as 128 bits: the first half of its SHA-256.
pub fn id(key: &[u8]) -> u128 {
    half(&Digest::of(key))
}

/// The fields of a request that answers differ by, as 128 bits.
pub fn fork<'a>(names: impl Iterator<Item = &'a HeaderName>, request: &HeaderMap) -> u128 {
    let mut key = Vec::with_capacity(128);
    for name in names {
        put(&mut key, name.as_str().as_bytes());
        option(&mut key, vary::normal(name, request).as_deref());
    }
    id(&key)
}

fn half(digest: &Digest) -> u128 {
    let bytes = digest.as_bytes();
    bytes[..16].iter().fold(0, |half, byte| half << 8 | u128::from(*byte))
}
