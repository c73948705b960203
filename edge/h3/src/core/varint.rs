//! QUIC's variable-length integers (RFC 9000, section 16), read a byte at a time so that any chunking of the input
//! gives the same values.

use bytes::BufMut;

/// The largest value: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// A reader of one integer. It keeps at most eight bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    value: u64,
    /// Bytes still missing; meaningful once `begun`.
    missing: u8,
    begun: bool,
}

impl Reader {
    /// Takes one byte; gives the value when it was the last one, and is then ready for the next integer.
    pub fn push(&mut self, byte: u8) -> Option<u64> {
        if self.begun {
            self.value = self.value << 8 | u64::from(byte);
            self.missing -= 1;
        } else {
            *self = Self { value: u64::from(byte & 0x3f), missing: (1 << (byte >> 6)) - 1, begun: true };
        }
        if self.missing > 0 {
            return None;
        }
        self.begun = false;
        Some(self.value)
    }

    /// Whether an integer has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.begun
    }
}

/// Reads one integer from the front of `bytes`; leaves what follows.
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut reader = Reader::default();
    while let [first, rest @ ..] = *bytes {
        *bytes = rest;
        if let Some(value) = reader.push(*first) {
            return Some(value);
        }
    }
    None
}

/// How many bytes the shortest form of `value` takes: 1, 2, 4 or 8.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Writes the shortest form of `value`, which is at most [`MAX`].
pub fn write(value: u64, out: &mut impl BufMut) {
    debug_assert!(value <= MAX);
    match len(value) {
        1 => out.put_uint(value, 1),
        2 => out.put_uint(value | 0x4000, 2),
        4 => out.put_uint(value | 0x8000_0000, 4),
        _ => out.put_u64(value.min(MAX) | 0xc000_0000_0000_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_read_and_written() {
        // RFC 9000, appendix A.1.
        let table: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in table {
            let mut input = bytes;
            assert_eq!(read(&mut input), Some(value));
            assert!(input.is_empty());
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(read(&mut &[0x40, 0x25][..]), Some(37), "a longer form than needed is legal");
    }

    #[test]
    fn a_cut_integer_is_no_value() {
        for bytes in [&[][..], &[0x40], &[0x80, 0, 0], &[0xc0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(read(&mut &*bytes), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(value in 0..=MAX) {
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(out.len(), len(value));
            assert_eq!(read(&mut &out[..]), Some(value));
        }
    }
}
