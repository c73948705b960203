//! The checks of what a release has beside its functions' code and its routes: stores, files, schedules, queues, and what
//! a function is told and may use. Each says in words what is wrong; the caller knows where it stands.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::short;
use crate::cron::Cron;
use crate::name::Name;
use crate::release::{Bundle, Consistency, Engine, Files, Function, Queue, Release, Reuse, Schedule, Secret, Store};
use crate::subject;

/// Stores of one release.
pub const STORES_MAX: usize = 100;
/// Folders of files of one release.
pub const FILES_MAX: usize = 20;
/// A bundle of files, in bytes.
pub const FILES_BYTES_MAX: u64 = 512 << 20;
/// Schedules of one release.
pub const SCHEDULES_MAX: usize = 100;
/// Queues of one release.
pub const QUEUES_MAX: usize = 100;
/// Secrets of one function.
pub const SECRETS_MAX: usize = 64;
/// A sealed secret, in bytes.
pub const SEALED_BYTES_MAX: u64 = 1 << 20;
/// Functions before one target.
pub const BEFORE_MAX: usize = 8;
/// The largest value that any store takes, in bytes.
pub const VALUE_BYTES_MAX: u64 = 1 << 20;
/// The most keys of one store.
pub const KEYS_MAX: u64 = 10_000_000;
/// Messages of one queue that one node handles at once.
pub const CONCURRENCY_MAX: u32 = 1_000;
/// How often a message is tried.
pub const ATTEMPTS_MAX: u32 = 100;
const TTL_MS_MIN: u64 = 1_000;
const YEAR_MS: u64 = 365 * 24 * 3_600_000;
const CONFIG_BYTES_MAX: usize = 64 << 10;
const REUSE_REQUESTS_MAX: u32 = 100_000;
const REUSE_IDLE_MS_MAX: u64 = 600_000;
const BACKOFFS_MAX: usize = 20;
const BACKOFF_MS_MAX: u64 = 24 * 3_600_000;
const TEXT_BYTES_MAX: usize = 256;

pub(crate) fn store(store: &Store) -> Result<(), String> {
    let linearizable = store.consistency == Consistency::Linearizable;
    match store.engine {
        Engine::Nats | Engine::Redis if linearizable => {
            return Err("this engine cannot keep `linearizable`: what it acknowledged may be lost when its leader \
                        changes; ask for `read-your-writes`, or use the engine `node`"
                .to_owned());
        }
        Engine::Nats | Engine::Node | Engine::Redis => {}
    }
    if let Some(ms) = store.ttl_ms.filter(|ms| !(TTL_MS_MIN..=10 * YEAR_MS).contains(ms)) {
        return Err(format!("a life of {ms} ms is outside one second to ten years"));
    }
    let rows = [("value_max", store.value_max_bytes, VALUE_BYTES_MAX), ("keys_max", store.keys_max, KEYS_MAX)];
    match rows.iter().find(|(_, value, most)| *value == 0 || value > most) {
        Some((name, value, most)) => Err(format!("{name} {value} is outside 1 to {most}")),
        None => Ok(()),
    }
}

/// A path within a folder of files: relative, of plain segments.
pub(crate) fn file(path: &str) -> Result<(), String> {
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    let legal = path.len() <= TEXT_BYTES_MAX && !path.bytes().any(|byte| byte < b' ' || byte == b'\\' || byte == 0x7f);
    match legal && path.split('/').all(plain) {
        true => Ok(()),
        false => Err(format!("`{}` is no file of the folder: write it as `404.html`", short(path))),
    }
}

pub(crate) fn files(index: Option<&str>, not_found: Option<&str>, fallback: Option<&str>) -> Result<(), String> {
    if not_found.is_some() && fallback.is_some() {
        return Err("`not_found` and `fallback` both answer where there is no file: choose one".to_owned());
    }
    if let Some(index) = index.filter(|index| index.contains('/')) {
        return Err(format!("`index` is the name of a file, not `{}`", short(index)));
    }
    [index, not_found, fallback].into_iter().flatten().try_for_each(file)
}

pub(crate) fn schedule(schedule: &Schedule) -> Result<(), String> {
    let Schedule { cron, zone, run: _, function: _ } = schedule;
    if cron.len() > TEXT_BYTES_MAX || zone.len() > TEXT_BYTES_MAX {
        return Err(format!("a schedule has at most {TEXT_BYTES_MAX} characters, and so has the name of a time zone"));
    }
    Cron::parse(cron, zone).map(drop).map_err(|error| error.to_string())
}

pub(crate) fn queue(queue: &Queue) -> Result<(), String> {
    if queue.engine != Engine::Nats {
        return Err("queues are kept by the engine `nats`".to_owned());
    }
    subject(&queue.subject, true)?;
    if let Some(dead) = &queue.dead_letter {
        subject(dead, false)?;
        if subject::meet(&queue.subject, dead) {
            return Err(format!("its dead letters go to `{}`, which is its own: they would come back", short(dead)));
        }
    }
    if !(1..=CONCURRENCY_MAX).contains(&queue.concurrency) {
        return Err(format!("concurrency {} is outside 1 to {CONCURRENCY_MAX}", queue.concurrency));
    }
    if !(1..=ATTEMPTS_MAX).contains(&queue.attempts) {
        return Err(format!("attempts {} is outside 1 to {ATTEMPTS_MAX}", queue.attempts));
    }
    let waits = &queue.backoff_ms;
    if waits.is_empty() || waits.len() > BACKOFFS_MAX || waits.iter().any(|ms| *ms == 0 || *ms > BACKOFF_MS_MAX) {
        return Err(format!("`backoff` needs 1 to {BACKOFFS_MAX} waits of at most 24 hours"));
    }
    Ok(())
}

/// A subject of NATS: tokens between dots; in a pattern `*` stands for one, and `>` at the end for all that follow.
fn subject(text: &str, may_be_pattern: bool) -> Result<(), String> {
    let plain =
        |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let tokens: Vec<&str> = text.split('.').collect();
    let last = tokens.len() - 1;
    let good = |(index, token): (usize, &&str)| {
        plain(token) || (may_be_pattern && (*token == "*" || (*token == ">" && index == last)))
    };
    match text.len() <= TEXT_BYTES_MAX && tokens.iter().enumerate().all(good) {
        true => Ok(()),
        false => Err(format!("`{}` is no subject: write it as `orders` or `orders.>`", short(text))),
    }
}

pub(crate) fn config(config: &BTreeMap<String, String>) -> Result<(), String> {
    let bytes: usize = config.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > CONFIG_BYTES_MAX {
        return Err(format!("a config of {bytes} bytes; at most {CONFIG_BYTES_MAX}"));
    }
    match config.keys().find(|key| key.is_empty() || key.len() > TEXT_BYTES_MAX) {
        Some(key) => Err(format!("`{}` is no key of a config", short(key))),
        None => Ok(()),
    }
}

/// The name of a secret: `PAYMENT_KEY`.
pub fn secret_name(name: &str) -> Result<(), String> {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match begins && goes_on && name.len() <= 64 {
        true => Ok(()),
        false => Err(format!("`{}` is no name of a secret: write it as `PAYMENT_KEY`", short(name))),
    }
}

pub(crate) fn secret_names<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Result<(), String> {
    if names.len() > SECRETS_MAX {
        return Err(format!("{} secrets; at most {SECRETS_MAX}", names.len()));
    }
    let mut seen = BTreeSet::new();
    for name in names {
        secret_name(name)?;
        if !seen.insert(name) {
            return Err(format!("the secret `{}` stands twice", short(name)));
        }
    }
    Ok(())
}

/// The names under which a function opens its stores.
pub(crate) fn store_names<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Result<(), String> {
    if names.len() > STORES_MAX {
        return Err(format!("{} stores; at most {STORES_MAX}", names.len()));
    }
    let mut names = names;
    match names.find(|name| name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some(name) => Err(format!("`{}` is no name to open a store by", short(name))),
        None => Ok(()),
    }
}

pub(crate) fn reuse(reuse: &Reuse) -> Result<(), String> {
    if !(1..=REUSE_REQUESTS_MAX).contains(&reuse.requests) {
        return Err(format!("`reuse.requests` {} is outside 1 to {REUSE_REQUESTS_MAX}", reuse.requests));
    }
    if !(1..=REUSE_IDLE_MS_MAX).contains(&reuse.idle_ms) {
        return Err(format!("`reuse.idle` of {} ms is outside 1 ms to 10 minutes", reuse.idle_ms));
    }
    Ok(())
}

pub(crate) fn before(before: &[Name]) -> Result<(), String> {
    if before.len() > BEFORE_MAX {
        return Err(format!("{} functions in `before`; at most {BEFORE_MAX}", before.len()));
    }
    Ok(())
}

/// What a function of a release is told and may use.
pub(super) fn function(function: &Function, release: &Release) -> Result<(), String> {
    config(&function.config)?;
    secret_names(function.secrets.keys().collect::<Vec<_>>().into_iter())?;
    function.secrets.iter().try_for_each(|(name, secret)| self::secret(name, secret))?;
    store_names(function.stores.keys().collect::<Vec<_>>().into_iter())?;
    if let Some((name, store)) = function.stores.iter().find(|(_, store)| !release.stores.contains_key(*store)) {
        return Err(format!("opens `{}`: there is no store `{store}`", short(name)));
    }
    if let Some(missing) = function.calls.iter().find(|name| !release.functions.contains_key(*name)) {
        return Err(format!("calls `{missing}`: there is no such function"));
    }
    reuse(&function.reuse)
}

/// A secret, by its name.
pub(super) fn secret(name: &str, secret: &Secret) -> Result<(), String> {
    let Secret { sealed: Bundle { sha256: _, size }, version } = *secret;
    if size == 0 || size > SEALED_BYTES_MAX || version == 0 {
        return Err(format!("the secret `{name}` has {size} bytes, or no version; at most {SEALED_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// All but functions and routes.
pub(super) fn release(release: &Release) -> Result<(), String> {
    let counts = [
        ("stores", release.stores.len(), STORES_MAX),
        ("folders of files", release.files.len(), FILES_MAX),
        ("schedules", release.schedules.len(), SCHEDULES_MAX),
        ("queues", release.queues.len(), QUEUES_MAX),
    ];
    if let Some((what, count, most)) = counts.iter().find(|(_, count, most)| count > most) {
        return Err(format!("{count} {what}; at most {most}"));
    }
    for (name, store) in &release.stores {
        self::store(store).map_err(|text| format!("store `{name}`: {text}"))?;
    }
    for (name, files) in &release.files {
        self::folder(files).map_err(|text| format!("files `{name}`: {text}"))?;
    }
    let known = |name: &Name| match release.functions.contains_key(name) {
        true => Ok(()),
        false => Err(format!("there is no function `{name}`")),
    };
    for schedule in &release.schedules {
        let at = |text| format!("schedule `{}`: {text}", short(&schedule.cron));
        self::schedule(schedule).and_then(|()| known(&schedule.function)).map_err(at)?;
    }
    if let Some(twice) = twice(&release.schedules) {
        return Err(format!("schedule `{}` of `{}` stands twice", short(&twice.cron), twice.function));
    }
    for queue in &release.queues {
        let at = |text| format!("queue `{}`: {text}", short(&queue.subject));
        self::queue(queue).and_then(|()| known(&queue.function)).map_err(at)?;
    }
    if let Some((one, other)) = meeting(&release.queues) {
        let (one, other) = (short(&one.subject), short(&other.subject));
        return Err(format!("queues `{one}` and `{other}` would take the same messages; a message goes to one queue"));
    }
    Ok(())
}

/// What is there more than once.
fn twice<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter().enumerate().find(|(index, one)| all[..*index].contains(one)).map(|(_, one)| one)
}

/// Two queues whose subjects meet: a message goes to one.
fn meeting(queues: &[Queue]) -> Option<(&Queue, &Queue)> {
    let others = |index: usize| queues.iter().take(index);
    queues.iter().enumerate().find_map(|(index, queue)| {
        let other = others(index).find(|other| subject::meet(&queue.subject, &other.subject))?;
        Some((queue, other))
    })
}

fn folder(files: &Files) -> Result<(), String> {
    let Files { bundle, index, not_found, fallback } = files;
    if bundle.size == 0 || bundle.size > FILES_BYTES_MAX {
        return Err(format!("a bundle of {} bytes; it may have 1 to {FILES_BYTES_MAX}", bundle.size));
    }
    self::files(index.as_deref(), not_found.as_deref(), fallback.as_deref())
}
