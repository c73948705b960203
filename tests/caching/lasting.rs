//! What is kept on disk: through SIGKILL, flipped bits and upgrades. Whatever happens to it, no byte that is answered is
//! another than the upstream gave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::client::{Ask, PROTOCOLS, Protocol, ask, ask_all, unix};
use crate::harness::process::{Process, until};
use crate::harness::scripted::{Made, Seen};
use crate::harness::size::size;
use crate::harness::world::{eyot, good};

use super::answers::{House, answer, house_with, status};

/// URLs that are asked for.
const URLS: usize = 24;

/// The body of a URL: its own, from some bytes to some more than a mebibyte.
fn body(path: &str) -> Vec<u8> {
    let number: usize = path.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().expect("a number");
    let line = format!("{path}: {} ", "x".repeat(number));
    let bytes = [300, 20_000, 70_000, 400_000, 1_500_000][number % 5];
    line.bytes().cycle().take(bytes + number).collect()
}

fn lasting(seen: &Seen, _: usize) -> Made {
    Made::of(body(&seen.path)).control("max-age=6000").field("etag", format!("\"{}\"", seen.path))
}

/// A node that keeps answers on disk.
fn house_on_disk(answer: impl Fn(&Seen, usize) -> Made + Send + Sync + 'static) -> House {
    let (house, _) = house_with(
        "",
        |text, _| format!("{text}\n[cache]\nmemory = \"32MiB\"\ndisk = {{ path = \"http\", size = \"256MiB\" }}\n"),
        answer,
    );
    house.node.wait_for_disk(&house.world);
    house
}

fn path(n: usize) -> String {
    format!("/of/{n}")
}

impl House {
    fn asks(&self) -> Vec<Ask> {
        (0..URLS).map(|n| self.get(PROTOCOLS[n % 3], &path(n))).collect()
    }

    /// Asks for all; how many of them were kept. Where `may_break` an answer may break off, never be another.
    fn all_are_right(&self, may_break: bool) -> usize {
        let mut hits = 0;
        for (n, told) in ask_all(self.asks()).into_iter().enumerate() {
            match told {
                Ok(told) => {
                    assert!(
                        told.status == 200 && told.body == body(&path(n)),
                        "{}: {} bytes",
                        path(n),
                        told.body.len()
                    );
                    hits += usize::from(status(&told).starts_with("eyot; hit"));
                }
                Err(error) => assert!(may_break && n % 5 == 4, "{}: {error}", path(n)),
            }
        }
        hits
    }

    /// Waits until the node knows what was purged, and has all on disk: until then it asks for what is kept there anew.
    fn wait_until_all_is_found(&self) {
        until("it has heard its parent", || {
            (self.node.status(&self.world)["sync"]["purge_lagging"] == false).then_some(())
        });
        until("all is on disk", || (self.objects() >= URLS as u64).then_some(()));
    }

    /// What is on disk.
    fn objects(&self) -> u64 {
        let stats = unix(&self.world.path("a/admin.sock"), "/status/cache");
        let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
        stats["disk"]["objects"].as_u64().unwrap_or_default()
    }
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the moment of its death is drawn, and nothing is waited for")]
fn a_node_that_is_killed_while_it_keeps_answers_gives_the_right_ones_or_none_of_them() {
    let mut house = house_on_disk(lasting);
    let mut hits = 0;
    for round in 0..size().cache_kills {
        let asks = house.asks();
        // Some of them have their answers when it is killed, and some have not; nobody waits for these.
        std::thread::spawn(move || drop(ask_all(asks)));
        std::thread::sleep(std::time::Duration::from_millis(10 * (round as u64 % 10)));
        house.node.process.kill();
        house.node.restart();
        house.node.wait_for_release(&house.world, "shop.test", "/ready", "shop/1");
        house.node.wait_for_disk(&house.world);
        hits += house.all_are_right(false);
    }
    house.wait_until_all_is_found();
    house.node.restart();
    house.node.wait_for_release(&house.world, "shop.test", "/ready", "shop/1");
    let before: usize = house.upstream.asked().values().sum();
    house.wait_until_all_is_found();
    let last = house.all_are_right(false);
    assert_eq!(last, URLS, "all of it is there after a restart");
    assert_eq!(house.upstream.asked().values().sum::<usize>(), before, "and nobody was asked");
    println!("{hits} answers were of before a SIGKILL");
}

#[test]
fn bits_that_flipped_on_disk_are_in_no_answer() {
    let mut house = house_on_disk(lasting);
    house.all_are_right(false);
    until("all is on disk", || (house.objects() >= URLS as u64).then_some(()));
    house.node.process.kill();
    let mut flipped = 0;
    let mut drawn = size().seed;
    for file in files(&house.world.path("http/objects")) {
        let mut bytes = fs::read(&file).expect("a file");
        if bytes.is_empty() {
            continue;
        }
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(drawn >> 16).unwrap_or(0) % bytes.len();
        bytes[at] ^= 1 << (drawn >> 8 & 7);
        fs::write(&file, bytes).expect("written");
        flipped += 1;
    }
    assert!(flipped >= URLS, "{flipped} files");
    house.node.restart();
    house.node.wait_for_release(&house.world, "shop.test", "/ready", "shop/1");
    house.all_are_right(true);
    // What was damaged is gone, and fetched anew.
    house.all_are_right(false);
}

#[test]
fn what_was_purged_while_a_node_was_away_is_in_none_of_its_answers() {
    let version = std::sync::Arc::new(AtomicUsize::new(1));
    let now = std::sync::Arc::clone(&version);
    let mut house = house_on_disk(move |_, _| {
        Made::of(format!("version {}", now.load(Ordering::Relaxed)))
            .control("max-age=6000")
            .field("surrogate-key", "all")
    });
    assert_eq!(house.answer("/a").text(), "version 1");
    until("it is on disk", || (house.objects() >= 1).then_some(()));
    house.node.process.kill();
    version.store(2, Ordering::Relaxed);
    let mut purge = eyot();
    purge.args([
        "purge",
        "--wait",
        "0",
        "--tag",
        "all",
        "--name",
        "shop",
        "--origin",
        &house.world.origin_url(),
        "--ca",
    ]);
    purge.arg(house.world.ca()).arg("--key").arg(house.world.path("keys/publisher.key"));
    good(purge);
    house.node.restart();
    // Its first answer, whenever that is.
    let first = until("an answer", || {
        let told = ask(house.get(Protocol::H2, "/a")).ok()?;
        (told.status == 200).then_some(told)
    });
    assert_eq!(first.text(), "version 2", "{}", status(&first));
}

#[test]
fn an_upgrade_under_load_answers_from_the_disk_and_gives_no_wrong_byte() {
    let house = house_on_disk(lasting);
    house.all_are_right(false);
    until("all is on disk", || (house.objects() >= URLS as u64).then_some(()));
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let socket = house.world.path("a/admin.sock");
    let pid = || -> u64 {
        let state: serde_json::Value = serde_json::from_str(&unix(&socket, "/status/upgrade")).expect("JSON");
        state["pid"].as_u64().expect("a process")
    };
    let before = pid();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (house, stop, asked) = (&house, &stop, &asked);
            scope.spawn(move || {
                let mut n = client;
                while !stop.load(Ordering::Relaxed) {
                    let path = path(n % URLS);
                    let told = answer(house.get(PROTOCOLS[n % 3], &path));
                    assert!(told.status == 200 && told.body == body(&path), "{path}: {} bytes", told.body.len());
                    asked.fetch_add(1, Ordering::Relaxed);
                    n += 5;
                }
            });
        }
        let mut upgrade = eyot();
        upgrade.arg("upgrade").arg("--admin").arg(&socket);
        let done = upgrade.output().expect("a command");
        until("more were answered", || (asked.load(Ordering::Relaxed) > 100).then_some(()));
        stop.store(true, Ordering::Relaxed);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    });
    let heir = pid();
    assert_ne!(heir, before);
    house.wait_until_all_is_found();
    let asked = house.upstream.asked().values().sum::<usize>();
    assert_eq!(house.all_are_right(false), URLS, "all of it is there");
    assert_eq!(house.upstream.asked().values().sum::<usize>(), asked, "and nobody was asked");
    let _ = Command::new("kill").args(["-KILL", &heir.to_string()]).output();
}

#[test]
fn a_disk_that_is_full_costs_hits_and_no_answer() {
    let mut house = house_on_disk(lasting);
    house.node.process.kill();
    let folder = house.world.path("http");
    fs::create_dir_all(&folder).expect("a folder");
    // Much less than it is told that it has, in a namespace of its own.
    let mount = format!("mount -t tmpfs -o size=4m none {} && exec \"$@\"", folder.display());
    let mut through = Command::new("unshare");
    through.args(["-Urm", "sh", "-c", &mount, "sh", env!("CARGO_BIN_EXE_eyot"), "node", "--config"]);
    house.node.process = Process::start("a", through.arg(house.world.path("a.toml")));
    house.node.wait_for_release(&house.world, "shop.test", "/ready", "shop/1");
    house.node.wait_for_disk(&house.world);
    for _ in 0..3 {
        house.all_are_right(false);
    }
    until("some of it is on disk", || (house.objects() > 0).then_some(()));
    let on_disk = house.objects();
    assert!(on_disk < URLS as u64, "{on_disk} objects of {URLS} are on a disk that has no room for them");
    assert!(house.all_are_right(false) > URLS / 2, "what is in memory answers");
    assert_eq!(house.node.metric("eyot_panics_total"), 0.0);
}
