//! Tokens by which a client that was here proves its address at once (RFC 9000, section 8.1.3), each of use once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinn::{TokenLog, TokenReuseError, ValidationTokenConfig};

use crate::driver::shared::lock;

/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are given to a client.
const SENT: u32 = 2;
/// How many used ones are remembered of each of the two lifetimes in which a token can end. Beyond that none is taken:
/// the client proves its address as one that was never here.
const USED_MAX: usize = 1 << 16;

/// What a server's configuration needs to give tokens (quinn's own default gives none here). Clones of the
/// configuration know together which tokens were used.
pub fn tokens() -> ValidationTokenConfig {
    let mut config = ValidationTokenConfig::default();
    config.lifetime(LIFETIME).sent(SENT).log(Arc::new(Used::new(USED_MAX)));
    config
}

/// The tokens that were used, until they are too old to be used again.
struct Used {
    /// By the lifetime, counted from the epoch, in which they end.
    periods: Mutex<[(u64, HashSet<u128>); 2]>,
    max: usize,
}

impl Used {
    fn new(max: usize) -> Self {
        Self { periods: Mutex::default(), max }
    }
}

impl TokenLog for Used {
    fn check_and_insert(&self, nonce: u128, issued: SystemTime, lifetime: Duration) -> Result<(), TokenReuseError> {
        let since = issued.duration_since(UNIX_EPOCH).map_err(|_| TokenReuseError)?;
        let period = (since.as_secs() / lifetime.as_secs().max(1)).saturating_add(1);
        let mut periods = lock(&self.periods);
        // Tokens of now end in two periods at most: what is in the place of a later one is over.
        let (held, used) = &mut periods[usize::from(!period.is_multiple_of(2))];
        if *held < period {
            (*held, *used) = (period, HashSet::new());
        }
        if *held > period || used.len() >= self.max || !used.insert(nonce) { Err(TokenReuseError) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_only_so_many_are_remembered() {
        let used = Used::new(3);
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let lifetime = Duration::from_secs(100);
        let table: [(&str, u128, u64, bool); 10] = [
            ("the first", 1, 1000, true),
            ("again", 1, 1000, false),
            ("another", 2, 1099, true),
            ("of the next lifetime", 3, 1100, true),
            ("again, of the first", 2, 1099, false),
            ("a third of the first", 4, 1050, true),
            ("a fourth: no room", 5, 1050, false),
            ("of the one after the next: the first is forgotten", 5, 1200, true),
            ("of the first, which is over", 6, 1099, false),
            ("again, of the next", 3, 1100, false),
        ];
        for (what, nonce, issued, good) in table {
            assert_eq!(used.check_and_insert(nonce, at(issued), lifetime).is_ok(), good, "{what}");
        }
    }
}
