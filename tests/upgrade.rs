//! A node is put in the place of another while clients ask it: nobody notices, and when it goes wrong neither.

mod fallen;
mod house;
mod load;
mod managed;
mod open;
mod relayed;
mod state;
mod tickets;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use crate::harness::client::unix_asks;
use crate::harness::process::until;
use crate::harness::size::size;
use house::{House, house};
use load::Load;
use open::Open;

/// Upgrades so many times with everything open, under load.
fn upgrades_in_a_row(house: &House, rounds: usize) -> u64 {
    let mut serves = house.serves();
    for round in 0..rounds {
        let mut open = Open::on(house);
        let next = house.upgraded();
        assert_ne!(next, serves, "round {round}");
        house.told_main(next);
        open.go_on(house);
        if round == 0 {
            nobody_takes_over_while_another_drains(house);
        }
        open.end(house);
        serves = next;
    }
    assert_eq!(house.state()["pid"], serves);
    serves
}

/// At most one generation drains: another upgrade is refused and says why, or waits.
fn nobody_takes_over_while_another_drains(house: &House) {
    let why = "the process before this one still drains";
    let (status, told) = unix_asks(&house.socket(), "POST", "/upgrade");
    assert_eq!((status, told.trim()), (409, why));
    assert_eq!(house.state()["predecessor_drains"], true);
    let output = house.upgrade_within(0);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains(why), "{told}");
}

#[test]
fn upgrades_in_a_row_under_load_fail_no_request_and_cut_no_connection() {
    let mut house = house();
    let load = Load::on(&house);
    load.more(20);
    upgrades_in_a_row(&house, size().upgrades);
    assert_eq!(house.node.process.wait(), 0, "the first process ended well: {}", house.node.process.log());
    // The ledger is its own: it takes a new release.
    house.takes_a_release(2);
    load.end(&house);
}

/// A program that says that it has prepared and dies when it was given the ledger.
const DIES: &str = r#"#!/usr/bin/env python3
import json, socket, struct
line = socket.socket(fileno=0)
def exactly(count):
    text = b""
    while len(text) < count:
        text += line.recv(count - len(text))
    return text
exactly(struct.unpack(">I", exactly(4))[0])
line.recv(1)
word = json.dumps({"say": "prepared"}).encode()
line.sendall(struct.pack(">I", len(word)) + word)
exactly(struct.unpack(">I", exactly(4))[0])
"#;

#[test]
fn an_upgrade_that_fails_at_any_step_leaves_the_old_process_as_it_was() {
    let house = house();
    let good = house.world.path("eyot.good");
    fs::hard_link(&house.program, &good).expect("a second name");
    let load = Load::on(&house);
    load.more(10);
    let open = Open::on(&house);
    let pids = house.world.path("pid");
    let refuses = format!("#!/bin/sh\nexec {} node --config /nowhere/node.toml\n", good.display());
    let hangs = format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", pids.display());
    for (program, why) in [
        (None, "cannot be started"),
        (Some("#!/bin/sh\nexit 3\n"), "ended before it was ready"),
        (Some(refuses.as_str()), "ended before it was ready"),
        (Some(hangs.as_str()), "ended before it was ready"),
        (Some(DIES), "ended before it was ready"),
    ] {
        match program {
            None => fs::remove_file(&house.program).expect("removed"),
            Some(text) => house.replace_program(text),
        }
        let killing = (program == Some(hangs.as_str())).then(|| kill_when_named(&pids));
        let output = house.upgrade();
        killing.into_iter().for_each(|killing| killing.join().expect("no panic"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{why}: {told}");
        assert!(told.contains(why), "{told} does not say `{why}`");
        load.more(10);
    }
    // The ledger came back: the old process takes a new release, and a good program still takes over.
    house.takes_a_release(2);
    fs::rename(&good, &house.program).expect("replaced");
    house.upgraded();
    load.more(10);
    open.end(&house);
    load.end(&house);
}

/// Kills the process that writes its name there.
fn kill_when_named(file: &Path) -> JoinHandle<()> {
    let file = file.to_owned();
    std::thread::spawn(move || {
        let pid =
            until("the new process is there", || fs::read_to_string(&file).ok().filter(|pid| pid.ends_with('\n')));
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().expect("kill");
        assert!(killed.success());
    })
}
