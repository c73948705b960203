//! What a route may say of the cache.

use std::collections::BTreeSet;

use crate::release::Target;
use crate::release::cache::{Cache, Mode, Query};

/// Names that one list of a route's cache may have, and the bytes of each.
const NAMES_MAX: usize = 64;
/// Fields and cookies that distinguish answers.
const PARTS_MAX: usize = 16;
/// The bytes of a name.
const NAME_BYTES_MAX: usize = 100;
/// The longest time, in milliseconds: a year.
const TIME_MS_MAX: u64 = 366 * 86_400_000;

/// Whether it says what can be done.
pub(crate) fn check(cache: &Cache) -> Result<(), String> {
    let Cache { mode: _, query, vary, cookies, ttl_ms, negative_ttl_ms, .. } = cache;
    query.as_ref().map_or(Ok(()), self::query)?;
    names("vary", vary, PARTS_MAX, is_token)?;
    names("cookies", cookies, PARTS_MAX, is_token)?;
    let times = [*ttl_ms, *negative_ttl_ms, cache.stale_while_revalidate_ms, cache.stale_if_error_ms];
    if times.into_iter().flatten().any(|ms| ms > TIME_MS_MAX) {
        return Err("a time of more than 366 days".to_owned());
    }
    Ok(())
}

/// Whether there is anything to keep where a route's cache is spoken of.
pub(crate) fn fits(cache: &Cache, target: &Target) -> Result<(), String> {
    match (cache.mode, target) {
        (Mode::Off, _) | (_, Target::Upstream(_)) | (Mode::Function, Target::Function(_)) => Ok(()),
        (_, Target::Function(_)) => {
            Err("`cache` keeps no function's answers here: write `cache = \"function\"`".to_owned())
        }
        (_, Target::Files(_) | Target::Redirect(_) | Target::Respond(_)) => {
            Err("`cache` is for answers of upstreams and of functions, and this is neither".to_owned())
        }
    }
}

fn query(query: &Query) -> Result<(), String> {
    let Query { drop, keep, sort: _ } = query;
    if drop.is_some() && keep.is_some() {
        return Err("`query` has `keep` and `drop`; it needs one of them".to_owned());
    }
    let is_name = |name: &str| {
        let name = name.strip_suffix('*').unwrap_or(name);
        name.bytes().all(|byte| byte.is_ascii_graphic() && !b"*&=#".contains(&byte))
    };
    names("query.drop", drop.as_deref().unwrap_or_default(), NAMES_MAX, is_name)?;
    names("query.keep", keep.as_deref().unwrap_or_default(), NAMES_MAX, is_name)
}

fn is_token(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn names(key: &str, names: &[String], most: usize, is_name: impl Fn(&str) -> bool) -> Result<(), String> {
    if names.len() > most {
        return Err(format!("`{key}` has {} names; at most {most}", names.len()));
    }
    let good = |name: &&String| !name.is_empty() && name.len() <= NAME_BYTES_MAX && is_name(name);
    if let Some(bad) = names.iter().find(|name| !good(name)) {
        return Err(format!("`{key}`: `{}` is no name", bad.chars().take(NAME_BYTES_MAX).collect::<String>()));
    }
    if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        return Err(format!("`{key}` names one thing twice"));
    }
    Ok(())
}
