//! `cache = { … }` of a route, or `cache = "function"`.

use super::check;
use crate::release::cache::{Cache, Mode, Query};
use crate::text::Table;
use crate::verify::cache;

const MODES: &[(&str, Mode)] = &[("off", Mode::Off), ("standard", Mode::Standard), ("function", Mode::Function)];

/// The key `cache` of a route's table.
pub(super) fn cache(route: &mut Table<'_>) -> Option<Cache> {
    if !route.has("cache") {
        return None;
    }
    if route.is_string("cache") {
        return Some(Cache { mode: route.choice("cache", MODES).or_default(), ..Cache::default() });
    }
    let mut table = route.table("cache");
    let table = &mut table;
    let noted = table.noted();
    let cache = Cache {
        mode: table.choice("mode", MODES).or_default(),
        query: table.has("query").then(|| query(&mut table.table("query"))),
        vary: table.strings("vary").or(Vec::new()),
        cookies: table.strings("cookies").or(Vec::new()),
        ttl_ms: table.duration_ms("ttl").optional(),
        negative_ttl_ms: table.duration_ms("negative_ttl").optional(),
        stale_while_revalidate_ms: table.duration_ms("stale_while_revalidate").optional(),
        stale_if_error_ms: table.duration_ms("stale_if_error").optional(),
        heed_requests: table.boolean("heed_requests").or(false),
    };
    check(table, noted, || cache::check(&cache));
    Some(cache)
}

fn query(table: &mut Table<'_>) -> Query {
    Query {
        drop: table.strings("drop").optional(),
        keep: table.strings("keep").optional(),
        sort: table.boolean("sort").or(false),
    }
}
