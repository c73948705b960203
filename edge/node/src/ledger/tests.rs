//! What a crash, a torn disk and an old copy of it do to a ledger.

#[path = "../../../../tests/harness/size.rs"]
mod size;

use std::fs;
use std::path::Path;

use super::serving::{self, Serving};
use super::*;

fn file(name: &str, text: &str) -> (String, Vec<u8>) {
    (name.to_owned(), text.as_bytes().to_vec())
}

fn put(name: &str, text: &str) -> Change {
    Change { put: Files::from([file(name, text)]), ..Change::default() }
}

/// A folder with a ledger of some commits, as a process that was killed leaves it: the image of its open store.
fn killed() -> (tempfile::TempDir, State, Files) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ledger, _) = Ledger::open(folder.path()).expect("a new ledger");
    let mut expected = Files::new();
    for version in 1..=6 {
        for name in ["timestamp.json", "snapshot.json", "app-shop.json"] {
            let text = format!("{name} {version} {}", "x".repeat(300));
            ledger.commit(&put(name, &text)).expect("committed");
            expected.extend([file(name, &text)]);
        }
    }
    let mut record = AppRecord::default();
    record.activate(6);
    let apps = BTreeMap::from([("shop".parse().expect("a name"), Some(record))]);
    ledger.commit(&Change { apps, ..Change::default() }).expect("committed");
    let state = ledger.state().clone();
    let image = fs::read(folder.path().join(STORE)).expect("read");
    drop(ledger);
    fs::write(folder.path().join(STORE), image).expect("written");
    (folder, state, expected)
}

/// A copy of a ledger's folder, with a store that changes.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(folder: &Path) -> Self {
        let copy = tempfile::tempdir().expect("a folder");
        for name in [WITNESS, KEY] {
            fs::copy(folder.join(name), copy.path().join(name)).expect("copied");
        }
        Self(copy)
    }

    /// Opens it with a store of these bytes.
    fn open_with(&self, bytes: &[u8]) -> Result<(State, Files), LedgerError> {
        fs::write(self.0.path().join(STORE), bytes).expect("written");
        Ledger::open(self.0.path()).map(|(ledger, files)| (ledger.state().clone(), files))
    }
}

/// `open` gave exactly what was committed, or said that the ledger is lost. Whether it did that.
#[track_caller]
fn never_wrong(opened: Result<(State, Files), LedgerError>, state: &State, files: &Files, what: &str) -> bool {
    match opened {
        Ok(opened) => {
            assert_eq!((&opened.0, &opened.1), (state, files), "{what} gives another state");
            false
        }
        Err(LedgerError::Lost(_)) => true,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn what_was_committed_is_there_again_after_a_kill_and_after_a_clean_end() {
    let (folder, state, files) = killed();
    for _ in 0..2 {
        let (ledger, found) = Ledger::open(folder.path()).expect("opened");
        assert_eq!((ledger.state(), &found), (&state, &files));
    }
    assert_eq!(state.commit, 20);
    assert_eq!(state.apps["shop"].active, Some(6));
}

#[test]
fn a_second_process_is_told_that_the_ledger_is_busy() {
    let (folder, ..) = killed();
    let _first = Ledger::open(folder.path()).expect("opened");
    assert!(matches!(Ledger::open(folder.path()), Err(LedgerError::Busy(_))));
}

#[test]
fn no_prefix_of_a_ledger_is_taken_for_an_older_one() {
    let (folder, state, files) = killed();
    let image = fs::read(folder.path().join(STORE)).expect("read");
    let copy = Copy::of(folder.path());
    let mut whole = 0;
    for length in (0..image.len()).step_by(size::size().ledger_cut_bytes) {
        let lost = never_wrong(copy.open_with(&image[..length]), &state, &files, &format!("prefix {length}"));
        whole += usize::from(!lost);
    }
    // At its end a store may have pages that nothing is in; without those it is what it was.
    assert!(whole < image.len() / 4096, "{whole} of {} prefixes hold all that was committed", image.len());
}

#[test]
fn no_flipped_bit_gives_another_state_whether_killed_or_closed_cleanly() {
    let (folder, state, files) = killed();
    let torn = fs::read(folder.path().join(STORE)).expect("read");
    drop(Ledger::open(folder.path()).expect("opened"));
    let clean = fs::read(folder.path().join(STORE)).expect("read");
    let copy = Copy::of(folder.path());
    let mut seed = size::size().seed | 1;
    for flip in 0..size::size().ledger_flips {
        let image = if flip % 2 == 0 { &torn } else { &clean };
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let bit = usize::try_from(seed % (image.len() as u64 * 8)).expect("in the file");
        let mut changed = image.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        never_wrong(copy.open_with(&changed), &state, &files, &format!("bit {bit} of image {}", flip % 2));
    }
}

#[test]
fn an_older_copy_of_the_store_is_noticed_by_its_witness() {
    let (folder, ..) = killed();
    let old = fs::read(folder.path().join(STORE)).expect("read");
    let (mut ledger, _) = Ledger::open(folder.path()).expect("opened");
    ledger.commit(&put("timestamp.json", "7")).expect("committed");
    drop(ledger);
    let error = Copy::of(folder.path()).open_with(&old).expect_err("older");
    assert!(error.to_string().contains("its witness saw 21"), "{error}");
}

#[test]
fn a_crash_between_a_commit_and_its_witness_loses_nothing() {
    let (folder, ..) = killed();
    let witness = fs::read(folder.path().join(WITNESS)).expect("read");
    let (mut ledger, _) = Ledger::open(folder.path()).expect("opened");
    ledger.commit(&put("timestamp.json", "7")).expect("committed");
    drop(ledger);
    fs::write(folder.path().join(WITNESS), witness).expect("written");
    let (ledger, files) = Ledger::open(folder.path()).expect("opened");
    assert_eq!((ledger.state().commit, files["timestamp.json"].as_slice()), (21, &b"7"[..]));
}

#[test]
fn a_ledger_without_its_witness_its_key_or_its_store_is_lost_until_it_is_reset() {
    for gone in [WITNESS, KEY, STORE] {
        let (folder, ..) = killed();
        fs::remove_file(folder.path().join(gone)).expect("removed");
        assert!(matches!(Ledger::open(folder.path()), Err(LedgerError::Lost(_))), "{gone}");
        drop(Ledger::reset(folder.path()).expect("reset"));
        let (ledger, files) = Ledger::open(folder.path()).expect("a new one");
        assert!(files.is_empty() && ledger.state().commit == 1);
    }
}

#[test]
fn a_changed_witness_is_lost_and_so_is_a_foreign_one() {
    let (folder, ..) = killed();
    let (other, ..) = killed();
    let path = folder.path().join(WITNESS);
    let witness = fs::read(&path).expect("read");
    for at in 0..witness.len() {
        let mut changed = witness.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).expect("written");
        assert!(matches!(Ledger::open(folder.path()), Err(LedgerError::Lost(_))), "byte {at}");
    }
    fs::copy(other.path().join(WITNESS), &path).expect("copied");
    assert!(matches!(Ledger::open(folder.path()), Err(LedgerError::Lost(_))));
}

#[test]
fn a_witness_is_read_no_further_than_1_kib() {
    let (folder, ..) = killed();
    let path = folder.path().join(WITNESS);
    let mut witness = fs::read(&path).expect("read");
    // White space is JSON, so only its length is wrong with it.
    witness.resize(1024, b' ');
    fs::write(&path, &witness).expect("written");
    assert!(Ledger::open(folder.path()).is_ok());
    witness.resize(1 << 20, b' ');
    fs::write(&path, &witness).expect("written");
    assert_eq!(witness::read(&path).expect("read").map(|bytes| bytes.len()), Some(1024));
}

#[test]
fn the_serving_file_reads_back_and_a_torn_one_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(serving::read(folder.path()), None);
    let apps = BTreeMap::from([("shop".parse().expect("a name"), 6)]);
    let serving = Serving { accepted: Timestamp::UNIX_EPOCH, apps, files: Files::from([file("a.json", "\0\u{ff}")]) };
    serving::write(folder.path(), &serving).expect("written");
    assert_eq!(serving::read(folder.path()), Some(serving));
    let bytes = fs::read(serving::path(folder.path())).expect("read");
    let length = bytes.len() as u64;
    assert!(serving::read_within(folder.path(), length).is_some());
    assert_eq!(serving::read_within(folder.path(), length - 1), None, "one that is too long is not read");
    fs::write(serving::path(folder.path()), &bytes[..bytes.len() / 2]).expect("torn");
    assert_eq!(serving::read(folder.path()), None);
    assert!(matches!(Ledger::open(folder.path()), Err(LedgerError::Lost(_))), "a node that served had a ledger");
}

#[test]
fn a_file_that_is_removed_is_gone_and_floors_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ledger, _) = Ledger::open(folder.path()).expect("a new ledger");
    let floors = Floors { versions: BTreeMap::from([("snapshot".to_owned(), 9)]), time: Timestamp::UNIX_EPOCH, seq: 9 };
    let mut change = put("a", "1");
    change.floors = Some(floors);
    ledger.commit(&change).expect("committed");
    let remove = BTreeSet::from(["a".to_owned()]);
    ledger.commit(&Change { remove, ..Change::default() }).expect("committed");
    drop(ledger);
    let (ledger, files) = Ledger::open(folder.path()).expect("opened");
    assert!(files.is_empty());
    assert_eq!((ledger.state().seq, ledger.state().floors["snapshot"]), (9, 9));
}
