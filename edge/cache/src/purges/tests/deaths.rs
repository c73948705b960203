//! A process that is killed while it purges, and one whose disk is full: what it was told is done, is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

/// Set for the process that purges: the folder of its journal.
const FOLDER: &str = "EYOT_TEST_PURGES";
const LOG: u128 = 9;

/// Purges one key after another, and says which it was told are done.
#[test]
fn purges_until_it_is_stopped() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let Opened { purges, .. } = Purges::open(&folder, None, 1_000).expect("a journal");
    let mut told = std::io::stderr();
    for n in 1..1_000_000_u64 {
        let purge = Purge { what: What::Named(Hash::key("shop", &n.to_string())), how: How::Hard };
        let born = purges.now(1_000);
        let done = purges.apply(&[("shop", purge)], Some(Position { log: LOG, n }));
        let keys = [Hash::key("shop", &n.to_string())];
        assert_eq!(purges.judge("shop", born, url("shop", 0), &keys, 1_000), Verdict::Gone, "done here in any case");
        if done.is_err() {
            writeln!(told, "full").expect("a reader");
            assert_eq!(purges.position().map(|at| at.n), Some(n - 1), "it is not noted as done");
            return;
        }
        writeln!(told, "{n}").expect("a reader");
    }
}

fn purging(folder: &Path, shell: &str) -> Child {
    let mut child = Command::new("sh");
    child.arg("-c").arg(format!("{shell} exec \"$0\" --exact purges::tests::deaths::purges_until_it_is_stopped"));
    child.arg(std::env::current_exe().expect("this test")).env(FOLDER, folder);
    child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a process")
}

/// The last that was told, of at most so many.
fn told(child: &mut Child, most: usize) -> u64 {
    let lines = BufReader::new(child.stderr.as_mut().expect("a pipe")).lines().map_while(Result::ok);
    lines.take_while(|line| line != "full").take(most).filter_map(|line| line.parse().ok()).last().unwrap_or(0)
}

fn holds(folder: &Path, born: Born, last: u64) {
    let Opened { purges, lost } = Purges::open(folder, None, 1_001).expect("a journal");
    assert_eq!(lost, None);
    assert!(purges.position().expect("a position").n >= last, "{last} was told");
    for n in 1..=last {
        let keys = [Hash::key("shop", &n.to_string())];
        assert_eq!(purges.judge("shop", born, url("shop", 0), &keys, 1_001), Verdict::Gone, "{n} was told");
    }
    let later = purges.now(1_001);
    assert_eq!(purges.judge("shop", later, url("shop", 0), &[Hash::key("shop", "1")], 1_001), Verdict::Fresh);
}

#[test]
fn purges_that_a_killed_process_was_told_are_done_hold_in_the_next() {
    for most in [1, 40, 150] {
        let folder = tempfile::tempdir().expect("a folder");
        let born = Purges::open(folder.path(), None, 1_000).expect("a journal").purges.now(1_000);
        let mut child = purging(folder.path(), "");
        let last = told(&mut child, most);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert_eq!(last, most as u64);
        holds(folder.path(), born, last);
    }
}

#[test]
fn a_purge_that_finds_no_room_on_the_disk_holds_until_the_process_ends_and_is_not_told_as_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let born = Purges::open(folder.path(), None, 1_000).expect("a journal").purges.now(1_000);
    // Files of this process are no longer than 8 blocks of 512 bytes, and it is told so by an error.
    let mut child = purging(folder.path(), "trap '' XFSZ; ulimit -f 8;");
    let last = told(&mut child, usize::MAX);
    assert!(child.wait().expect("it ends").success());
    assert!((10..200).contains(&last), "{last} were told");
    holds(folder.path(), born, last);
}
