//! The journal's bytes: cut and turned at every place.

use super::super::marks::Since;
use super::super::{Hash, How, What};
use super::*;

/// Marks of one app.
const MOST: usize = 100;

fn open(folder: &Path, now_ms: u64) -> io::Result<Opened> {
    super::open(folder, MOST, now_ms)
}

fn parse(bytes: &[u8]) -> Result<State, String> {
    super::parse(bytes, MOST)
}

/// A journal of four calls after a start, its bytes, and where each call ends.
fn written() -> (Vec<u8>, Vec<usize>) {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { mut journal, .. } = open(folder.path(), 1_000).expect("a journal");
    let bytes = || std::fs::read(folder.path().join(NAME)).expect("a journal");
    let mut ends = vec![bytes().len()];
    for n in 1..=4_u8 {
        let what = if n == 2 { What::App } else { What::Named(Hash::from_bytes([n; 16])) };
        let purge = Purge { what, how: How::Hard };
        let upto = Position { log: 1, n: u64::from(n) };
        journal.append(first(1_000) + u64::from(n), &[("shop", purge)], Some(upto), State::default).expect("a disk");
        ends.push(bytes().len());
    }
    (bytes(), ends)
}

#[test]
fn a_file_that_is_cut_says_all_that_was_whole_before_the_cut() {
    let (bytes, ends) = written();
    for cut in 0..=bytes.len() {
        // As it is cut, and as it is when its length was written before its bytes.
        for tail in [&[][..], &[0; 40]] {
            let file = [&bytes[..cut], tail].concat();
            let whole = ends.iter().filter(|end| file.get(..**end) == Some(&bytes[..**end])).count();
            match (whole.checked_sub(1), parse(&file)) {
                (None, read) => assert!(read.is_err(), "cut at {cut}"),
                (Some(calls), Ok(state)) => {
                    assert_eq!(state.position.map_or(0, |at| at.n), calls as u64, "cut at {cut}");
                    assert_eq!(state.counter, first(1_000) + calls as u64);
                }
                // A frame of which a part is there and zeroes are the rest does not add up.
                (Some(_), Err(why)) => assert!(!tail.is_empty() && !ends.contains(&cut), "cut at {cut}: {why}"),
            }
        }
    }
}

#[test]
fn a_file_with_one_bit_turned_anywhere_or_a_call_taken_out_is_damaged() {
    let (bytes, ends) = written();
    for at in 0..bytes.len() * 8 {
        let mut turned = bytes.clone();
        turned[at / 8] ^= 1 << (at % 8);
        assert!(parse(&turned).is_err(), "bit {at}");
    }
    for pair in ends.windows(2).take(ends.len() - 2) {
        assert!(parse(&[&bytes[..pair[0]], &bytes[pair[1]..]].concat()).is_err(), "{pair:?}");
    }
    assert!(parse(&[&bytes[..], b"more that is none of ours"].concat()).is_err());
}

#[test]
fn records_are_read_as_they_were_written_and_none_is_read_from_a_part() {
    let since = Since { soft: 1, doubt: 2, hard: u64::MAX };
    let records = [
        Record::Counter { counter: 5, first: 4 },
        Record::Mark { app: "shop", of: None, since },
        Record::Mark { app: "shop", of: Some(Hash::from_bytes([7; 16])), since },
        Record::Position(Position { log: u128::MAX, n: 3 }),
    ];
    for record in records {
        let mut bytes = Vec::new();
        put(&mut bytes, &record);
        let mut read = record::Records(&bytes);
        assert_eq!((read.next(), read.next()), (Ok(Some(record)), Ok(None)));
        for cut in 1..bytes.len() {
            assert!(record::Records(&bytes[..cut]).next().is_err());
        }
    }
}
