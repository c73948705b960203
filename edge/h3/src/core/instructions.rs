//! The peer's two QPACK streams (RFC 9204, section 4.3 and 4.4), of which a dynamic table of capacity 0 leaves little:
//! setting the capacity to 0, and cancelling streams. All else is refused at its first byte.

use super::code::{Code, Failure};
use super::integer;

const ENCODER: Failure =
    Failure::connection(Code::QPACK_ENCODER_STREAM_ERROR, "an encoder instruction beyond the capacity of 0");
const DECODER: Failure =
    Failure::connection(Code::QPACK_DECODER_STREAM_ERROR, "an acknowledgement of what was never sent");

/// A reader of the peer's encoder stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    /// An instruction that has begun.
    begun: Option<integer::Reader>,
}

impl Encoder {
    /// Takes one byte.
    pub fn push(&mut self, byte: u8) -> Result<(), Failure> {
        let capacity = match &mut self.begun {
            Some(reader) => reader.push(byte).map_err(|_| ENCODER)?,
            // Set Dynamic Table Capacity: 001xxxxx. Insertions and duplicates do not fit in a table of capacity 0.
            None if byte & 0xe0 == 0x20 => self.begun.insert(integer::Reader::default()).begin(byte, 5),
            None => return Err(ENCODER),
        };
        match capacity {
            None => Ok(()),
            Some(0) => {
                self.begun = None;
                Ok(())
            }
            Some(_) => Err(ENCODER),
        }
    }
}

/// A reader of the peer's decoder stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// An instruction that has begun.
    begun: Option<integer::Reader>,
}

impl Decoder {
    /// Takes one byte.
    pub fn push(&mut self, byte: u8) -> Result<(), Failure> {
        let stream = match &mut self.begun {
            Some(reader) => reader.push(byte).map_err(|_| DECODER)?,
            // Stream Cancellation: 01xxxxxx, legal although nothing was referred to (RFC 9204, section 2.2.2.2).
            None if byte & 0xc0 == 0x40 => self.begun.insert(integer::Reader::default()).begin(byte, 6),
            None => return Err(DECODER),
        };
        if stream.is_some() {
            self.begun = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_capacity_of_0_is_taken_on_the_encoder_stream() {
        let table: [(&str, &[u8], bool); 6] = [
            ("capacity 0, twice", &[0x20, 0x20], true),
            ("capacity 220, RFC 9204 B.2", &[0x3f, 0xbd, 0x01], false),
            ("capacity 1", &[0x21], false),
            ("an insertion with a static name", &[0xc0], false),
            ("an insertion with a literal name", &[0x4a], false),
            ("a duplicate", &[0x02], false),
        ];
        for (what, bytes, good) in table {
            let mut reader = Encoder::default();
            let result = bytes.iter().try_for_each(|byte| reader.push(*byte));
            assert_eq!(
                result.map_err(|it| it.code),
                if good { Ok(()) } else { Err(Code::QPACK_ENCODER_STREAM_ERROR) },
                "{what}"
            );
        }
    }

    #[test]
    fn only_cancellations_are_taken_on_the_decoder_stream() {
        let table: [(&str, &[u8], bool); 6] = [
            ("a cancellation", &[0x48], true),
            ("two cancellations, one of a large stream", &[0x7f, 0xff, 0x10, 0x40], true),
            ("an endless integer", &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], false),
            ("a section acknowledgement, RFC 9204 B.3", &[0x84], false),
            ("an insert count increment", &[0x01], false),
            ("an insert count increment of 0", &[0x00], false),
        ];
        for (what, bytes, good) in table {
            let mut reader = Decoder::default();
            let result = bytes.iter().try_for_each(|byte| reader.push(*byte));
            assert_eq!(
                result.map_err(|it| it.code),
                if good { Ok(()) } else { Err(Code::QPACK_DECODER_STREAM_ERROR) },
                "{what}"
            );
        }
    }
}
