//! An origin and a node under a real systemd, with the units as they are shipped and the examples of their configuration:
//! reloaded, broken, killed, restarted and stopped while clients ask.

mod clients;
mod house;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::client::{PROTOCOLS, Protocol};
use crate::harness::nspawn::missing;
use crate::harness::process::until;
use crate::harness::size::size;
use clients::{Load, Open, open};
use house::{House, NODE, ORIGIN, PROGRAM};

/// More than systemd allows in ten seconds by itself (DefaultStartLimitBurst).
const DEATHS: usize = 6;

#[test]
fn the_shipped_units_reload_without_loss_and_end_well_under_a_real_systemd() {
    if size().reloads == 0 {
        return println!("not at this size: a machine with a real systemd is booted for it");
    }
    if let Some(why) = missing() {
        return println!("skipped: {why}");
    }
    let house = House::new();
    house.is_well(NODE);
    house.is_well(ORIGIN);
    let load = Load::of(&house.client());
    load.more(20);
    reloads_in_a_row(&house, &load);
    programs_that_fail(&house, &load);
    let (asked, failed) = load.end();
    println!("{asked} requests, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {asked}: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    main_processes_that_die(&house);
    restarts_and_stops(&house);
}

/// A new file each time, with exchanges open across it.
fn reloads_in_a_row(house: &House, load: &Load) {
    let good = fs::read(env!("CARGO_BIN_EXE_eyot")).expect("the program");
    for round in 0..size().reloads {
        let (open, before) = (open(house), house.main(NODE));
        house.replace_program(&good);
        house.machine.systemctl(&["reload", "eyot-node"]);
        assert_ne!(house.main(NODE), before, "round {round}");
        house.is_well(NODE);
        load.more(20);
        open.into_iter().for_each(Open::end);
    }
    let fed = || house.machine.show(NODE, "WatchdogTimestampMonotonic");
    let before = fed();
    until("the watchdog hears of the new main process", || (fed() != before).then_some(()));
    assert_eq!(house.machine.show(NODE, "NRestarts"), "0");
    let journal = house.machine.journal(NODE);
    assert!(!journal.contains("reception only permitted"), "who is not the main process says nothing");
}

/// The file of a new version is no good: the reload says so, and who serves goes on.
fn programs_that_fail(house: &House, load: &Load) {
    let good = fs::read(house.machine.path(PROGRAM)).expect("the program");
    fs::write(house.machine.path("/usr/bin/eyot.good"), &good).expect("written");
    fs::set_permissions(house.machine.path("/usr/bin/eyot.good"), fs::Permissions::from_mode(0o755)).expect("ours");
    let refuses = "#!/bin/sh\n[ \"$1\" = upgrade ] && exec /usr/bin/eyot.good upgrade\necho no licence >&2\nexit 3\n";
    let main = house.main(NODE);
    for (bytes, says) in [
        (&b"no program"[..], "Exec format error"),
        (refuses.as_bytes(), "ended before it was ready; its log says why"),
        (refuses.as_bytes(), "no licence"),
    ] {
        house.replace_program(bytes);
        let output = house.machine.try_systemctl(&["reload", "eyot-node"]);
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complained.contains("Job for eyot-node.service failed"), "{complained}");
        until("the journal says why", || house.machine.journal(NODE).contains(says).then_some(()));
        assert_eq!((house.main(NODE), house.machine.show(NODE, "ActiveState")), (main, "active".to_owned()));
        load.more(10);
    }
    house.replace_program(&good);
    house.machine.systemctl(&["reload", "eyot-node"]);
    assert_ne!(house.main(NODE), main);
    house.is_well(NODE);
    load.more(10);
}

/// A main process is killed, also while the one before it drains: systemd has the sockets, and starts another.
fn main_processes_that_die(house: &House) {
    let client = house.client();
    let mut restarts = 0;
    for drains in [false, true] {
        let _open = drains.then(|| {
            let open = open(house);
            house.machine.systemctl(&["reload", "eyot-node"]);
            open
        });
        let main = house.main(NODE);
        house.machine.kill(main);
        let answers = PROTOCOLS.map(|protocol| {
            let client = client.clone();
            std::thread::spawn(move || {
                until("a request is answered", || match client.asks(protocol, "/fixed") {
                    Ok(answer) => Some(answer.status),
                    Err(error) => {
                        assert!(!error.contains("refused"), "{protocol:?}: {error}");
                        None
                    }
                })
            })
        });
        assert_eq!(answers.map(|answer| answer.join().expect("no panic")), [200; 3]);
        restarts += 1;
        assert_eq!(house.machine.show(NODE, "NRestarts"), restarts.to_string(), "drains: {drains}");
        assert_ne!(house.main(NODE), main);
        house.is_well(NODE);
    }
    // However often: a node that gave up would be gone until somebody looked.
    for _ in 0..DEATHS {
        let main = house.main(NODE);
        house.machine.kill(main);
        until("systemd starts another", || Some(house.main(NODE)).filter(|next| ![0, main].contains(next)));
    }
    until("it serves", || client.asks(Protocol::H2, "/fixed").ok());
    house.is_well(NODE);
    let journal = house.machine.journal(NODE);
    assert!(
        !journal.contains("Watchdog timeout"),
        "a process that drains keeps systemd from seeing the end of its heir"
    );
}

/// A restart fails no request; a stop is clean; where systemd has the sockets alone, the first who asks starts it.
fn restarts_and_stops(house: &House) {
    let client = house.client();
    let load = Load::of(&client);
    load.more(10);
    house.machine.systemctl(&["restart", "eyot-node"]);
    house.is_well(NODE);
    load.more(20);
    let (asked, failed) = load.end();
    println!("a restart: {asked} requests, {} failed: {failed:#?}", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    for (units, main) in [(&["eyot-node.socket", NODE][..], NODE), (&[ORIGIN], ORIGIN)] {
        house.machine.systemctl(&[&["stop"], units].concat());
        let ended = ["ActiveState", "Result", "ExecMainStatus"].map(|property| house.machine.show(main, property));
        assert_eq!(ended, ["inactive", "success", "0"], "{main}");
    }
    assert!(client.asks(Protocol::H2, "/fixed").is_err_and(|error| error.contains("refused")));
    house.machine.systemctl(&["start", "eyot-node.socket"]);
    // It has what it had, without an origin.
    for protocol in PROTOCOLS {
        let answer = until("a request starts it", || client.asks(protocol, "/env").ok());
        assert_eq!(answer.status, 200, "{protocol:?}");
    }
    house.is_well(NODE);
    assert_eq!(house.machine.systemctl(&["is-system-running"]).trim(), "running", "no unit has failed");
}
