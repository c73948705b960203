//! What is shown of the cache to a node's operator.

use eyot_cache::purges::Verdict;
use eyot_cache::room::Room;
use eyot_plan::request;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};

use super::Caching;
use crate::node::Node;
use crate::purge::now_ms;

/// What each app keeps.
pub(crate) fn stats(node: &Node) -> Value {
    let apps = node.rooms.stats().into_iter().map(|(app, stats)| {
        let room =
            json!({"objects": stats.objects, "bytes": stats.bytes, "flights": stats.flights, "broken": stats.broken});
        (app, room)
    });
    let disk = node.rooms.common().disk_stats().map(|disk| {
        json!({
            "objects": disk.objects,
            "bytes": disk.bytes,
            "hits": disk.hits,
            "damaged": disk.damaged,
            "write_errors": disk.write_errors,
            "evicted": disk.evicted,
            "declined": disk.declined,
            "slow": disk.slow,
            "recovering": disk.recovering,
        })
    });
    json!({
        "disk": disk,
        "memory_bytes_max": node.config.cache.memory_bytes,
        "apps": apps.collect::<serde_json::Map<_, _>>(),
    })
}

/// What is kept in memory of a URL that somebody wrote.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn lookup(node: &Node, url: &str) -> Result<Value, String> {
    let url: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let url = request::url(&url)?;
    let host = url.host().unwrap_or_default();
    let entry = node.snapshots.find(host).map_err(|_| format!("no app answers for `{host}` here"))?;
    let route = entry.find(host, url.path(), &Method::GET).map_err(|fault| format!("{}", fault.code))?;
    let (says, kept) = match &route.cache {
        None => ("its route keeps nothing".to_owned(), Vec::new()),
        Some(caching) => {
            let kept = kept(caching, &url);
            let key = &caching.site().rules.key;
            let also = if key.headers.is_empty() && key.cookies.is_empty() {
                ""
            } else {
                ", for requests without the fields and cookies that its route tells apart"
            };
            (
                if kept.is_empty() { format!("nothing is kept{also}") } else { format!("{} kept{also}", kept.len()) },
                kept,
            )
        }
    };
    Ok(json!({"url": url.to_string(), "app": entry.app, "route": &*route.id, "says": says, "kept": kept}))
}

fn kept(caching: &Caching, url: &Uri) -> Vec<Value> {
    let (room, now_ms): (&Room, _) = (&caching.room, now_ms());
    let all = room.kept(caching.site().id(url, &HeaderMap::new()));
    let shown = all.iter().map(|object| {
        let life = &object.kept.life;
        // Who a variant is for is nobody else's business where the field says who that is.
        let vary = object.kept.selected.iter().map(|(name, value)| {
            let is_secret = [AUTHORIZATION, COOKIE].contains(name);
            let value = value.as_deref().map(|value| if is_secret { "(a secret)" } else { value });
            (name.to_string(), json!(value))
        });
        json!({
            "status": object.kept.status.as_u16(),
            "bytes": object.length(),
            "age": life.age_ms(now_ms) / 1000,
            "ttl": life.ttl_ms(now_ms).div_euclid(1000),
            "verdict": match room.verdict(object, now_ms) {
                Verdict::Fresh => "fresh",
                Verdict::Stale => "purged softly",
                Verdict::Doubted => "doubted",
                Verdict::Gone => "purged",
            },
            "vary": vary.collect::<serde_json::Map<_, _>>(),
        })
    });
    shown.collect()
}
