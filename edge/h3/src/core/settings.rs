//! The SETTINGS frame (RFC 9114, section 7.2.4), read a byte at a time.

use super::code::{Code, Failure};
use super::varint;

/// SETTINGS_QPACK_MAX_TABLE_CAPACITY.
pub const QPACK_MAX_TABLE_CAPACITY: u64 = 0x1;
/// SETTINGS_MAX_FIELD_SECTION_SIZE.
pub const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// SETTINGS_QPACK_BLOCKED_STREAMS.
pub const QPACK_BLOCKED_STREAMS: u64 = 0x7;
/// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 9220).
pub const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// SETTINGS_H3_DATAGRAM (RFC 9297).
pub const H3_DATAGRAM: u64 = 0x33;

/// The most settings read in one frame; more is excessive load.
pub const COUNT_MAX: usize = 64;

/// What the peer's settings mean here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest field section that the peer wants, by the count of RFC 9114, section 4.2.2.
    pub header_bytes_max: u64,
    /// Whether the peer takes extended CONNECT.
    pub connect_protocol: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { header_bytes_max: varint::MAX, connect_protocol: false }
    }
}

/// A reader of one SETTINGS payload. It keeps at most [`COUNT_MAX`] identifiers.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    integer: varint::Reader,
    id: Option<u64>,
    seen: Vec<u64>,
    settings: Settings,
}

impl Reader {
    /// Takes one byte of the payload.
    pub fn push(&mut self, byte: u8) -> Result<(), Failure> {
        let Some(value) = self.integer.push(byte) else { return Ok(()) };
        match self.id.take() {
            None => {
                self.id = Some(value);
                Ok(())
            }
            Some(id) => self.set(id, value),
        }
    }

    fn set(&mut self, id: u64, value: u64) -> Result<(), Failure> {
        if self.seen.contains(&id) {
            return Err(Failure::connection(Code::SETTINGS_ERROR, "a setting occurs twice"));
        }
        if self.seen.len() == COUNT_MAX {
            return Err(Failure::connection(Code::EXCESSIVE_LOAD, "too many settings"));
        }
        self.seen.push(id);
        match id {
            // RFC 9114, section 7.2.4.1 and 11.2.2: those of HTTP/2.
            0x0 | 0x2..=0x5 => return Err(Failure::connection(Code::SETTINGS_ERROR, "a setting of HTTP/2")),
            MAX_FIELD_SECTION_SIZE => self.settings.header_bytes_max = value,
            // RFC 8441, section 3 and RFC 9297, section 2.1.1: 0 or 1.
            ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if value > 1 => {
                return Err(Failure::connection(Code::SETTINGS_ERROR, "a setting that is neither 0 nor 1"));
            }
            ENABLE_CONNECT_PROTOCOL => self.settings.connect_protocol = value == 1,
            _ => {}
        }
        Ok(())
    }

    /// The payload is complete.
    pub fn finish(&self) -> Result<Settings, Failure> {
        if self.integer.is_partial() || self.id.is_some() {
            return Err(Failure::connection(Code::FRAME_ERROR, "a SETTINGS frame ends within a setting"));
        }
        Ok(self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> Result<Settings, Code> {
        let mut reader = Reader::default();
        payload.iter().try_for_each(|byte| reader.push(*byte)).and_then(|()| reader.finish()).map_err(|it| it.code)
    }

    #[test]
    fn settings_are_read_and_breaches_have_their_codes() {
        let standing = Settings::default();
        let table: [(&str, &[u8], Result<Settings, Code>); 11] = [
            ("none", &[], Ok(standing)),
            ("a size", &[0x6, 0x50, 0], Ok(Settings { header_bytes_max: 4096, ..standing })),
            ("one unknown", &[0x40, 0x21, 9], Ok(standing)),
            ("the extended CONNECT", &[8, 1], Ok(Settings { connect_protocol: true, ..standing })),
            ("datagrams of 2", &[0x33, 2], Err(Code::SETTINGS_ERROR)),
            ("one twice", &[1, 0, 1, 0], Err(Code::SETTINGS_ERROR)),
            ("one unknown twice", &[0x21, 0, 0x21, 1], Err(Code::SETTINGS_ERROR)),
            ("HTTP/2's", &[4, 1], Err(Code::SETTINGS_ERROR)),
            ("HTTP/2's reserved one", &[0, 1], Err(Code::SETTINGS_ERROR)),
            ("an identifier alone", &[1], Err(Code::FRAME_ERROR)),
            ("a cut value", &[1, 0x40], Err(Code::FRAME_ERROR)),
        ];
        for (what, payload, expect) in table {
            assert_eq!(read(payload), expect, "{what}");
        }
    }

    #[test]
    fn the_number_of_settings_is_bounded() {
        let payload: Vec<u8> = (100..164).flat_map(|id| [0x40, id, 0]).collect();
        assert!(read(&payload).is_ok());
        assert_eq!(read(&[&payload[..], &[0x40, 200, 0]].concat()), Err(Code::EXCESSIVE_LOAD));
    }
}
