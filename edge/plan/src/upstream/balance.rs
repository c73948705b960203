//! Which of several servers is asked. It chooses among candidates; who may be one is decided elsewhere.

/// A server that may be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place among all servers.
    pub(super) server: usize,
    /// What it takes beside the others: its weight in thousandths, less while it starts slowly.
    pub(super) weight: u64,
    /// Requests under way at it.
    pub(super) under_way: u32,
    /// When it was chosen last, counted in choices.
    pub(super) chosen_at: u64,
    /// What stands for it in hashes.
    pub(super) seed: u64,
}

/// Of two drawn by lot, the one with less to do for its weight; then the one that was not chosen for longer. Two are
/// nearly as good as a look at all, and no crowd runs to the one that was emptiest a moment ago.
pub(super) fn least_requests(candidates: &[Candidate], random: u64) -> Option<usize> {
    let count = u64::try_from(candidates.len()).ok().filter(|count| *count > 0)?;
    let at = |place: u64| candidates[usize::try_from(place).unwrap_or(0)];
    let (first, second) = (random >> 32, random & 0xffff_ffff);
    let first = first % count;
    if count == 1 {
        return Some(at(first).server);
    }
    let second = (first + 1 + second % (count - 1)) % count;
    let (one, other) = (at(first), at(second));
    // (under way + 1) / weight, compared without a division.
    let load = |of: Candidate, against: Candidate| u128::from(of.under_way + 1) * u128::from(against.weight);
    let rank = |of: Candidate, against: Candidate| (load(of, against), of.chosen_at, of.server);
    Some(if rank(one, other) <= rank(other, one) { one.server } else { other.server })
}

/// By turns, each as often as its weight says and spread evenly: all gain their weight, the richest is chosen and pays
/// for all. `turns` has a purse for each server.
pub(super) fn weighted(candidates: &[Candidate], turns: &mut [i64]) -> Option<usize> {
    let weight = |candidate: &Candidate| i64::try_from(candidate.weight).unwrap_or(i64::MAX / 128);
    let total: i64 = candidates.iter().map(weight).sum();
    for candidate in candidates {
        if let Some(turn) = turns.get_mut(candidate.server) {
            *turn = turn.saturating_add(weight(candidate));
        }
    }
    let turn = |server: usize| turns.get(server).copied().unwrap_or_default();
    let richest = candidates.iter().max_by_key(|it| (turn(it.server), std::cmp::Reverse(it.server)))?.server;
    if let Some(turn) = turns.get_mut(richest) {
        *turn = turn.saturating_sub(total);
    }
    Some(richest)
}

/// Requests under way at one server from which on it may be too many.
const BOUND_LEAST: u64 = 16;

/// By a hash: each key has an order of its own over all servers (rendezvous hashing), so a server that goes takes only
/// its own keys along. One that has a quarter more under way than its part passes keys on to the next (bounded loads).
pub(super) fn hashed(candidates: &[Candidate], key: u64) -> Option<usize> {
    let under_way: u64 = candidates.iter().map(|it| u64::from(it.under_way)).sum();
    let weights: u64 = candidates.iter().map(|it| it.weight).sum();
    let has_room = |it: &&Candidate| {
        // Its part of all, and a quarter more.
        let bound = u128::from(under_way + 1) * u128::from(it.weight) * 5 / (4 * u128::from(weights.max(1)));
        u128::from(it.under_way) < bound.max(BOUND_LEAST.into())
    };
    let nearest = |of: &mut dyn Iterator<Item = &Candidate>| {
        of.min_by(|one, other| distance(one, key).total_cmp(&distance(other, key))).map(|it| it.server)
    };
    nearest(&mut candidates.iter().filter(has_room)).or_else(|| nearest(&mut candidates.iter()))
}

/// How far a key is from a server: exponential with the weight as its rate, so that the nearest is chosen as often as its
/// weight says.
#[expect(clippy::cast_precision_loss, reason = "a place between 0 and 1 and a small weight may round")]
fn distance(candidate: &Candidate, key: u64) -> f64 {
    let unit = ((mix(key ^ candidate.seed) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -unit.ln() / candidate.weight.max(1) as f64
}

/// Where `name` stands in the order of all for `key`: the same everywhere, and even over all keys (rendezvous hashing).
pub fn draw(name: &str, key: u64) -> u64 {
    mix(key ^ self::key(name.as_bytes()))
}

/// What stands for a text in hashes: the same on every node and in every release (FNV-1a, then mixed).
pub(super) fn key(text: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(text.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finaliser of SplitMix64: each bit of what goes in changes half of what comes out.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[u64]) -> Vec<Candidate> {
        let one = |(server, weight): (usize, &u64)| Candidate {
            server,
            weight: weight * 1_000,
            under_way: 0,
            chosen_at: 0,
            seed: key(format!("https://api-{server}.internal:443").as_bytes()),
        };
        weights.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_server_with_less_to_do_for_its_weight_is_chosen_and_equals_take_turns() {
        let mut two = candidates(&[1, 1]);
        for random in [0, u64::MAX, 1 << 32, 12_345_678_901] {
            (two[0].under_way, two[1].under_way) = (3, 2);
            assert_eq!(least_requests(&two, random), Some(1));
            (two[0].under_way, two[0].chosen_at, two[1].chosen_at) = (2, 4, 5);
            assert_eq!(least_requests(&two, random), Some(0), "it was not chosen for longer");
        }
        let mut weighed = candidates(&[4, 1]);
        (weighed[0].under_way, weighed[1].under_way) = (6, 1);
        assert_eq!(least_requests(&weighed, 0), Some(0), "7/4 is less than 2/1");
        weighed[0].under_way = 7;
        weighed[1].chosen_at = 1;
        assert_eq!(least_requests(&weighed, 0), Some(0), "8/4 is 2/1");
        weighed[0].under_way = 8;
        assert_eq!(least_requests(&weighed, 0), Some(1));
        assert_eq!((least_requests(&[], 7), least_requests(&candidates(&[1]), 7)), (None, Some(0)));
    }

    #[test]
    fn each_pair_is_drawn_so_that_the_busiest_of_many_is_never_chosen() {
        let mut all = candidates(&[1, 1, 1, 1, 1]);
        all[3].under_way = 9;
        let mut chosen = Vec::new();
        for at in 1..=10_000 {
            let server = least_requests(&all, mix(at)).expect("five are there");
            all[server].chosen_at = at;
            chosen.push(server);
        }
        for server in [0, 1, 2, 4] {
            assert!(chosen.iter().filter(|it| **it == server).count() > 2_000, "{server}");
        }
        assert!(!chosen.contains(&3));
    }

    #[test]
    fn turns_are_as_many_as_the_weights_and_spread_evenly() {
        let (all, mut turns) = (candidates(&[5, 1, 1]), [0; 3]);
        let order: Vec<_> = (0..14).filter_map(|_| weighted(&all, &mut turns)).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        // One that is away for a while neither saves nor owes its turns.
        let without: Vec<_> = (0..700).filter_map(|_| weighted(&all[..2], &mut turns)).collect();
        assert!(without.iter().filter(|it| **it == 1).count().abs_diff(700 / 6) <= 1);
        let again: Vec<_> = (0..7).filter_map(|_| weighted(&all, &mut turns)).collect();
        assert_eq!(again.iter().filter(|it| **it == 2).count(), 1);
    }

    #[test]
    fn a_key_stays_with_its_server_and_a_server_that_goes_takes_only_its_own_along() {
        let all = candidates(&[1, 1, 2, 1]);
        let keys: Vec<_> = (0..10_000_u32).map(|it| key(&it.to_be_bytes())).collect();
        let chosen: Vec<_> = keys.iter().filter_map(|key| hashed(&all, *key)).collect();
        for (server, part) in [(0, 2_000), (1, 2_000), (2, 4_000), (3, 2_000)] {
            let count = chosen.iter().filter(|it| **it == server).count();
            assert!(count.abs_diff(part) < 250, "{server} has {count}");
        }
        let left: Vec<_> = all.iter().copied().filter(|it| it.server != 1).collect();
        for (key, before) in keys.iter().zip(&chosen) {
            let after = hashed(&left, *key).expect("three are left");
            assert!(after == *before || *before == 1, "a key moved from {before} to {after}");
        }
    }

    #[test]
    fn one_key_that_everybody_wants_does_not_drown_its_server() {
        let mut all = candidates(&[1, 1, 1, 1]);
        let hot = key(b"/hot");
        for _ in 0..1_000 {
            let server = hashed(&all, hot).expect("four are there");
            all[server].under_way += 1;
        }
        let most = all.iter().map(|it| it.under_way).max();
        assert!(most.is_some_and(|most| (250..=313).contains(&most)), "{most:?}");
        let mut few = candidates(&[1, 1]);
        let first = hashed(&few, hot).expect("two are there");
        few[first].under_way = 15;
        assert_eq!(hashed(&few, hot), Some(first), "a few are not too many");
    }
}
