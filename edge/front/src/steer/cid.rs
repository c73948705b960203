//! Connection IDs that say to which slot they belong: the first byte is the slot XOR the second, the third is a check on
//! both, the rest is random. Whoever sees one learns which of a few sockets it belongs to and nothing more.

use core::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

/// The length of our connection IDs; common clients choose other lengths for their first, random one.
pub(super) const CID_BYTES: usize = 12;
/// Added to the first byte and twice the second it gives the third, so that few random IDs look like ours.
pub(super) const CHECK: u8 = 0xa7;

/// The ID of `slot` with this randomness.
fn make(slot: u8, random: [u8; CID_BYTES]) -> [u8; CID_BYTES] {
    let mut cid = random;
    cid[0] = slot ^ cid[1];
    cid[2] = check(cid[0], cid[1]);
    cid
}

fn check(first: u8, second: u8) -> u8 {
    first.wrapping_add(second).wrapping_add(second).wrapping_add(CHECK)
}

/// The slot of an ID of ours.
pub(super) fn slot_of(cid: &[u8]) -> Option<u8> {
    match *cid {
        [first, second, third, ..] if cid.len() == CID_BYTES && third == check(first, second) => Some(first ^ second),
        _ => None,
    }
}

/// Makes the IDs of one slot, and refuses those of others: a datagram that came to the wrong socket is not answered with
/// a reset, which would end a connection that lives elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slotted(pub(crate) u8);

impl ConnectionIdGenerator for Slotted {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut random = [0; CID_BYTES];
        // The system's randomness does not fail once a process has started; IDs that repeat would be refused by QUIC.
        let _ = aws_lc_rs::rand::fill(&mut random);
        ConnectionId::new(&make(self.0, random))
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if slot_of(cid) == Some(self.0) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_id_says_its_slot_and_every_other_slot_refuses_it() {
        for slot in 0..=u8::MAX {
            let cid = Slotted(slot).generate_cid();
            assert_eq!((cid.len(), slot_of(&cid)), (CID_BYTES, Some(slot)));
            let takers: Vec<_> = (0..=u8::MAX).filter(|other| Slotted(*other).validate(&cid).is_ok()).collect();
            assert_eq!(takers, [slot]);
        }
    }

    #[test]
    fn ids_of_one_slot_share_no_byte_that_others_could_recognise() {
        let all: Vec<_> = (0..1000).map(|_| Slotted(3).generate_cid()).collect();
        for at in 0..CID_BYTES {
            let values: BTreeSet<_> = all.iter().map(|cid| cid[at]).collect();
            assert!(values.len() > 200, "byte {at} has {} values", values.len());
        }
    }

    #[test]
    fn of_other_ids_one_in_256_looks_like_ours_and_none_of_another_length() {
        let mut cid = [0; CID_BYTES];
        let ours = (0..=u8::MAX).filter(|third| {
            cid[2] = *third;
            slot_of(&cid).is_some()
        });
        assert_eq!(ours.count(), 1);
        let own = make(5, [9; CID_BYTES]);
        assert_eq!(slot_of(&own), Some(5));
        for other in [&own[..0], &own[..2], &own[..8], &[own.as_slice(), &[0]].concat()] {
            assert_eq!(slot_of(other), None);
        }
    }
}
