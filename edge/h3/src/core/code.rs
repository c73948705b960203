//! Error codes of HTTP/3 and QPACK (RFC 9114, section 8.1; RFC 9204, section 6), and the failures that carry them.

use std::fmt;

/// An error code, as it is sent in a reset, a STOP_SENDING or a CONNECTION_CLOSE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u64);

impl Code {
    /// H3_NO_ERROR.
    pub const NO_ERROR: Self = Self(0x100);
    /// H3_GENERAL_PROTOCOL_ERROR.
    pub const GENERAL_PROTOCOL_ERROR: Self = Self(0x101);
    /// H3_INTERNAL_ERROR.
    pub const INTERNAL_ERROR: Self = Self(0x102);
    /// H3_STREAM_CREATION_ERROR.
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    /// H3_CLOSED_CRITICAL_STREAM.
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// H3_FRAME_UNEXPECTED.
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    /// H3_FRAME_ERROR.
    pub const FRAME_ERROR: Self = Self(0x106);
    /// H3_EXCESSIVE_LOAD.
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    /// H3_ID_ERROR.
    pub const ID_ERROR: Self = Self(0x108);
    /// H3_SETTINGS_ERROR.
    pub const SETTINGS_ERROR: Self = Self(0x109);
    /// H3_MISSING_SETTINGS.
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    /// H3_REQUEST_REJECTED: nothing of the request was processed; it may be sent again.
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    /// H3_REQUEST_CANCELLED.
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    /// H3_REQUEST_INCOMPLETE.
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    /// H3_MESSAGE_ERROR.
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    /// H3_CONNECT_ERROR.
    pub const CONNECT_ERROR: Self = Self(0x10f);
    /// H3_VERSION_FALLBACK.
    pub const VERSION_FALLBACK: Self = Self(0x110);
    /// QPACK_DECOMPRESSION_FAILED.
    pub const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    /// QPACK_ENCODER_STREAM_ERROR.
    pub const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    /// QPACK_DECODER_STREAM_ERROR.
    pub const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);

    /// The registered name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NO_ERROR => "H3_NO_ERROR",
            Self::GENERAL_PROTOCOL_ERROR => "H3_GENERAL_PROTOCOL_ERROR",
            Self::INTERNAL_ERROR => "H3_INTERNAL_ERROR",
            Self::STREAM_CREATION_ERROR => "H3_STREAM_CREATION_ERROR",
            Self::CLOSED_CRITICAL_STREAM => "H3_CLOSED_CRITICAL_STREAM",
            Self::FRAME_UNEXPECTED => "H3_FRAME_UNEXPECTED",
            Self::FRAME_ERROR => "H3_FRAME_ERROR",
            Self::EXCESSIVE_LOAD => "H3_EXCESSIVE_LOAD",
            Self::ID_ERROR => "H3_ID_ERROR",
            Self::SETTINGS_ERROR => "H3_SETTINGS_ERROR",
            Self::MISSING_SETTINGS => "H3_MISSING_SETTINGS",
            Self::REQUEST_REJECTED => "H3_REQUEST_REJECTED",
            Self::REQUEST_CANCELLED => "H3_REQUEST_CANCELLED",
            Self::REQUEST_INCOMPLETE => "H3_REQUEST_INCOMPLETE",
            Self::MESSAGE_ERROR => "H3_MESSAGE_ERROR",
            Self::CONNECT_ERROR => "H3_CONNECT_ERROR",
            Self::VERSION_FALLBACK => "H3_VERSION_FALLBACK",
            Self::QPACK_DECOMPRESSION_FAILED => "QPACK_DECOMPRESSION_FAILED",
            Self::QPACK_ENCODER_STREAM_ERROR => "QPACK_ENCODER_STREAM_ERROR",
            Self::QPACK_DECODER_STREAM_ERROR => "QPACK_DECODER_STREAM_ERROR",
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a failure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole connection (RFC 9114, section 8: a connection error).
    Connection,
    /// One request (a stream error).
    Stream,
}

/// A breach of the protocol by the peer: what it ends, the code to send, and words for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Failure {
    /// What it ends.
    pub scope: Scope,
    /// The code to send.
    pub code: Code,
    /// What was wrong, for the log.
    pub reason: &'static str,
}

impl Failure {
    /// A connection error.
    pub const fn connection(code: Code, reason: &'static str) -> Self {
        Self { scope: Scope::Connection, code, reason }
    }

    /// A stream error.
    pub const fn stream(code: Code, reason: &'static str) -> Self {
        Self { scope: Scope::Stream, code, reason }
    }

    /// A malformed message: a stream error H3_MESSAGE_ERROR (RFC 9114, section 4.1.2).
    pub const fn malformed(reason: &'static str) -> Self {
        Self::stream(Code::MESSAGE_ERROR, reason)
    }
}
