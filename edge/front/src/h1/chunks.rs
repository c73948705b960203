//! The chunked coding, checked as it passes (RFC 9112, section 7.1): hyper decodes what has been seen to be sound here.

use super::fields::{Wrong, field, line};

/// A chunk's line with its extensions, in bytes. Nobody needs extensions; they are a way to send for ever.
const SIZE_LINE_BYTES_MAX: usize = 256;

/// One trailer field, in bytes.
const TRAILER_BYTES_MAX: usize = 8 << 10;

/// Where in a chunked body we are.
#[derive(Debug)]
pub(super) enum Chunks {
    /// At the line that says a chunk's size.
    Size,
    /// This many bytes of the chunk are to come.
    Data(u64),
    /// At the CRLF behind a chunk.
    DataEnd,
    /// In the trailer section; what it has measured, in bytes, and how many fields.
    Trailers(usize, usize),
    /// Behind the body.
    Done,
}

impl Chunks {
    /// How many of `bytes` are sound, and where we are behind them; 0 bytes: more must come first.
    pub(super) fn step(&mut self, bytes: &[u8], bytes_max: usize, fields_max: usize) -> Result<usize, Wrong> {
        let (next, passed) = match *self {
            Self::Size => match whole_line(bytes, SIZE_LINE_BYTES_MAX)? {
                None => return Ok(0),
                Some(line) => match size(line)? {
                    0 => (Self::Trailers(0, 0), line.len() + 2),
                    size => (Self::Data(size), line.len() + 2),
                },
            },
            Self::Data(left) => {
                let passed = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let left = left - passed as u64;
                (if left == 0 { Self::DataEnd } else { Self::Data(left) }, passed)
            }
            Self::DataEnd => match bytes {
                [b'\r', b'\n', ..] => (Self::Size, 2),
                [] | [b'\r'] => return Ok(0),
                _ => return Err("no CRLF behind a chunk"),
            },
            Self::Trailers(used, fields) => {
                match whole_line(bytes, bytes_max.saturating_sub(used).min(TRAILER_BYTES_MAX))? {
                    None => return Ok(0),
                    Some([]) => (Self::Done, 2),
                    Some(_) if fields >= fields_max => return Err("too many trailers"),
                    Some(line) => {
                        field(line)?;
                        (Self::Trailers(used + line.len() + 2, fields + 1), line.len() + 2)
                    }
                }
            }
            Self::Done => return Ok(0),
        };
        *self = next;
        Ok(passed)
    }
}

fn whole_line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Wrong> {
    let found = line(bytes, 0, 0)?;
    if found.map_or(bytes.len(), <[u8]>::len) > bytes_max {
        return Err("a line of a chunked body is too long");
    }
    Ok(found)
}

/// `1*HEXDIG [";" extensions]`, no white space before the `;`.
fn size(line: &[u8]) -> Result<u64, Wrong> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let (digits, extensions) = line.split_at(end);
    if digits.is_empty() || digits.len() > 15 || !extensions.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err("a chunk without a size");
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or("a chunk's size is no number")?;
        Ok(size << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes`, all at once and byte by byte; both must say the same. How many belong to the body.
    fn body(bytes: &[u8]) -> Result<usize, Wrong> {
        let run = |pieces: usize| {
            let (mut chunks, mut passed, mut there) = (Chunks::Size, 0, 0);
            while !matches!(chunks, Chunks::Done) {
                match chunks.step(&bytes[passed..there], 100, 3)? {
                    0 if there == bytes.len() => return Err("unfinished"),
                    0 => there = (there + pieces).min(bytes.len()),
                    more => passed += more,
                }
            }
            Ok(passed)
        };
        let whole = run(bytes.len());
        assert_eq!(run(1), whole, "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn a_chunked_body_ends_where_it_says() {
        for (bytes, rest) in [
            (&b"0\r\n\r\n"[..], 0),
            (b"5\r\nhello\r\n0\r\n\r\nGET /", 5),
            (b"A;x=\"y\"\r\n0123456789\r\n000\r\nx-sum: 1\r\ny:\r\n\r\n", 0),
            (b"1\r\na\r\n1\r\n\n\r\n0\r\n\r\n", 0),
        ] {
            assert_eq!(body(bytes), Ok(bytes.len() - rest), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_hostile_chunk_is_refused() {
        let long = [&b"1;"[..], &[b'x'; 300], b"\r\na\r\n0\r\n\r\n"].concat();
        let trailers = [&b"0\r\n"[..], &b"aaaaaaaa: bbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(3), b"\r\n"].concat();
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"0x1\r\na",
            b"+1\r\na\r\n",
            b"-1\r\n",
            b" 1\r\na\r\n",
            b"1 \r\na\r\n",
            b"1\na\n0\n\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na0\r\n\r\n",
            b"1;\x00\r\na\r\n",
            b"1;a\rb\r\na\r\n",
            b"ffffffffffffffff\r\n",
            b"10000000000000000\r\n",
            b"0\r\nx\r\n\r\n",
            b"0\r\nx : y\r\n\r\n",
            b"0\r\n\n",
            b"0\r\na:1\r\nb:1\r\nc:1\r\nd:1\r\n\r\n",
            &long,
            &trailers,
        ] {
            let found = body(bytes);
            assert!(found.is_err_and(|wrong| wrong != "unfinished"), "{}: {found:?}", bytes.escape_ascii());
        }
    }
}
