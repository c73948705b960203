//! The program that the kernel runs on the first datagram of each batch: the classic BPF that chooses a socket by its
//! place in the group; and the same choice for where the kernel runs none. Nothing but numbers: it reads the invariants of
//! QUIC (RFC 8999) and our connection IDs.

use super::cid::{CHECK, CID_BYTES, slot_of};
use super::{Generation, Other, UDP_SOCKETS_MAX};

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

/// The codes that the program uses (`linux/bpf_common.h`).
pub(super) mod code {
    /// A = the word, in network order, at k.
    pub(in super::super) const LOAD_WORD: u16 = 0x20;
    /// A = the byte at k.
    pub(in super::super) const LOAD_BYTE: u16 = 0x30;
    /// A = the length of the datagram.
    pub(in super::super) const LOAD_LENGTH: u16 = 0x80;
    /// A = M[k].
    pub(in super::super) const LOAD_MEMORY: u16 = 0x60;
    /// M[k] = A.
    pub(in super::super) const STORE: u16 = 0x02;
    /// X = A.
    pub(in super::super) const TO_X: u16 = 0x07;
    /// A += X.
    pub(in super::super) const ADD_X: u16 = 0x0c;
    /// A += k.
    pub(in super::super) const ADD: u16 = 0x04;
    /// A &= k.
    pub(in super::super) const AND: u16 = 0x54;
    /// A ^= X.
    pub(in super::super) const XOR_X: u16 = 0xac;
    /// A %= k.
    pub(in super::super) const MODULO: u16 = 0x94;
    /// A == k?
    pub(in super::super) const JUMP_EQUAL: u16 = 0x15;
    /// A == X?
    pub(in super::super) const JUMP_EQUAL_X: u16 = 0x1d;
    /// A >= k?
    pub(in super::super) const JUMP_AT_LEAST: u16 = 0x35;
    /// A & k?
    pub(in super::super) const JUMP_SET: u16 = 0x45;
    /// The place is A.
    pub(in super::super) const RETURN: u16 = 0x16;
    /// The place is k.
    pub(in super::super) const RETURN_CONSTANT: u16 = 0x06;
}

/// Where the connection ID begins in a short header, and in a long one, whose length of it stands before it.
const SHORT_AT: u32 = 1;
const LONG_AT: u32 = 6;
#[expect(clippy::cast_possible_truncation, reason = "12")]
const LENGTH: u32 = CID_BYTES as u32;

/// The bit of the first byte that says that a header is long.
const LONG: u8 = 0x80;

/// What the program is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Sockets of one generation, at least one.
    count: u32,
    /// The first place of the generation that takes new connections.
    base: u32,
    /// The places that are read: those in `from..to`.
    from: u32,
    to: u32,
}

impl Program {
    /// For `count` sockets a generation; none for 0, or for more than there are slots.
    pub(super) fn new(count: u32, serves: Generation, other: Other) -> Option<Self> {
        if count == 0 || count as usize > UDP_SOCKETS_MAX {
            return None;
        }
        let base = if serves == Generation::Even { 0 } else { count };
        let (from, to) = if other == Other::Drains { (0, 2 * count) } else { (base, base + count) };
        Some(Self { count, base, from, to })
    }

    /// What the instructions return for this datagram.
    pub(super) fn place(&self, datagram: &[u8]) -> u32 {
        let is_long = datagram.first().is_some_and(|first| first & LONG != 0);
        let (at, says_length) = if is_long { (LONG_AT, datagram.get(LONG_AT as usize - 1)) } else { (SHORT_AT, None) };
        let Some(cid) = datagram.get(at as usize..at as usize + CID_BYTES) else { return self.base };
        let is_of_length = says_length.is_none_or(|length| usize::from(*length) == CID_BYTES);
        let slot = slot_of(cid).map(u32::from).filter(|slot| is_of_length && (self.from..self.to).contains(slot));
        slot.unwrap_or_else(|| {
            let word = cid.first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
            word % self.count + self.base
        })
    }

    /// The instructions. A load beyond the end of a datagram would choose place 0, whoever that is, so lengths come
    /// first.
    pub(super) fn instructions(&self) -> Vec<Instruction> {
        let mut program = vec![
            op(code::LOAD_LENGTH, 0),
            jump(code::JUMP_AT_LEAST, SHORT_AT + LENGTH, 1, 0),
            op(code::RETURN_CONSTANT, self.base),
            op(code::LOAD_BYTE, 0),
        ];
        let (short, long) = (self.slot_at(SHORT_AT), self.slot_at(LONG_AT));
        let spread_short = self.spread(SHORT_AT);
        let over_short = short.len() + spread_short.len();
        program.push(jump(code::JUMP_SET, u32::from(LONG), distance(over_short), 0));
        program.extend(short);
        program.extend(spread_short);
        program.extend([
            op(code::LOAD_LENGTH, 0),
            jump(code::JUMP_AT_LEAST, LONG_AT + LENGTH, 1, 0),
            op(code::RETURN_CONSTANT, self.base),
            op(code::LOAD_BYTE, LONG_AT - 1),
            jump(code::JUMP_EQUAL, LENGTH, 0, distance(long.len())),
        ]);
        program.extend(long);
        program.extend(self.spread(LONG_AT));
        program
    }

    /// Returns the slot of the ID at `at` if it is one of ours and is read; goes on behind otherwise.
    fn slot_at(&self, at: u32) -> Vec<Instruction> {
        let mut block = vec![
            op(code::LOAD_BYTE, at),
            op(code::TO_X, 0),
            op(code::LOAD_BYTE, at + 1),
            op(code::ADD_X, 0),
            op(code::TO_X, 0),
            op(code::LOAD_BYTE, at + 1),
            op(code::ADD_X, 0),
            op(code::ADD, u32::from(CHECK)),
            op(code::AND, 0xff),
            op(code::STORE, 0),
            op(code::LOAD_BYTE, at + 2),
            op(code::TO_X, 0),
            op(code::LOAD_MEMORY, 0),
            jump(code::JUMP_EQUAL_X, 0, 0, 7),
            op(code::LOAD_BYTE, at),
            op(code::TO_X, 0),
            op(code::LOAD_BYTE, at + 1),
            op(code::XOR_X, 0),
            jump(code::JUMP_AT_LEAST, self.from, 0, 2),
            jump(code::JUMP_AT_LEAST, self.to, 1, 0),
        ];
        block.push(op(code::RETURN, 0));
        block
    }

    /// A new connection, or one that nobody has: by the first word of its ID.
    fn spread(&self, at: u32) -> [Instruction; 4] {
        [op(code::LOAD_WORD, at), op(code::MODULO, self.count), op(code::ADD, self.base), op(code::RETURN, 0)]
    }
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// A jump over a block of this program, which has a few dozen instructions.
fn distance(instructions: usize) -> u8 {
    u8::try_from(instructions).unwrap_or(u8::MAX)
}
