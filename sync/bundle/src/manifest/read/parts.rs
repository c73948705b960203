//! What a manifest has beside functions' code and routes: stores, files, schedules and queues.

use super::check;
use crate::manifest::FilesSource;
use crate::name::Name;
use crate::release::{Consistency, Engine, Queue, Reuse, Run, Schedule, Store, keys_max, value_max_bytes};
use crate::text::Table;
use crate::verify::parts;

const ENGINES: &[(&str, Engine)] = &[("node", Engine::Node), ("nats", Engine::Nats), ("redis", Engine::Redis)];

pub(super) fn store(table: &mut Table<'_>) -> Store {
    let noted = table.noted();
    let consistency = &[
        ("eventual", Consistency::Eventual),
        ("read-your-writes", Consistency::ReadYourWrites),
        ("linearizable", Consistency::Linearizable),
    ];
    let store = Store {
        engine: table.choice("engine", ENGINES).or(Engine::Node),
        consistency: table.choice("consistency", consistency).or_default(),
        ttl_ms: table.duration_ms("ttl").optional(),
        value_max_bytes: table.size_bytes("value_max").or(value_max_bytes()),
        keys_max: table.integer("keys_max").or(keys_max()),
    };
    check(table, noted, || parts::store(&store));
    store
}

pub(super) fn files(table: &mut Table<'_>) -> FilesSource {
    let noted = table.noted();
    let files = FilesSource {
        path: table.string("path").not_empty().required(),
        index: table.string("index").not_empty().or("index.html".to_owned()),
        not_found: table.string("not_found").not_empty().optional(),
        fallback: table.string("fallback").not_empty().optional(),
    };
    let FilesSource { path: _, index, not_found, fallback } = &files;
    check(table, noted, || parts::files(Some(index), not_found.as_deref(), fallback.as_deref()));
    files
}

pub(super) fn schedule(table: &mut Table<'_>) -> (usize, Schedule) {
    let noted = table.noted();
    let schedule = Schedule {
        cron: table.string("cron").not_empty().required(),
        zone: table.string("zone").not_empty().or("UTC".to_owned()),
        run: table.choice("run", &[("once", Run::Once), ("each-node", Run::EachNode)]).or_default(),
        function: table.parsed::<Name>("function").required(),
    };
    check(table, noted, || parts::schedule(&schedule));
    (table.line(), schedule)
}

pub(super) fn queue(table: &mut Table<'_>) -> (usize, Queue) {
    let noted = table.noted();
    let backoff = table.strings("backoff").and_then(|waits| waits.iter().map(|wait| wait_ms(wait)).collect());
    let queue = Queue {
        engine: table.choice("engine", ENGINES).or(Engine::Nats),
        subject: table.string("subject").not_empty().required(),
        function: table.parsed::<Name>("function").required(),
        concurrency: table.integer("concurrency").or(8),
        attempts: table.integer("attempts").or(5),
        backoff_ms: backoff.or(vec![1_000, 10_000]),
        dead_letter: table.string("dead_letter").not_empty().optional(),
    };
    check(table, noted, || parts::queue(&queue));
    (table.line(), queue)
}

fn wait_ms(text: &str) -> Result<u64, String> {
    let us = crate::text::duration_us(text).ok_or_else(|| format!("`{text}` is no duration: write `10s`"))?;
    Ok(us / 1000)
}

pub(super) fn reuse(table: &mut Table<'_>) -> Reuse {
    let default = Reuse::default();
    let noted = table.noted();
    let reuse = Reuse {
        requests: table.integer("requests").or(default.requests),
        idle_ms: table.duration_ms("idle").or(default.idle_ms),
    };
    check(table, noted, || parts::reuse(&reuse));
    reuse
}
