//! Where messages of HTTP/1.1 begin and end, decided strictly and without I/O: what could be read in two ways is refused
//! (RFC 9112, sections 3, 6 and 11.2). Whatever passes, hyper reads as it was read here.

use eyot_plan::fault::{Code, Fault};
use http::{Method, Uri};

use super::chunks::Chunks;
use super::fields::{Wrong, field, is_token, line};
use super::tunnel::may_follow;

/// The sizes allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A head, from its first byte to its empty line; also a trailer section.
    pub(super) head_bytes_max: usize,
    /// The fields of a head; also of a trailer section.
    pub(super) fields_max: usize,
}

/// What is to be done with the bytes that have come.
#[derive(Debug)]
pub(super) enum Step {
    /// More must come.
    More,
    /// So many are sound and belong to a body.
    Body(usize),
    /// So many are sound and are one whole head.
    Head(usize),
}

/// Where we are in the stream.
#[derive(Debug)]
pub(super) struct Framing {
    limits: Limits,
    state: State,
    head: Head,
}

#[derive(Debug)]
enum State {
    Head,
    Sized(u64),
    Chunked(Chunks),
    /// Behind a head after which something else may be spoken. Whatever it is, it is never read as a request.
    Other,
}

/// What is known of a head that is not whole yet.
#[derive(Debug, Default)]
struct Head {
    /// Where the line begins that is being looked at.
    line: usize,
    /// Before this no LF is left to find.
    searched: usize,
    /// Lines seen: the request line, then fields.
    lines: usize,
    /// HTTP/1.0.
    old: bool,
    length: Option<u64>,
    chunked: bool,
    /// Something else than HTTP may follow.
    other: bool,
}

impl Framing {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head, head: Head::default() }
    }

    /// Whether a head is expected, or has come in part.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Looks at the bytes that have come and have not been passed on. What it says has passed must be taken from them.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let passed = match &mut self.state {
            State::Head => return self.head(bytes),
            State::Other => bytes.len(),
            State::Sized(left) => {
                let passed = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= passed as u64;
                if *left == 0 {
                    self.state = State::Head;
                }
                passed
            }
            State::Chunked(chunks) => {
                let passed = chunks.step(bytes, self.limits.head_bytes_max, self.limits.fields_max).map_err(bad)?;
                if matches!(chunks, Chunks::Done) {
                    self.state = State::Head;
                }
                passed
            }
        };
        Ok(if passed == 0 { Step::More } else { Step::Body(passed) })
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let bytes_max = self.limits.head_bytes_max;
        loop {
            let head = &mut self.head;
            let found = line(bytes, head.line, head.searched).map_err(bad)?;
            let end = found.map_or(bytes.len(), |line| head.line + line.len() + 2);
            if end > bytes_max {
                return Err(Fault::new(Code::HeadersTooLarge).over("header_bytes", bytes_max as u64, end as u64));
            }
            head.searched = end;
            let Some(line) = found else { return Ok(Step::More) };
            head.line = end;
            if line.is_empty() {
                // RFC 9112, section 2.2: one empty line before the request line is borne, behind it is the head's end.
                if head.lines > 0 {
                    return self.end(end);
                }
                if end > 2 {
                    return Err(bad("empty lines before a request"));
                }
                continue;
            }
            head.take(line).map_err(bad)?;
            if head.lines > self.limits.fields_max + 1 {
                let fields_max = self.limits.fields_max as u64;
                return Err(Fault::new(Code::HeadersTooLarge).over("fields", fields_max, fields_max + 1));
            }
        }
    }

    /// The head is whole: what body does it announce (RFC 9112, section 6.3)?
    fn end(&mut self, bytes: usize) -> Result<Step, Fault> {
        let head = core::mem::take(&mut self.head);
        self.state = match (head.chunked, head.length) {
            (true, Some(_)) => return Err(bad("both `Transfer-Encoding` and `Content-Length`")),
            (true, None) if head.old => return Err(bad("`Transfer-Encoding` in HTTP/1.0")),
            (true, None) => State::Chunked(Chunks::Size),
            (false, None | Some(0)) if head.other => State::Other,
            (false, None | Some(0)) => State::Head,
            (false, Some(length)) => State::Sized(length),
        };
        Ok(Step::Head(bytes))
    }
}

impl Head {
    fn take(&mut self, line: &[u8]) -> Result<(), Wrong> {
        self.lines += 1;
        if self.lines == 1 {
            self.old = request_line(line)?;
            return Ok(());
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            if self.length.is_some() || !digits {
                return Err("`Content-Length` is not one number");
            }
            self.length = Some(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("`Transfer-Encoding` is not `chunked`");
            }
            self.chunked = true;
        } else if may_follow(name, value) {
            self.other = true;
        }
        Ok(())
    }
}

/// `method SP target SP HTTP/1.x`, one space each (RFC 9112, section 3). Whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Wrong> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("a request line of other than three parts");
    };
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err("a version that is not HTTP/1"),
    };
    if !method.iter().all(|byte| is_token(*byte)) || Method::from_bytes(method).is_err() {
        return Err("a method that is no token");
    }
    // A fragment is for the client alone; hyper would drop it.
    if target.contains(&b'#') || target.contains(&0x7f) || Uri::try_from(target).is_err() {
        return Err("a target that is no URI");
    }
    Ok(old)
}

fn bad(wrong: Wrong) -> Fault {
    Fault::new(Code::BadRequest).because(wrong)
}

#[cfg(test)]
mod tests;
