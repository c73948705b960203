//! What server and client share: the connection's state, the peer's unidirectional streams, sending and receiving one
//! message. It moves bytes between quinn and [`crate::core`] and decides nothing about the protocol itself.

pub(crate) mod recv;
pub(crate) mod room;
pub(crate) mod schedule;
pub(crate) mod send;
pub(crate) mod shared;
pub(crate) mod streams;

use quinn::VarInt;

use crate::core::code::Code;

/// A code as quinn takes it. All codes sent here are far below the largest integer.
pub(crate) fn varint(code: Code) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
