//! What the peer's unidirectional streams say (RFC 9114, section 6.2): control, QPACK, push, and unknown ones.
//!
//! One [`Peer`] stands for all of them; each stream has its [`Uni`]. Nothing of them is kept but a few integers, and
//! what they may cost is bounded by how many requests there were.

use super::code::{Code, Failure};
use super::priority::Priority;
use super::settings::{self, Settings};
use super::{frame, instructions, varint};

/// The type of a control stream.
pub const CONTROL: u64 = 0x0;
/// The type of a push stream.
pub const PUSH: u64 = 0x1;
/// The type of a QPACK encoder stream.
pub const ENCODER: u64 = 0x2;
/// The type of a QPACK decoder stream.
pub const DECODER: u64 = 0x3;

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends requests.
    Client,
    /// It answers them.
    Server,
}

/// Bytes on these streams beyond which a peer is too costly, and what each request adds.
const BYTES_MAX: u64 = 64 << 10;
const BYTES_PER_REQUEST: u64 = 1 << 10;
/// The same for frames and instructions. Browsers send a PRIORITY_UPDATE with a request now and then.
const FRAMES_MAX: u64 = 256;
const FRAMES_PER_REQUEST: u64 = 8;
/// The same for streams.
const STREAMS_MAX: u64 = 64;
/// The longest priority field that is read in a PRIORITY_UPDATE; what is longer says nothing.
const PRIORITY_BYTES_MAX: usize = 256;

/// What came out of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer goes away: a server names the first request it will not process, a client the first push.
    Goaway(u64),
    /// A client says anew what it asks for a response.
    Priority {
        /// The request's stream.
        stream: u64,
        /// What is asked.
        priority: Priority,
    },
    /// The peer's settings.
    Settings(Settings),
    /// The stream is of no use: stop it with this code.
    Stop(Code),
}

/// What is known of a peer across its streams.
#[derive(Debug)]
pub struct Peer {
    role: Role,
    control: bool,
    encoder: bool,
    decoder: bool,
    goaway: Option<u64>,
    push_id_max: Option<u64>,
    streams: u64,
    bytes: u64,
    frames: u64,
}

/// One unidirectional stream of the peer.
#[derive(Debug, Default)]
pub struct Uni {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    Type(varint::Reader),
    Control(Control),
    Encoder(instructions::Encoder),
    Decoder(instructions::Decoder),
    Ignored,
    #[default]
    New,
}

#[derive(Debug, Default)]
struct Control {
    settled: bool,
    head: frame::Reader,
    /// The frame whose payload is being read, and how many bytes of it are missing.
    frame: Option<(Payload, u64)>,
}

#[derive(Debug)]
enum Payload {
    Integer(u64, varint::Reader, Option<u64>),
    Priority(varint::Reader, Option<u64>, Vec<u8>),
    Settings(Box<settings::Reader>),
    Skip,
}

impl Peer {
    /// Nothing is known yet; `role` is ours.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            control: false,
            encoder: false,
            decoder: false,
            goaway: None,
            push_id_max: None,
            streams: 0,
            bytes: 0,
            frames: 0,
        }
    }

    /// The peer opened a stream; `requests` is how many requests there were on this connection.
    pub fn open(&mut self, requests: u64) -> Result<Uni, Failure> {
        self.streams += 1;
        if self.streams > STREAMS_MAX.saturating_add(requests) {
            return Err(Failure::connection(Code::EXCESSIVE_LOAD, "too many unidirectional streams"));
        }
        Ok(Uni { state: State::Type(varint::Reader::default()) })
    }

    /// Takes bytes of a stream from the front of `input`, up to an event or to their end.
    pub fn read(&mut self, uni: &mut Uni, input: &mut &[u8], requests: u64) -> Result<Option<Event>, Failure> {
        while let [byte, rest @ ..] = *input {
            if matches!(uni.state, State::Ignored) {
                return Ok(None);
            }
            *input = rest;
            self.bytes += 1;
            let event = self.push(uni, *byte)?;
            if self.bytes > BYTES_MAX.saturating_add(requests.saturating_mul(BYTES_PER_REQUEST))
                || self.frames > FRAMES_MAX.saturating_add(requests.saturating_mul(FRAMES_PER_REQUEST))
            {
                return Err(Failure::connection(Code::EXCESSIVE_LOAD, "too much on the control and QPACK streams"));
            }
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// A stream ended or was reset. Critical ones must not (RFC 9114, section 6.2.1; RFC 9204, section 4.2).
    pub fn closed(&self, uni: &Uni) -> Result<(), Failure> {
        match uni.state {
            State::Control(_) | State::Encoder(_) | State::Decoder(_) => {
                Err(Failure::connection(Code::CLOSED_CRITICAL_STREAM, "a critical stream was closed"))
            }
            State::Type(_) | State::Ignored | State::New => Ok(()),
        }
    }

    fn push(&mut self, uni: &mut Uni, byte: u8) -> Result<Option<Event>, Failure> {
        match &mut uni.state {
            State::Type(reader) => match reader.push(byte) {
                Some(kind) => self.typed(uni, kind),
                None => Ok(None),
            },
            State::Control(control) => self.control(control, byte),
            State::Encoder(encoder) => {
                self.frames += 1;
                encoder.push(byte).map(|()| None)
            }
            State::Decoder(decoder) => {
                self.frames += 1;
                decoder.push(byte).map(|()| None)
            }
            State::Ignored | State::New => Ok(None),
        }
    }

    fn typed(&mut self, uni: &mut Uni, kind: u64) -> Result<Option<Event>, Failure> {
        let (seen, state) = match kind {
            CONTROL => (&mut self.control, State::Control(Control::default())),
            ENCODER => (&mut self.encoder, State::Encoder(instructions::Encoder::default())),
            DECODER => (&mut self.decoder, State::Decoder(instructions::Decoder::default())),
            PUSH => {
                return Err(match self.role {
                    Role::Server => Failure::connection(Code::STREAM_CREATION_ERROR, "a client opened a push stream"),
                    // RFC 9114, section 4.6: no push ID was ever allowed.
                    Role::Client => Failure::connection(Code::ID_ERROR, "a push stream that was not allowed"),
                });
            }
            // RFC 9114, section 6.2: unknown types are no error.
            _ => {
                uni.state = State::Ignored;
                return Ok(Some(Event::Stop(Code::STREAM_CREATION_ERROR)));
            }
        };
        if std::mem::replace(seen, true) {
            return Err(Failure::connection(Code::STREAM_CREATION_ERROR, "a critical stream was opened twice"));
        }
        uni.state = state;
        Ok(None)
    }

    fn control(&mut self, control: &mut Control, byte: u8) -> Result<Option<Event>, Failure> {
        if let Some((payload, missing)) = &mut control.frame {
            payload.push(byte)?;
            *missing -= 1;
            if *missing > 0 {
                return Ok(None);
            }
        } else {
            let Some(head) = control.head.push(byte) else { return Ok(None) };
            self.frames += 1;
            let payload = self.begin(control, head.kind)?;
            control.frame = Some((payload, head.length));
            if head.length > 0 {
                return Ok(None);
            }
        }
        match control.frame.take() {
            Some((payload, _)) => self.complete(payload),
            None => Ok(None),
        }
    }

    /// A frame begins on the control stream: may it be there?
    fn begin(&self, control: &mut Control, kind: u64) -> Result<Payload, Failure> {
        if !std::mem::replace(&mut control.settled, true) {
            return match kind {
                frame::SETTINGS => Ok(Payload::Settings(Box::default())),
                _ => {
                    Err(Failure::connection(Code::MISSING_SETTINGS, "the control stream does not begin with SETTINGS"))
                }
            };
        }
        let unexpected = |reason| Err(Failure::connection(Code::FRAME_UNEXPECTED, reason));
        match kind {
            frame::SETTINGS => unexpected("a second SETTINGS frame"),
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => unexpected("a request's frame on the control stream"),
            frame::MAX_PUSH_ID if self.role == Role::Client => unexpected("MAX_PUSH_ID from a server"),
            frame::PRIORITY_UPDATE | frame::PRIORITY_UPDATE_PUSH if self.role == Role::Client => {
                unexpected("PRIORITY_UPDATE from a server")
            }
            frame::PRIORITY_UPDATE => Ok(Payload::Priority(varint::Reader::default(), None, Vec::new())),
            // RFC 9218, section 7.2: nothing was ever promised.
            frame::PRIORITY_UPDATE_PUSH => {
                Err(Failure::connection(Code::ID_ERROR, "a PRIORITY_UPDATE for a push that is not there"))
            }
            frame::CANCEL_PUSH | frame::GOAWAY | frame::MAX_PUSH_ID => {
                Ok(Payload::Integer(kind, varint::Reader::default(), None))
            }
            kind if frame::is_http2(kind) => unexpected("a frame of HTTP/2"),
            _ => Ok(Payload::Skip),
        }
    }

    fn complete(&mut self, payload: Payload) -> Result<Option<Event>, Failure> {
        match payload {
            Payload::Skip => Ok(None),
            Payload::Settings(reader) => reader.finish().map(|settings| Some(Event::Settings(settings))),
            Payload::Integer(kind, _, Some(value)) => self.integer(kind, value),
            Payload::Priority(_, Some(stream), _) if !stream.is_multiple_of(4) => {
                Err(Failure::connection(Code::ID_ERROR, "a PRIORITY_UPDATE for what is no request stream"))
            }
            Payload::Priority(_, Some(stream), field) if field.len() <= PRIORITY_BYTES_MAX => {
                Ok(Priority::parse(&field).map(|priority| Event::Priority { stream, priority }))
            }
            Payload::Priority(_, Some(_), _) => Ok(None),
            Payload::Integer(_, _, None) | Payload::Priority(_, None, _) => {
                Err(Failure::connection(Code::FRAME_ERROR, "a control frame ends within its integer"))
            }
        }
    }

    fn integer(&mut self, kind: u64, value: u64) -> Result<Option<Event>, Failure> {
        let wrong = |reason| Err(Failure::connection(Code::ID_ERROR, reason));
        match kind {
            frame::GOAWAY => {
                if self.role == Role::Client && !value.is_multiple_of(4) {
                    return wrong("a GOAWAY whose ID is no request stream");
                }
                if self.goaway.is_some_and(|before| value > before) {
                    return wrong("a GOAWAY whose ID grows");
                }
                self.goaway = Some(value);
                Ok(Some(Event::Goaway(value)))
            }
            frame::MAX_PUSH_ID => {
                if self.push_id_max.is_some_and(|before| value < before) {
                    return wrong("a MAX_PUSH_ID that shrinks");
                }
                self.push_id_max = Some(value);
                Ok(None)
            }
            // CANCEL_PUSH: no push was ever allowed or promised (RFC 9114, section 7.2.3).
            _ => wrong("a CANCEL_PUSH for a push that is not there"),
        }
    }
}

impl Payload {
    fn push(&mut self, byte: u8) -> Result<(), Failure> {
        match self {
            Self::Skip => Ok(()),
            Self::Settings(reader) => reader.push(byte),
            Self::Priority(_, Some(_), field) => {
                // One byte more than is read shows that it was too long.
                if field.len() <= PRIORITY_BYTES_MAX {
                    field.push(byte);
                }
                Ok(())
            }
            Self::Priority(reader, stream, _) => {
                *stream = reader.push(byte);
                Ok(())
            }
            Self::Integer(_, _, Some(_)) => {
                Err(Failure::connection(Code::FRAME_ERROR, "a control frame is longer than its integer"))
            }
            Self::Integer(_, reader, value) => {
                *value = reader.push(byte);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
