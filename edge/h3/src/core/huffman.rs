//! The Huffman code of header strings (RFC 7541, section 5.2 and appendix B, as RFC 9204, section 4.1.2 uses it).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols. So the lengths are the
//! only table; everything else is computed from them when the program is compiled.

use bytes::{BufMut, BytesMut};

/// The length of each symbol's code, in bits; the last one is the end-of-string symbol.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

/// The end-of-string symbol, which must not occur.
const END: u16 = 256;
/// The shortest code, in bits.
const SHORTEST: usize = 5;
/// The longest code, in bits.
const LONGEST: usize = 30;

/// All that is derived from the lengths.
struct Tables {
    /// Each symbol's code, right-aligned.
    codes: [u32; 257],
    /// All symbols, by length of code, then by symbol.
    symbols: [u16; 257],
    /// By length: the first code that is longer, left-aligned in 32 bits (so one past the last code of this length).
    bounds: [u64; LONGEST + 1],
    /// By length: what to add to a code of this length to find its place in `symbols` (wrapping).
    offsets: [u32; LONGEST + 1],
    /// By the next eight bits: the length of a code that fits in them, and its symbol; 0 where none fits.
    short: [(u8, u8); 256],
}

static TABLES: Tables = derive();

#[allow(clippy::cast_possible_truncation, reason = "const context: symbols are at most 256 and codes at most 30 bits")]
const fn derive() -> Tables {
    let mut tables = Tables {
        codes: [0; 257],
        symbols: [0; 257],
        bounds: [0; LONGEST + 1],
        offsets: [0; LONGEST + 1],
        short: [(0, 0); 256],
    };
    let (mut code, mut place, mut length) = (0_u32, 0_usize, 1_usize);
    while length <= LONGEST {
        code <<= 1;
        tables.offsets[length] = (place as u32).wrapping_sub(code);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                tables.codes[symbol] = code;
                tables.symbols[place] = symbol as u16;
                let mut byte = 0;
                while length <= 8 && byte < 256 {
                    if byte >> (8 - length) == code as usize {
                        tables.short[byte] = (length as u8, symbol as u8);
                    }
                    byte += 1;
                }
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        tables.bounds[length] = (code as u64) << (32 - length);
        length += 1;
    }
    tables
}

/// Why a string could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The code is malformed: the end-of-string symbol, or padding that is too long or not all ones.
    Malformed,
    /// More than the bytes allowed would come out.
    TooLarge,
}

/// Decodes `input` to the end of `out`, adding at most `room` bytes.
pub fn decode(input: &[u8], room: usize, out: &mut BytesMut) -> Result<(), Broken> {
    let end = out.len().saturating_add(room);
    let (mut window, mut bits) = (0_u64, 0_usize);
    let mut input = input.iter();
    loop {
        while bits <= 56 {
            let Some(byte) = input.next() else { break };
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let Some((length, symbol)) = next(window, bits)? else {
            return padding(window, bits);
        };
        if out.len() >= end {
            return Err(Broken::TooLarge);
        }
        out.put_u8(symbol);
        window <<= length;
        bits -= length;
    }
}

/// The first code in `window`, of which the upper `bits` are there: its length and symbol.
fn next(window: u64, bits: usize) -> Result<Option<(usize, u8)>, Broken> {
    let (length, symbol) = TABLES.short[usize::from(window.to_be_bytes()[0])];
    let length = usize::from(length);
    if length > 0 {
        return Ok((length <= bits).then_some((length, symbol)));
    }
    let upper = window >> 32;
    // No code of nine bits exists, and the last bound is 2^32: a length is always found.
    let length = (10..=LONGEST).find(|length| upper < TABLES.bounds[*length]).unwrap_or(LONGEST);
    if length > bits {
        return Ok(None);
    }
    let code = u32::try_from(upper >> (32 - length)).map_err(|_| Broken::Malformed)?;
    let place = usize::try_from(code.wrapping_add(TABLES.offsets[length])).map_err(|_| Broken::Malformed)?;
    match TABLES.symbols.get(place) {
        Some(&symbol) if symbol != END => {
            u8::try_from(symbol).map(|it| Some((length, it))).map_err(|_| Broken::Malformed)
        }
        _ => Err(Broken::Malformed),
    }
}

/// Padding is shorter than a byte and all ones (RFC 7541, section 5.2).
fn padding(window: u64, bits: usize) -> Result<(), Broken> {
    if bits < 8 && (bits == 0 || window >> (64 - bits) == (1 << bits) - 1) { Ok(()) } else { Err(Broken::Malformed) }
}

/// How many bytes `input` takes when encoded.
pub fn encoded_len(input: &[u8]) -> usize {
    input.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

/// Encodes `input` to the end of `out`.
pub fn encode(input: &[u8], out: &mut BytesMut) {
    let (mut window, mut bits) = (0_u64, 0_usize);
    for byte in input {
        let symbol = usize::from(*byte);
        window = window << LENGTHS[symbol] | u64::from(TABLES.codes[symbol]);
        bits += usize::from(LENGTHS[symbol]);
        while bits >= 8 {
            bits -= 8;
            out.put_u8((window >> bits).to_be_bytes()[7]);
        }
    }
    if bits > 0 {
        out.put_u8((window << (8 - bits) | (0xff >> bits)).to_be_bytes()[7]);
    }
}

/// The shortest a decoded symbol can have been, in bits: eight bytes in give at most thirteen out.
pub const BITS_MIN: usize = SHORTEST;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_standard_are_read_and_written() {
        // RFC 7541, appendix C.4 and C.6.
        let table = [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("307", "640eff"),
            ("private", "aec3771a4b"),
            ("gzip", "9bd9ab"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            (
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ),
        ];
        for (text, code) in table {
            let mut out = BytesMut::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!(out, hex(code), "{text}");
            assert_eq!(encoded_len(text.as_bytes()), out.len());
            let mut back = BytesMut::new();
            decode(&out, 1000, &mut back).unwrap();
            assert_eq!(back, text.as_bytes());
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let table: [(&str, &[u8]); 6] = [
            ("a whole byte of padding", &[0xff]),
            ("a whole byte of padding after text", &[0x64, 0x0e, 0xff, 0xff]),
            ("padding of zeros", &[0x64, 0x0e, 0xfe]),
            ("the end-of-string symbol", &[0xff, 0xff, 0xff, 0xfc]),
            ("the end-of-string symbol, padded", &[0xff, 0xff, 0xff, 0xff]),
            ("a cut long code", &[0xff, 0xff, 0xff]),
        ];
        for (what, bytes) in table {
            assert_eq!(decode(bytes, 100, &mut BytesMut::new()), Err(Broken::Malformed), "{what}");
        }
        assert_eq!(decode(&[0x64, 0x02], 2, &mut BytesMut::new()), Err(Broken::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(input: Vec<u8>) {
            let mut out = BytesMut::new();
            encode(&input, &mut out);
            let mut back = BytesMut::new();
            assert_eq!(decode(&out, input.len(), &mut back), Ok(()));
            assert_eq!(back, input);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_and_never_more_than_allowed(input: Vec<u8>, room in 0_usize..100) {
            let mut out = BytesMut::new();
            let _ = decode(&input, room, &mut out);
            assert!(out.len() <= room);
            assert!(out.len() <= input.len() * 8 / BITS_MIN);
        }
    }
}
