//! Frame types (RFC 9114, section 7.2 and 11.2.1), and reading a frame's head a byte at a time.

use super::varint;

/// DATA.
pub const DATA: u64 = 0x0;
/// HEADERS.
pub const HEADERS: u64 = 0x1;
/// CANCEL_PUSH.
pub const CANCEL_PUSH: u64 = 0x3;
/// SETTINGS.
pub const SETTINGS: u64 = 0x4;
/// PUSH_PROMISE.
pub const PUSH_PROMISE: u64 = 0x5;
/// GOAWAY.
pub const GOAWAY: u64 = 0x7;
/// MAX_PUSH_ID.
pub const MAX_PUSH_ID: u64 = 0xd;
/// PRIORITY_UPDATE for a request (RFC 9218, section 7.2).
pub const PRIORITY_UPDATE: u64 = 0xf_0700;
/// PRIORITY_UPDATE for a push.
pub const PRIORITY_UPDATE_PUSH: u64 = 0xf_0701;

/// Whether a type belongs to HTTP/2 and must not occur (RFC 9114, section 7.2.8).
pub fn is_http2(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The type.
    pub kind: u64,
    /// The length of the payload, in bytes, as declared.
    pub length: u64,
}

/// A reader of frame heads. It keeps at most sixteen bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    integer: varint::Reader,
    kind: Option<u64>,
}

impl Reader {
    /// Takes one byte; gives the head when it was the last one, and is then ready for the next.
    pub fn push(&mut self, byte: u8) -> Option<Head> {
        let value = self.integer.push(byte)?;
        match self.kind.take() {
            None => {
                self.kind = Some(value);
                None
            }
            Some(kind) => Some(Head { kind, length: value }),
        }
    }

    /// Whether a head has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.integer.is_partial() || self.kind.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_byte_by_byte() {
        let mut reader = Reader::default();
        assert!(!reader.is_partial());
        for byte in [0x40, 0x01, 0x80, 0, 0] {
            assert_eq!(reader.push(byte), None);
            assert!(reader.is_partial());
        }
        assert_eq!(reader.push(7), Some(Head { kind: HEADERS, length: 7 }));
        assert!(!reader.is_partial());
    }
}
