//! The prefixed integers of QPACK (RFC 7541, section 5.1, as RFC 9204, section 4.1.1 uses it).

use bytes::BufMut;

/// The largest value read: RFC 9204 asks for 62 bits at least; nothing here needs more.
const MAX: u64 = (1 << 62) - 1;

/// Reads the rest of an integer whose first byte is `first`, with a prefix of `bits` bits. None: cut short or too large.
pub fn read(first: u8, bits: u32, bytes: &mut &[u8]) -> Option<u64> {
    let mut reader = Reader::default();
    let mut next = reader.begin(first, bits);
    while next.is_none() {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        next = reader.push(*byte).ok()?;
    }
    next
}

/// The value does not fit in 62 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// A reader that takes a byte at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    value: u64,
    shift: u32,
}

impl Reader {
    /// Takes the byte with the prefix of `bits` bits (1 to 8).
    pub fn begin(&mut self, first: u8, bits: u32) -> Option<u64> {
        let mask = u8::MAX >> (8 - bits.clamp(1, 8));
        *self = Self { value: u64::from(first & mask), shift: 0 };
        (first & mask < mask).then_some(self.value)
    }

    /// Takes a byte that follows.
    pub fn push(&mut self, byte: u8) -> Result<Option<u64>, TooLarge> {
        let part = u64::from(byte & 0x7f);
        if self.shift > 62 || part > MAX >> self.shift {
            return Err(TooLarge);
        }
        self.value += part << self.shift;
        self.shift += 7;
        if self.value > MAX {
            return Err(TooLarge);
        }
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

/// Writes `value` with a prefix of `bits` bits; `flags` are the bits above the prefix.
pub fn write(value: usize, bits: u32, flags: u8, out: &mut impl BufMut) {
    let mask = u8::MAX >> (8 - bits.clamp(1, 8));
    match u8::try_from(value) {
        Ok(small) if small < mask => out.put_u8(flags | small),
        _ => {
            out.put_u8(flags | mask);
            let mut rest = value - usize::from(mask);
            while rest >= 0x80 {
                out.put_u8(0x80 | (rest & 0x7f).to_le_bytes()[0]);
                rest >>= 7;
            }
            out.put_u8(rest.to_le_bytes()[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_read_and_written() {
        // RFC 7541, appendix C.1.
        let table: [(usize, u32, &[u8]); 3] = [(10, 5, &[0b01010]), (1337, 5, &[0b11111, 154, 10]), (42, 8, &[42])];
        for (value, bits, bytes) in table {
            let mut out = Vec::new();
            write(value, bits, 0, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes[0], bits, &mut &bytes[1..]), Some(value as u64));
        }
    }

    #[test]
    fn an_integer_that_is_cut_or_too_large_is_no_value() {
        assert_eq!(read(0xff, 8, &mut &[][..]), None);
        assert_eq!(read(0xff, 8, &mut &[0x80, 0x80][..]), None);
        assert_eq!(read(0xff, 8, &mut &[0xff; 20][..]), None);
        assert_eq!(read(0xff, 8, &mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(value in 0_usize..1 << 61, bits in 3_u32..=8) {
            let mut out = Vec::new();
            write(value, bits, 0, &mut out);
            assert_eq!(read(out[0], bits, &mut &out[1..]), Some(value as u64));
        }
    }
}
