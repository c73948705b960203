//! The program over packets, and the kernel's: real clients of real endpoints, whose addresses change.

mod interpreter;
mod live;

use super::cid::Slotted;
use super::program::Program;
use super::*;
use interpreter::run;
use quinn::ConnectionIdGenerator as _;

fn own(slot: u8) -> Vec<u8> {
    Slotted(slot).generate_cid().to_vec()
}

fn short(cid: &[u8]) -> Vec<u8> {
    [&[0x43], cid, &[7; 24]].concat()
}

fn long(cid: &[u8]) -> Vec<u8> {
    let length = u8::try_from(cid.len()).expect("an ID");
    [&[0xc3, 0, 0, 0, 1, length], cid, &[0; 1200]].concat()
}

/// An ID like ours whose check is not right.
fn foreign(slot: u8) -> Vec<u8> {
    let mut cid = own(slot);
    cid[2] ^= 1;
    cid[3] = 6;
    cid
}

/// The place that a spread by the first word of `cid` gives.
fn spread(cid: &[u8], count: u32, base: u32) -> u32 {
    u32::from_be_bytes(cid[..4].try_into().expect("four bytes")) % count + base
}

#[test]
fn every_datagram_has_its_place() {
    const COUNT: u32 = 4;
    let random = vec![0x11, 0x22, 0x33, 0x46, 5, 6, 7, 8];
    let (lost, far) = (foreign(1), own(8));
    for serves in [Generation::Even, Generation::Odd] {
        let base = if serves == Generation::Even { 0 } else { COUNT };
        for other in [Other::Drains, Other::Gone] {
            let program = Program::new(COUNT, serves, other).expect("it fits");
            let instructions = program.instructions();
            let place = |packet: &[u8]| {
                let place = run(&instructions, packet);
                assert_eq!(program.place(packet), place, "the relay says the same of {packet:?}");
                place
            };
            for slot in 0..8_u8 {
                let is_read = other == Other::Drains || (base..base + COUNT).contains(&u32::from(slot));
                let cid = own(slot);
                let expect = if is_read { u32::from(slot) } else { spread(&cid, COUNT, base) };
                assert_eq!(place(&short(&cid)), expect, "{serves:?} {other:?} short {slot}");
                assert_eq!(place(&long(&cid)), expect, "{serves:?} {other:?} long {slot}");
            }
            for (packet, expect, what) in [
                (long(&random), spread(&random, COUNT, base), "a first ID of 8 bytes"),
                (long(&[random.clone(), random.clone(), vec![1; 4]].concat()), spread(&random, COUNT, base), "of 20"),
                (long(&lost), spread(&lost, COUNT, base), "a check that is not right"),
                (short(&lost), spread(&lost, COUNT, base), "the same in a short header"),
                (long(&far), spread(&far, COUNT, base), "a slot that there is not"),
                (short(&far), spread(&far, COUNT, base), "the same in a short header"),
                (vec![], base, "nothing"),
                (vec![0x43], base, "a byte"),
                (short(&own(7))[..12].to_vec(), base, "a short header that is cut off"),
                (long(&own(7))[..17].to_vec(), base, "a long header that is cut off"),
            ] {
                assert_eq!(place(&packet), expect, "{serves:?} {other:?}: {what}");
            }
        }
    }
}

#[test]
fn whatever_comes_is_given_to_a_socket_that_is_read() {
    let mut random = [0; 64];
    for count in [1, 3, 64] {
        for serves in [Generation::Even, Generation::Odd] {
            let program = Program::new(count, serves, Other::Gone).expect("it fits").instructions();
            let base = if serves == Generation::Even { 0 } else { count };
            for length in (0..64).cycle().take(20_000) {
                aws_lc_rs::rand::fill(&mut random).expect("randomness");
                let place = run(&program, &random[..length]);
                assert!((base..base + count).contains(&place), "{count} {serves:?}: {:?}", &random[..length]);
            }
        }
    }
}

#[test]
fn the_relay_gives_every_datagram_the_place_that_the_program_gives_it() {
    let mut random = [0; 64];
    let mut draw = || {
        aws_lc_rs::rand::fill(&mut random).expect("randomness");
        random
    };
    for _ in 0..20_000 {
        let drawn = draw();
        let count = [1, 2, 3, 4, 64][usize::from(drawn[0] % 5)];
        let serves = if drawn[1].is_multiple_of(2) { Generation::Even } else { Generation::Odd };
        let other = if drawn[2].is_multiple_of(2) { Other::Drains } else { Other::Gone };
        let program = Program::new(count, serves, other).expect("it fits");
        let instructions = program.instructions();
        let cid = if drawn[3].is_multiple_of(3) { foreign(drawn[4]) } else { own(drawn[4]) };
        let whole = match drawn[5] % 4 {
            0 => short(&cid),
            1 => long(&cid),
            2 => long(&draw()[..usize::from(drawn[6] % 21)]),
            _ => draw().to_vec(),
        };
        let datagram = &whole[..whole.len().min(usize::from(drawn[7]))];
        assert_eq!(program.place(datagram), run(&instructions, datagram), "{program:?}: {datagram:?}");
        assert!(program.place(datagram) < 2 * count, "there is a socket");
    }
}

#[test]
fn a_generation_has_at_least_one_socket_and_at_most_64() {
    for (count, is_one) in [(0, false), (1, true), (64, true), (65, false)] {
        assert_eq!(Program::new(count, Generation::Odd, Other::Drains).is_some(), is_one, "{count}");
    }
}
