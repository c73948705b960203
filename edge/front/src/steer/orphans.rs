//! Connections that nobody has: those of a process that has ended. Whose IDs are ours but of another slot is told so by a
//! stateless reset (RFC 9000, section 10.3), which the processes of one line make with the same key, as soon as there is
//! nobody who could know them.

use core::time::Duration;
use std::sync::Arc;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

use super::cid::{Slotted, slot_of};
use crate::turn::Turn;

/// Makes the IDs of one slot, and takes those of others while this process is alone.
pub(crate) struct Orphans {
    pub(crate) own: Slotted,
    pub(crate) turn: Arc<Turn>,
}

impl ConnectionIdGenerator for Orphans {
    fn generate_cid(&mut self) -> ConnectionId {
        self.own.generate_cid()
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        match slot_of(cid) {
            Some(_) if self.turn.is_alone() => Ok(()),
            _ => self.own.validate(cid),
        }
    }

    fn cid_len(&self) -> usize {
        self.own.cid_len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        self.own.cid_lifetime()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_another_slot_is_nobodys_only_for_who_is_alone() {
        let turn = Turn::new(false);
        let mut own = Orphans { own: Slotted(3), turn: Arc::clone(&turn) };
        let (ours, other) = (own.generate_cid(), Slotted(4).generate_cid());
        let foreign = ConnectionId::new(&other[..8]);
        assert!(own.validate(&ours).is_ok() && own.validate(&other).is_ok() && own.validate(&foreign).is_err());
        turn.pass();
        assert!(own.validate(&ours).is_ok() && own.validate(&other).is_err());
        turn.alone();
        assert!(own.validate(&other).is_ok());
    }
}
