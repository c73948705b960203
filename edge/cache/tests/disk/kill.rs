//! SIGKILL while it writes: what the next process finds is what was stored, to the byte, or is not there; and what was
//! acknowledged is as it was said to be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};

use bytes::Bytes;
use eyot_cache::disk::{CHUNK, Disk};

use crate::child::{command, folder};
use crate::tool::{PLENTY, body, bytes, id, open, store};

/// How often it is killed.
const KILLS: usize = 6;
/// How many tasks store at the same time, and how many ids each has.
const TASKS: u64 = 4;
const IDS: u64 = 6;

/// What a deed is, by its number: the same in both processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Remeta,
    Remove,
    Store,
}

fn deed(number: u64) -> Deed {
    match number % 7 {
        0 | 3 => Deed::Remeta,
        5 => Deed::Remove,
        _ => Deed::Store,
    }
}

fn body_of(number: u64) -> Bytes {
    let lengths = [0, 100, 3000, CHUNK, CHUNK + 1, 4 * CHUNK + 99, 20 * CHUNK];
    bytes(number, lengths[usize::try_from(number / 7 % 7).expect("small")])
}

/// It says of which deed the body is, and of which the meta.
fn meta_of(body: u64, meta: u64) -> Bytes {
    let filling = usize::try_from(meta * 37 % 9000).expect("small");
    [&body.to_le_bytes()[..], &meta.to_le_bytes(), &bytes(meta, filling)].concat().into()
}

fn said(meta: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(meta[at..at + 8].try_into().expect("eight bytes"));
    (word(0), word(8))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Some(folder) = folder() else { return };
    let disk = Disk::open(folder, crate::tool::options(PLENTY)).await.expect("opened");
    let start = disk.stats().bytes ^ u64::from(std::process::id()) << 20;
    let tasks = (0..TASKS).map(|task| tokio::spawn(work(disk.clone(), task, start)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it goes on until it is killed");
    }
}

async fn work(disk: Disk, task: u64, start: u64) {
    let mut bodies = BTreeMap::new();
    for number in start.. {
        let number = number * TASKS + task;
        let own = task * IDS + number / 11 % IDS;
        say("begins", own, number);
        match (deed(number), bodies.get(&own)) {
            (Deed::Remeta, Some(body)) => {
                assert!(disk.remeta(id(own), meta_of(*body, number)).await);
            }
            (Deed::Remove, _) => {
                assert!(disk.remove(&id(own)).await);
                bodies.remove(&own);
            }
            _ => {
                let meta = meta_of(number, number);
                assert!(store(&disk, own % 5, own, &meta, &body_of(number), 50_000).await);
                bodies.insert(own, number);
            }
        }
        say("did", own, number);
    }
}

fn say(what: &str, own: u64, number: u64) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n@ {what} {own} {number}\n").as_bytes()).and_then(|()| out.flush()).expect("said");
}

/// Lets a process work until it has said `lines` things, and kills it. Gives what it began last and what it did last, by id.
fn killed_after(lines: usize, folder: &std::path::Path) -> [BTreeMap<u64, u64>; 2] {
    let mut child = command("kill::the_process_that_is_killed", folder, &[]).spawn().expect("started");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    let mut last = [BTreeMap::new(), BTreeMap::new()];
    let mut seen = 0;
    for line in out.lines().map_while(Result::ok) {
        let Some((what, rest)) = line.strip_prefix("@ ").and_then(|line| line.split_once(' ')) else { continue };
        let (own, number) = rest.split_once(' ').expect("an id and a number");
        let (own, number) = (own.parse().expect("an id"), number.parse().expect("a number"));
        last[usize::from(what == "did")].insert(own, number);
        seen += 1;
        if seen == lines {
            // What it says until it is dead is read too.
            child.kill().expect("killed");
        }
    }
    assert!(!child.wait().expect("waited for").success() && seen >= lines, "it was not the kill that ended it");
    last
}

#[tokio::test]
async fn what_a_killed_process_stored_is_right_to_the_byte_or_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut right, mut surely) = (0, 0);
    for round in 0..KILLS {
        let [begun, done] = killed_after(20 + round * 17, folder.path());
        let disk = open(folder.path(), PLENTY).await;
        let mut found = BTreeSet::new();
        for own in 0..TASKS * IDS {
            let Some(reader) = disk.read(&id(own)).await else { continue };
            let (of_body, of_meta) = said(reader.meta());
            assert!(reader.meta() == &meta_of(of_body, of_meta), "the meta of {own}");
            assert_eq!(reader.primary(), id(own % 5));
            if let Ok(body) = body(&reader).await {
                assert!(body == body_of(of_body), "the body of {own}");
                found.insert((own, of_meta));
                right += 1;
            }
        }
        for (own, number) in done.iter().filter(|(own, number)| begun.get(own) == Some(number)) {
            let stays = deed(*number) != Deed::Remove;
            assert_eq!(found.contains(&(*own, *number)), stays, "{own} in {number}, {:?}", deed(*number));
            surely += 1;
        }
        disk.close().await;
    }
    assert!(right > KILLS && surely > KILLS, "{right} objects were looked at, {surely} were known");
}
