//! Routes: which target answers a host, a path and a method. It knows patterns and their order, never what a target is.
//!
//! Order: exact host, longest `*.suffix`, `*`; within a host the exact path, then the longest prefix. The first route in
//! that order that takes the method answers, so a wider route also answers what a narrower one leaves.

use std::collections::HashMap;

use eyot_bundle::host::HostPattern;
use eyot_bundle::release::PathPattern;
use http::Method;

use crate::fault::{Code, Fault};

/// Routes ready to be looked up. Immutable: a new release is a new table.
#[derive(Debug)]
pub struct Table<T> {
    exact: HashMap<Box<str>, Paths<T>>,
    /// By suffix with its leading dot: `.example.com`.
    suffixes: HashMap<Box<str>, Paths<T>>,
    any: Paths<T>,
}

/// The routes of one host pattern.
#[derive(Debug)]
struct Paths<T> {
    exact: HashMap<Box<str>, Vec<Entry<T>>>,
    /// By prefix without its last slash; `/*` is the empty text.
    prefixes: HashMap<Box<str>, Vec<Entry<T>>>,
    /// The most slashes of any prefix: how far down a path is looked up, whatever its length.
    depth_max: usize,
}

/// One route at its place.
#[derive(Debug)]
struct Entry<T> {
    /// None named: all.
    methods: Vec<Method>,
    target: T,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: HashMap::new(), depth_max: 0 }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffixes: HashMap::new(), any: Paths::default() }
    }
}

impl<T> FromIterator<(HostPattern, PathPattern, Vec<Method>, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (HostPattern, PathPattern, Vec<Method>, T)>>(routes: I) -> Self {
        let mut table = Self::default();
        for (host, path, methods, target) in routes {
            let paths = match host {
                HostPattern::Any => &mut table.any,
                HostPattern::Exact(host) => table.exact.entry(host.into()).or_default(),
                HostPattern::Suffix(suffix) => table.suffixes.entry(suffix.into()).or_default(),
            };
            paths.insert(path, Entry { methods, target });
        }
        table
    }
}

impl<T> Table<T> {
    /// The target for `host` (lower case, no port), `path` (normalised, no query) and `method`.
    ///
    /// # Errors
    /// `no_route` if no route is for this host and path; `method_not_allowed` if one is, but not for this method.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&T, Fault> {
        let mut there = false;
        for entry in self.entries(host, path) {
            if entry.methods.is_empty() || entry.methods.contains(method) {
                return Ok(&entry.target);
            }
            there = true;
        }
        Err(Fault::new(if there { Code::MethodNotAllowed } else { Code::NoRoute }))
    }

    /// The methods that routes for `host` and `path` take, for `Allow` (RFC 9110, section 10.2.1); sorted, each once.
    pub fn methods(&self, host: &str, path: &str) -> Vec<&Method> {
        let mut methods: Vec<_> = self.entries(host, path).flat_map(|entry| &entry.methods).collect();
        methods.sort_unstable_by_key(|method| method.as_str());
        methods.dedup();
        methods
    }

    /// Whether any route is for `host` (lower case, no port), whatever the path.
    pub fn knows(&self, host: &str) -> bool {
        self.hosts(host).any(|paths| !paths.is_empty())
    }

    /// The routes for `host` and `path`, the first one first.
    fn entries<'t>(&'t self, host: &str, path: &str) -> impl Iterator<Item = &'t Entry<T>> {
        self.hosts(host).flat_map(move |paths| paths.entries(path))
    }

    fn hosts<'t>(&'t self, host: &str) -> impl Iterator<Item = &'t Paths<T>> {
        let suffixes = if self.suffixes.is_empty() { "" } else { host };
        // A suffix takes one or more labels before it, so a dot at the very start is none of its.
        let suffixes = suffixes.match_indices('.').filter(|(at, _)| *at > 0).map(|(at, _)| &host[at..]);
        self.exact.get(host).into_iter().chain(suffixes.filter_map(|it| self.suffixes.get(it))).chain([&self.any])
    }
}

impl<T> Paths<T> {
    fn insert(&mut self, path: PathPattern, entry: Entry<T>) {
        match path {
            PathPattern::Exact(path) => self.exact.entry(path.into()).or_default().push(entry),
            PathPattern::Prefix(path) => {
                self.depth_max = self.depth_max.max(slashes(&path));
                self.prefixes.entry(path.into()).or_default().push(entry);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    fn entries<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t Entry<T>> {
        let exact = self.exact.get(path);
        let prefixes = ancestors(path, self.depth_max).filter_map(|it| self.prefixes.get(it));
        exact.into_iter().chain(prefixes).flatten()
    }
}

/// `path` cut before a slash, or whole: those with at most `depth_max` slashes, the longest first, the empty text last.
fn ancestors(path: &str, depth_max: usize) -> impl Iterator<Item = &str> {
    let mut next = match path.match_indices('/').nth(depth_max) {
        Some((at, _)) => Some(&path[..at]),
        None => Some(path),
    };
    std::iter::from_fn(move || {
        let this = next?;
        next = this.rfind('/').map(|at| &this[..at]);
        Some(this)
    })
}

fn slashes(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'/').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = (&'static str, &'static str, &'static [Method]);

    const ROUTES: &[Row] = &[
        ("shop.example.com", "/*", &[]),
        ("shop.example.com", "/cart/*", &[Method::GET, Method::POST]),
        ("shop.example.com", "/cart/*", &[Method::DELETE]),
        ("shop.example.com", "/cart/list", &[]),
        ("*.example.com", "/only", &[]),
        ("*.eu.example.com", "/*", &[]),
        ("*", "/health", &[Method::GET]),
        ("[::1]", "/*", &[]),
        ("api.test", "/v1/*", &[]),
        ("api.test", "/put", &[Method::PUT]),
    ];

    fn table(rows: &[Row]) -> Table<usize> {
        let parse = |(at, (host, path, methods)): (usize, &Row)| {
            (host.parse().expect("a host"), path.parse().expect("a path"), methods.to_vec(), at)
        };
        rows.iter().enumerate().map(parse).collect()
    }

    fn find(table: &Table<usize>, host: &str, path: &str, method: &Method) -> Result<usize, Code> {
        table.find(host, path, method).copied().map_err(|fault| fault.code)
    }

    #[test]
    fn the_most_exact_host_then_the_most_exact_path_answers() {
        let table = table(ROUTES);
        for (host, path, method, expect) in [
            ("shop.example.com", "/", Method::GET, Ok(0)),
            ("shop.example.com", "/cart", Method::GET, Ok(1)),
            ("shop.example.com", "/cart/", Method::POST, Ok(1)),
            ("shop.example.com", "/cart/1/2", Method::GET, Ok(1)),
            ("shop.example.com", "/cart/1", Method::DELETE, Ok(2)),
            ("shop.example.com", "/cart/list", Method::PUT, Ok(3)),
            ("shop.example.com", "/cart/1", Method::PUT, Ok(0)),
            ("shop.example.com", "/cartoon", Method::GET, Ok(0)),
            ("a.example.com", "/only", Method::GET, Ok(4)),
            ("a.example.com", "/else", Method::GET, Err(Code::NoRoute)),
            ("a.eu.example.com", "/only", Method::GET, Ok(5)),
            ("a.b.eu.example.com", "/x", Method::GET, Ok(5)),
            ("eu.example.com", "/only", Method::GET, Ok(4)),
            ("example.com", "/only", Method::GET, Err(Code::NoRoute)),
            (".example.com", "/only", Method::GET, Err(Code::NoRoute)),
            ("other.test", "/health", Method::GET, Ok(6)),
            ("other.test", "/health", Method::POST, Err(Code::MethodNotAllowed)),
            ("[::1]", "/x", Method::GET, Ok(7)),
            ("api.test", "/v1", Method::GET, Ok(8)),
            ("api.test", "/v12", Method::GET, Err(Code::NoRoute)),
            ("api.test", "/put", Method::GET, Err(Code::MethodNotAllowed)),
            ("api.test", "/", Method::GET, Err(Code::NoRoute)),
            ("", "", Method::GET, Err(Code::NoRoute)),
        ] {
            assert_eq!(find(&table, host, path, &method), expect, "{method} {host}{path}");
        }
    }

    #[test]
    fn what_is_allowed_is_listed_once_and_in_order() {
        let table = table(ROUTES);
        assert_eq!(table.methods("shop.example.com", "/cart"), [&Method::DELETE, &Method::GET, &Method::POST]);
        assert_eq!(table.methods("api.test", "/put"), [&Method::PUT]);
        assert!(table.knows("x.y.example.com") && table.knows("nowhere.test"));
        assert!(!Table::<()>::default().knows("nowhere.test"));
    }

    #[test]
    fn a_path_of_many_slashes_is_looked_up_no_deeper_than_the_deepest_prefix() {
        assert_eq!(ancestors(&"/a".repeat(30_000), 2).collect::<Vec<_>>(), ["/a/a", "/a", ""]);
        assert_eq!(ancestors("/a/b/", 9).collect::<Vec<_>>(), ["/a/b/", "/a/b", "/a", ""]);
        assert_eq!(ancestors("*", 0).collect::<Vec<_>>(), ["*"]);
    }

    /// The order in words: sort all routes, take the first that matches.
    fn oracle(rows: &[(HostPattern, PathPattern)], host: &str, path: &str) -> Option<usize> {
        let host_rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Suffix(suffix) => suffix.len(),
            HostPattern::Any => 0,
        };
        let path_rank = |pattern: &PathPattern| match pattern {
            PathPattern::Exact(_) => usize::MAX,
            PathPattern::Prefix(prefix) => prefix.len(),
        };
        let within = |pattern: &PathPattern| match pattern {
            PathPattern::Exact(exact) => exact == path,
            PathPattern::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        };
        let matching = rows.iter().enumerate().filter(|(_, row)| row.0.matches(host) && within(&row.1));
        let best = matching.max_by_key(|(at, row)| (host_rank(&row.0), path_rank(&row.1), std::cmp::Reverse(*at)));
        best.map(|(at, _)| at)
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_sorting_all_routes_finds(
            rows in proptest::collection::vec(("(\\*|(\\*\\.)?[ab](\\.[ab]){0,2})", "(/[ab]){1,3}(/\\*)?|/\\*|/"), 0..12),
            host in "[ab](\\.[ab]){0,3}", path in "(/[ab]{0,1}){1,4}",
        ) {
            let rows: Vec<(HostPattern, PathPattern)> = rows.iter()
                .filter_map(|(host, path)| Some((host.parse().ok()?, path.parse().ok()?))).collect();
            let table: Table<usize> =
                rows.iter().cloned().enumerate().map(|(at, (host, path))| (host, path, Vec::new(), at)).collect();
            prop_assert_eq!(table.find(&host, &path, &Method::GET).ok().copied(), oracle(&rows, &host, &path));
        }
    }
}
