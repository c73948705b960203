//! Reading a field section (RFC 9204, section 4.5) with the static table alone: the dynamic table has capacity 0, so
//! every reference to it is refused.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::code::{Code, Failure};
use super::huffman::{self, Broken};
use super::{integer, table};

/// What RFC 9114, section 4.2.2 adds to the length of name and value for each field.
pub const FIELD_OVERHEAD_BYTES: usize = 32;

/// A field section: all strings in one buffer, and where in it each field lies.
#[derive(Clone, Debug, Default)]
pub struct Section {
    bytes: Bytes,
    fields: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Text,
    value: Text,
    sensitive: bool,
}

#[derive(Clone, Debug)]
enum Text {
    /// In the buffer.
    Buffer(Range<usize>),
    /// Of the static table.
    Table(&'static str),
}

/// One field of a section.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name, as it came.
    pub name: Str,
    /// Its value, as it came.
    pub value: Str,
    /// Whether it must never be indexed (RFC 9204, section 7.1.3): whoever sends it on says so too.
    pub sensitive: bool,
}

/// A string of a section.
#[derive(Clone, Debug)]
pub enum Str {
    /// A slice of the section's buffer.
    Shared(Bytes),
    /// Of the static table.
    Static(&'static str),
}

impl Str {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Static(text) => text.as_bytes(),
        }
    }
}

/// Why a section was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be decoded: a connection error.
    Broken(Failure),
    /// Decoded, it is larger than allowed.
    TooLarge,
}

const fn broken(reason: &'static str) -> Refused {
    Refused::Broken(Failure::connection(Code::QPACK_DECOMPRESSION_FAILED, reason))
}

impl Section {
    /// Decodes `payload`. Decoded, it may have `bytes_max` bytes by the count of RFC 9114, section 4.2.2.
    pub fn decode(payload: &[u8], bytes_max: usize) -> Result<Self, Refused> {
        let mut decoder = Decoder {
            input: payload,
            out: BytesMut::with_capacity((payload.len() * 3 / 2).min(bytes_max)),
            fields: Vec::with_capacity((payload.len() / 4).min(16)),
            room: bytes_max,
        };
        decoder.prefix()?;
        while let Some((first, rest)) = decoder.input.split_first() {
            decoder.input = rest;
            decoder.line(*first)?;
        }
        Ok(Self { bytes: decoder.out.freeze(), fields: decoder.fields })
    }

    /// The fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let text = |text: &Text| match text {
            Text::Buffer(range) => Str::Shared(self.bytes.slice(range.clone())),
            Text::Table(text) => Str::Static(text),
        };
        self.fields.iter().map(move |entry| Field {
            name: text(&entry.name),
            value: text(&entry.value),
            sensitive: entry.sensitive,
        })
    }

    /// How many fields it has.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

struct Decoder<'a> {
    input: &'a [u8],
    out: BytesMut,
    fields: Vec<Entry>,
    /// How many bytes may still come out.
    room: usize,
}

impl Decoder<'_> {
    /// The encoded field section prefix (RFC 9204, section 4.5.1).
    fn prefix(&mut self) -> Result<(), Refused> {
        let first = self.byte()?;
        if self.integer(first, 8)? != 0 {
            return Err(broken("a section refers to the dynamic table, whose capacity is 0"));
        }
        let second = self.byte()?;
        self.integer(second, 7)?;
        // RFC 9204, section 4.5.1.2: a negative base is invalid.
        if second & 0x80 != 0 { Err(broken("the base of a section is negative")) } else { Ok(()) }
    }

    /// One field line (RFC 9204, section 4.5.2 to 4.5.6).
    fn line(&mut self, first: u8) -> Result<(), Refused> {
        let (name, value, sensitive) = if first & 0x80 != 0 {
            let (name, value) = self.entry(first, 0x40, 6)?;
            (Text::Table(name), Text::Table(value), false)
        } else if first & 0x40 != 0 {
            let (name, _) = self.entry(first, 0x10, 4)?;
            (Text::Table(name), Text::Buffer(self.value()?), first & 0x20 != 0)
        } else if first & 0x20 != 0 {
            let name = self.string(first, 3)?;
            (Text::Buffer(name), Text::Buffer(self.value()?), first & 0x10 != 0)
        } else {
            return Err(broken("a field line refers past the base of the dynamic table, whose capacity is 0"));
        };
        self.spend(FIELD_OVERHEAD_BYTES)?;
        for text in [&name, &value] {
            if let Text::Table(text) = text {
                self.spend(text.len())?;
            }
        }
        self.fields.push(Entry { name, value, sensitive });
        Ok(())
    }

    /// The table entry that a line refers to; `table` is the bit that says the static one.
    fn entry(&mut self, first: u8, table: u8, bits: u32) -> Result<(&'static str, &'static str), Refused> {
        let index = self.integer(first, bits)?;
        if first & table == 0 {
            return Err(broken("a field line refers to the dynamic table, whose capacity is 0"));
        }
        table::entry(index).ok_or(broken("a field line refers past the end of the static table"))
    }

    fn value(&mut self) -> Result<Range<usize>, Refused> {
        let first = self.byte()?;
        self.string(first, 7)
    }

    /// A string whose length has a prefix of `bits` bits, after the bit that says Huffman.
    fn string(&mut self, first: u8, bits: u32) -> Result<Range<usize>, Refused> {
        let length = self.integer(first, bits)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (text, rest) = self.input.split_at_checked(length).ok_or(broken("a string is cut short"))?;
        self.input = rest;
        let start = self.out.len();
        if first & 1 << bits == 0 {
            self.spend(text.len())?;
            self.out.extend_from_slice(text);
        } else {
            huffman::decode(text, self.room, &mut self.out).map_err(|why| match why {
                Broken::Malformed => broken("a Huffman code is malformed"),
                Broken::TooLarge => Refused::TooLarge,
            })?;
            self.spend(self.out.len() - start)?;
        }
        Ok(start..self.out.len())
    }

    fn integer(&mut self, first: u8, bits: u32) -> Result<u64, Refused> {
        integer::read(first, bits, &mut self.input).ok_or(broken("an integer is cut short or too large"))
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        let (first, rest) = self.input.split_first().ok_or(broken("a section is cut short"))?;
        self.input = rest;
        Ok(*first)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Refused> {
        self.room = self.room.checked_sub(bytes).ok_or(Refused::TooLarge)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::type_complexity, reason = "the rows of tables")]

    use super::*;

    fn read(payload: &[u8]) -> Result<Vec<(String, String)>, Refused> {
        let text = |it: &Str| String::from_utf8(it.bytes().to_vec()).unwrap();
        Section::decode(payload, 1000)
            .map(|section| section.fields().map(|field| (text(&field.name), text(&field.value))).collect())
    }

    #[test]
    fn sections_with_static_and_literal_fields_are_read() {
        let table: [(&[u8], &[(&str, &str)]); 5] = [
            // RFC 9204, appendix B.1.
            (b"\x00\x00\x51\x0b/index.html", &[(":path", "/index.html")]),
            (b"\x00\x00", &[]),
            (b"\x00\x00\xd1\xd7\xc1", &[(":method", "GET"), (":scheme", "https"), (":path", "/")]),
            (b"\x00\x00\x23abc\x01d", &[("abc", "d")]),
            (
                b"\x00\x00\x2f\x01\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
                &[("custom-key", "custom-value")],
            ),
        ];
        for (payload, expect) in table {
            let expect: Vec<_> = expect.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(read(payload), Ok(expect), "{payload:x?}");
        }
    }

    #[test]
    fn what_is_broken_or_refers_to_the_dynamic_table_is_refused() {
        let table: [(&str, &[u8]); 13] = [
            ("nothing", b""),
            ("half a prefix", b"\x00"),
            ("a required insert count, RFC 9204 B.2", b"\x03\x81\x10\x11"),
            ("a negative base", b"\x00\x80"),
            ("an indexed dynamic entry", b"\x00\x00\x80"),
            ("a dynamic name", b"\x00\x00\x40\x01a"),
            ("an indexed entry past the base", b"\x00\x00\x10"),
            ("a name past the base", b"\x00\x00\x00\x01a"),
            ("a static entry that is not there", b"\x00\x00\xff\x24"),
            ("a huge index", b"\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            ("a cut string", b"\x00\x00\x51\x0b/index.htm"),
            ("a string of 2^60 bytes", b"\x00\x00\x51\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x10"),
            ("a broken Huffman code", b"\x00\x00\x51\x81\xff"),
        ];
        for (what, payload) in table {
            let Err(Refused::Broken(failure)) = read(payload) else { panic!("{what}") };
            assert_eq!(failure.code, Code::QPACK_DECOMPRESSION_FAILED, "{what}");
        }
    }

    #[test]
    fn a_section_is_counted_as_the_standard_says() {
        let payload = b"\x00\x00\x51\x0b/index.html\xc1";
        let size = 5 + 11 + 32 + 5 + 1 + 32;
        assert!(Section::decode(payload, size).is_ok());
        assert!(matches!(Section::decode(payload, size - 1), Err(Refused::TooLarge)));
        let bomb = [&b"\x00\x00"[..], &[0xfa; 10_000]].concat();
        assert!(matches!(Section::decode(&bomb, 64 << 10), Err(Refused::TooLarge)));
    }

    #[test]
    fn a_field_that_must_not_be_indexed_is_marked() {
        for (payload, expect) in
            [(&b"\x00\x00\x7f\x45\x01a"[..], true), (b"\x00\x00\x31a\x01b", true), (b"\x00\x00\x21a\x01b", false)]
        {
            let section = Section::decode(payload, 1000).unwrap();
            assert_eq!(section.fields().next().unwrap().sensitive, expect, "{payload:x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(payload: Vec<u8>, bytes_max in 0_usize..300) {
            if let Ok(section) = Section::decode(&payload, bytes_max) {
                let bytes: usize = section.fields().map(|it| it.name.bytes().len() + it.value.bytes().len() + 32).sum();
                assert!(bytes <= bytes_max);
            }
        }

        #[test]
        fn any_lines_after_a_good_prefix_are_read_or_refused(lines: Vec<u8>) {
            let _ = Section::decode(&[&[0, 0], &lines[..]].concat(), 1000);
        }
    }
}
