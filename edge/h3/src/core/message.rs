//! One message on a request stream (RFC 9114, section 4.1): bytes in, events out, the same events for any chunking.
//!
//! Of a message it keeps one field section, as far as it has come and never more than allowed. Bodies pass through
//! without a copy, unknown frames are skipped and counted.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::code::{Code, Failure};
use super::section::{Refused, Section};
use super::{frame, head};

/// What a message may cost and be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The largest field section, by the count of RFC 9114, section 4.2.2; also the largest HEADERS frame.
    pub header_bytes_max: usize,
    /// How many frames may carry nothing: unknown ones, empty DATA, interim responses.
    pub extra_frames_max: u32,
    /// How many bytes unknown frames may declare in all.
    pub extra_bytes_max: u64,
    /// Whether a request may be an extended CONNECT (RFC 9220).
    pub connect_protocol: bool,
}

/// What came out.
#[derive(Debug)]
pub enum Event {
    /// A part of the body; never empty.
    Data(Bytes),
    /// The head of an interim response. They are among the frames that carry nothing.
    Interim(Response<()>),
    /// A request's head; an extended CONNECT has its [`head::Protocol`] with it.
    Request(Request<()>),
    /// A final response's head.
    Response(Response<()>),
    /// The head is larger than allowed. Nothing more comes.
    TooLarge,
    /// The trailers.
    Trailers(HeaderMap),
}

/// A reader of one message.
#[derive(Debug)]
pub struct Message {
    kind: Kind,
    bounds: Bounds,
    stage: Stage,
    head: frame::Reader,
    frame: Frame,
    /// The declared length of the body, where it must be kept.
    length: Option<u64>,
    /// How much of the body the frames so far declared.
    declared: u64,
    extra_frames: u32,
    extra_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    /// To a request with this method, as far as it matters.
    Response(Asked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// If it is accepted, a tunnel follows.
    Connect,
    /// The response has no body.
    Head,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    /// DATA alone, until either side ends it (RFC 9114, section 4.4).
    Tunnel,
    Trailed,
    /// Nothing is read any more.
    Over,
}

#[derive(Debug)]
enum Frame {
    None,
    Data { missing: u64 },
    Headers { missing: usize, buffer: BytesMut },
    Skip { missing: u64 },
}

impl Message {
    /// A request is expected.
    pub fn request(bounds: Bounds) -> Self {
        Self::new(Kind::Request, bounds)
    }

    /// The response to a request with this method is expected.
    pub fn response(method: &Method, bounds: Bounds) -> Self {
        let asked = match *method {
            Method::CONNECT => Asked::Connect,
            Method::HEAD => Asked::Head,
            _ => Asked::Other,
        };
        Self::new(Kind::Response(asked), bounds)
    }

    fn new(kind: Kind, bounds: Bounds) -> Self {
        Self {
            kind,
            bounds,
            stage: Stage::Head,
            head: frame::Reader::default(),
            frame: Frame::None,
            length: None,
            declared: 0,
            extra_frames: 0,
            extra_bytes: 0,
        }
    }

    /// The declared length of the whole body, where the body must keep to it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Takes bytes from the front of `input` up to the next event; without one, `input` is empty afterwards.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Event>, Failure> {
        loop {
            if self.stage == Stage::Over {
                input.clear();
                return Ok(None);
            }
            match &mut self.frame {
                Frame::Headers { missing: 0, .. } => {
                    if let Some(event) = self.section()? {
                        return Ok(Some(event));
                    }
                }
                Frame::Data { missing: 0 } | Frame::Skip { missing: 0 } => self.frame = Frame::None,
                _ if input.is_empty() => return Ok(None),
                Frame::None => {
                    if let Some(head) = self.head.push(input.get_u8())
                        && let Some(event) = self.begin(head)?
                    {
                        return Ok(Some(event));
                    }
                }
                Frame::Data { missing } => return Ok(Some(Event::Data(take(input, missing)))),
                Frame::Skip { missing } => drop(take(input, missing)),
                Frame::Headers { missing, buffer } => {
                    let part = (*missing).min(input.len());
                    buffer.extend_from_slice(&input[..part]);
                    input.advance(part);
                    *missing -= part;
                }
            }
        }
    }

    /// The stream has ended: may the message end here?
    pub fn finish(&self) -> Result<(), Failure> {
        if self.stage == Stage::Over {
            return Ok(());
        }
        if self.head.is_partial()
            || !matches!(self.frame, Frame::None | Frame::Data { missing: 0 } | Frame::Skip { missing: 0 })
        {
            // RFC 9114, section 7.1.
            return Err(Failure::connection(Code::FRAME_ERROR, "the stream ends within a frame"));
        }
        match (self.stage, self.kind) {
            (Stage::Head, Kind::Request) => {
                Err(Failure::stream(Code::REQUEST_INCOMPLETE, "the stream ends before the head"))
            }
            (Stage::Head, Kind::Response(_)) => Err(Failure::malformed("the stream ends before a final response")),
            _ if self.length.is_some_and(|length| length != self.declared) => {
                Err(Failure::malformed("the body is shorter than its content-length"))
            }
            _ => Ok(()),
        }
    }

    /// A frame begins: may it be here?
    fn begin(&mut self, head: frame::Head) -> Result<Option<Event>, Failure> {
        let unexpected = |reason| Err(Failure::connection(Code::FRAME_UNEXPECTED, reason));
        match head.kind {
            frame::DATA if !matches!(self.stage, Stage::Body | Stage::Tunnel) => {
                return unexpected("DATA before the head or after trailers");
            }
            frame::DATA => self.data(head.length)?,
            frame::HEADERS if self.stage == Stage::Trailed => return unexpected("HEADERS after trailers"),
            frame::HEADERS if self.stage == Stage::Tunnel => return unexpected("HEADERS in a tunnel"),
            frame::HEADERS => return self.headers(head.length),
            // RFC 9114, section 7.2.5: no push ID was ever allowed.
            frame::PUSH_PROMISE if self.kind != Kind::Request => {
                return Err(Failure::connection(Code::ID_ERROR, "a push that was not allowed"));
            }
            frame::CANCEL_PUSH
            | frame::GOAWAY
            | frame::MAX_PUSH_ID
            | frame::PRIORITY_UPDATE
            | frame::PRIORITY_UPDATE_PUSH
            | frame::PUSH_PROMISE
            | frame::SETTINGS => {
                return unexpected("a frame that does not belong on a request stream");
            }
            kind if frame::is_http2(kind) => return unexpected("a frame of HTTP/2"),
            _ => {
                self.extra(head.length)?;
                self.frame = Frame::Skip { missing: head.length };
            }
        }
        Ok(None)
    }

    fn data(&mut self, bytes: u64) -> Result<(), Failure> {
        if bytes == 0 {
            self.extra(0)?;
        }
        self.declared = self.declared.saturating_add(bytes);
        if self.length.is_some_and(|length| self.declared > length) {
            return Err(Failure::malformed("the body is longer than its content-length, or should not be there"));
        }
        self.frame = Frame::Data { missing: bytes };
        Ok(())
    }

    fn headers(&mut self, bytes: u64) -> Result<Option<Event>, Failure> {
        match usize::try_from(bytes) {
            Ok(missing) if missing <= self.bounds.header_bytes_max => {
                self.frame = Frame::Headers { missing, buffer: BytesMut::new() };
                Ok(None)
            }
            _ => self.too_large().map(Some),
        }
    }

    fn too_large(&mut self) -> Result<Event, Failure> {
        let trailers = self.stage == Stage::Body;
        self.stage = Stage::Over;
        if trailers {
            Err(Failure::stream(Code::EXCESSIVE_LOAD, "the trailers are too large"))
        } else {
            Ok(Event::TooLarge)
        }
    }

    /// A frame that carries nothing.
    fn extra(&mut self, bytes: u64) -> Result<(), Failure> {
        self.extra_frames += 1;
        self.extra_bytes = self.extra_bytes.saturating_add(bytes);
        if self.extra_frames > self.bounds.extra_frames_max || self.extra_bytes > self.bounds.extra_bytes_max {
            return Err(Failure::connection(Code::EXCESSIVE_LOAD, "too many frames that carry nothing"));
        }
        Ok(())
    }

    /// A field section is complete.
    fn section(&mut self) -> Result<Option<Event>, Failure> {
        let Frame::Headers { buffer, .. } = std::mem::replace(&mut self.frame, Frame::None) else { return Ok(None) };
        let section = match Section::decode(&buffer, self.bounds.header_bytes_max) {
            Ok(section) => section,
            Err(Refused::Broken(failure)) => return Err(failure),
            Err(Refused::TooLarge) => return self.too_large().map(Some),
        };
        if self.stage == Stage::Body {
            self.stage = Stage::Trailed;
            return head::trailers(&section).map(|trailers| Some(Event::Trailers(trailers)));
        }
        match self.kind {
            Kind::Request => {
                let (request, length) = head::request(&section)?;
                let tunnel = *request.method() == Method::CONNECT;
                if request.extensions().get::<head::Protocol>().is_some() && !self.bounds.connect_protocol {
                    return Err(Failure::malformed("a :protocol, which was not offered"));
                }
                self.length = length;
                self.stage = if tunnel { Stage::Tunnel } else { Stage::Body };
                Ok(Some(Event::Request(request)))
            }
            Kind::Response(asked) => self.answered(&section, asked),
        }
    }

    fn answered(&mut self, section: &Section, asked: Asked) -> Result<Option<Event>, Failure> {
        let (response, length) = head::response(section)?;
        if response.status().is_informational() {
            return self.extra(0).map(|()| Some(Event::Interim(response)));
        }
        if asked == Asked::Connect && response.status().is_success() {
            // RFC 9110, section 8.6: a length says nothing here.
            self.stage = Stage::Tunnel;
            return Ok(Some(Event::Response(response)));
        }
        let bodiless =
            asked == Asked::Head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.length = if bodiless { Some(0) } else { length };
        self.stage = Stage::Body;
        Ok(Some(Event::Response(response)))
    }
}

/// The next part of a payload of which `missing` bytes have not come.
fn take(input: &mut Bytes, missing: &mut u64) -> Bytes {
    let part = usize::try_from(*missing).unwrap_or(usize::MAX).min(input.len());
    *missing -= part as u64;
    input.split_to(part)
}

#[cfg(test)]
mod tests;
