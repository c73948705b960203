//! How the memory of a node's cache is divided among its rooms. Pure.

/// What a room has for sure, as long as all rooms together have half of the memory so at most.
pub const FLOOR_BYTES: u64 = 1 << 20;
/// Bytes are given in these units.
pub const UNIT_BYTES: u64 = 4096;

/// What a room could do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its share of the memory, which it never has more than.
    pub share_bytes: u64,
    /// What it holds.
    pub held_bytes: u64,
    /// Whether it was asked for anything lately.
    pub is_active: bool,
}

/// What each room has from now on: together never more than `memory_bytes`, and none more than its share. A room that is
/// asked could do with all of its share, one that is not with what it holds; where that is too much, those who could do with
/// most have the same. What is left then is for those who are not asked.
pub fn divide(memory_bytes: u64, claims: &[Claim]) -> Vec<u64> {
    let rooms = u64::try_from(claims.len()).unwrap_or(u64::MAX).max(1);
    let floor = FLOOR_BYTES.min(memory_bytes / 2 / rooms);
    let floors: Vec<u64> = claims.iter().map(|claim| units(floor.min(claim.share_bytes))).collect();
    let needs = claims.iter().zip(&floors).map(|(claim, floor)| {
        let held = claim.held_bytes.min(claim.share_bytes);
        units(if claim.is_active { claim.share_bytes } else { held }).max(*floor)
    });
    let mut given = floors.clone();
    fill(memory_bytes, &mut given, &needs.collect::<Vec<_>>());
    fill(memory_bytes, &mut given, &claims.iter().map(|claim| units(claim.share_bytes)).collect::<Vec<_>>());
    given
}

/// In whole units.
pub fn units(bytes: u64) -> u64 {
    bytes - bytes % UNIT_BYTES
}

/// Gives what is left of `memory_bytes` to those who have less than they could do with, evenly.
fn fill(memory_bytes: u64, given: &mut [u64], most: &[u64]) {
    let wants = |index: usize, given: &[u64]| most[index].saturating_sub(given[index]);
    let mut left = memory_bytes.saturating_sub(given.iter().sum());
    let mut order: Vec<usize> = (0..given.len()).filter(|index| wants(*index, given) > 0).collect();
    order.sort_unstable_by_key(|index| wants(*index, given));
    let mut rooms = order.len() as u64;
    for index in order {
        let more = wants(index, given).min(units(left / rooms));
        given[index] += more;
        left -= more;
        rooms -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn claim(share: u64, held: u64, is_active: bool) -> Claim {
        Claim { share_bytes: share * MIB, held_bytes: held * MIB, is_active }
    }

    #[test]
    fn an_active_room_has_what_idle_ones_do_not_use_and_no_more_than_its_share() {
        let mib = |claims: &[Claim]| divide(100 * MIB, claims).iter().map(|it| it / MIB).collect::<Vec<_>>();
        assert_eq!(mib(&[claim(30, 0, true), claim(30, 0, false)]), [30, 30]);
        assert_eq!(mib(&[claim(100, 0, true), claim(100, 0, false)]), [99, 1]);
        assert_eq!(mib(&[claim(80, 0, true), claim(100, 0, false)]), [80, 20]);
        assert_eq!(mib(&[claim(100, 90, true), claim(100, 40, false)]), [60, 40]);
        assert_eq!(mib(&[claim(100, 0, true), claim(100, 100, false)]), [50, 50]);
        assert_eq!(mib(&[claim(100, 0, true), claim(100, 0, true), claim(20, 9, true)]), [40, 40, 20]);
        assert_eq!(mib(&[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn rooms_never_have_more_than_the_memory_or_their_shares_however_many_they_are(
            memory in 0..200 * MIB,
            claims in prop::collection::vec((0..300 * MIB, 0..300 * MIB, any::<bool>()), 0..400),
        ) {
            let claim = |(share_bytes, held_bytes, is_active)| Claim { share_bytes, held_bytes, is_active };
            let claims: Vec<_> = claims.into_iter().map(claim).collect();
            let given = divide(memory, &claims);
            prop_assert!(given.iter().sum::<u64>() <= memory);
            let floor = units(FLOOR_BYTES.min(memory / 2 / (claims.len() as u64).max(1)));
            for (given, claim) in given.iter().zip(&claims) {
                prop_assert!(*given <= claim.share_bytes && *given >= floor.min(units(claim.share_bytes)));
            }
            // Nothing is left lying about while somebody could have it.
            let all_have = given.iter().zip(&claims).all(|(given, claim)| *given == units(claim.share_bytes));
            let left = memory - given.iter().sum::<u64>();
            prop_assert!(all_have || left < UNIT_BYTES * (claims.len() as u64 + 1));
        }
    }
}
