//! What ends a request or a connection.

use std::sync::Arc;

use crate::core::code::{Code, Failure, Scope};
use crate::core::encode::Unsendable;

/// What ended a request or a connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The body that was to be sent broke off.
    #[error("the body to send broke off")]
    Body(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The connection was closed by the peer with this code.
    #[error("the peer closed the connection: {0}")]
    Closed(Code),
    /// The server takes no extended CONNECT, or has not said in time that it does.
    #[error("the server takes no extended CONNECT")]
    ConnectProtocol,
    /// The connection was lost, or never came to be.
    #[error("the connection was lost: {0}")]
    Connection(quinn::ConnectionError),
    /// The body that was to be sent is not as long as its content-length.
    #[error("the body to send is not as long as its content-length")]
    Length,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Peer(Failure),
    /// The connection takes no more requests: this one was not sent, or surely not processed.
    #[error("the connection takes no more requests")]
    Refused,
    /// The peer reset the stream with this code.
    #[error("the peer reset the stream: {0}")]
    Reset(Code),
    /// The peer does not want more of what was being sent.
    #[error("the peer stopped the stream: {0}")]
    Stopped(Code),
    /// A socket or its configuration failed.
    #[error("no connection could be begun: {0}")]
    Socket(Arc<std::io::Error>),
    /// The peer's head is larger than allowed.
    #[error("the peer's head is too large")]
    TooLarge,
    /// The head cannot be sent.
    #[error("the head cannot be sent: {0}")]
    Unsendable(Unsendable),
    /// The head is larger than the peer takes.
    #[error("the head is larger than the peer takes")]
    PeerLimit,
}

impl Error {
    /// Whether the peer certainly processed nothing of the request, so that it may be sent again (RFC 9114, section
    /// 4.1.1 and 5.2).
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::ConnectProtocol | Self::Refused | Self::Unsendable(_) | Self::PeerLimit | Self::Socket(_) => true,
            Self::Reset(code) | Self::Stopped(code) => *code == Code::REQUEST_REJECTED,
            _ => false,
        }
    }

    /// Whether TLS failed: a certificate that is not trusted, no protocol in common, and the like.
    pub fn is_tls(&self) -> bool {
        use quinn::ConnectionError::{ConnectionClosed, TransportError};
        // RFC 9001, section 4.8: alerts are the codes from 0x100 to 0x1ff.
        let code = match self {
            Self::Connection(TransportError(error)) => u64::from(error.code),
            Self::Connection(ConnectionClosed(close)) => u64::from(close.error_code),
            _ => return false,
        };
        (0x100..=0x1ff).contains(&code)
    }

    /// Whether the connection is over, and not this request alone.
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Closed(_) | Self::Connection(_) | Self::Socket(_) => true,
            Self::Peer(failure) => failure.scope == Scope::Connection,
            _ => false,
        }
    }

    pub(crate) fn body(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Body(Arc::from(error.into()))
    }
}

impl From<quinn::ConnectionError> for Error {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::Closed(Code(close.error_code.into_inner())),
            other => Self::Connection(other),
        }
    }
}

impl From<quinn::ReadError> for Error {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::Reset(Code(code.into_inner())),
            quinn::ReadError::ConnectionLost(error) => error.into(),
            // The stream was stopped here, or rejected as early data: nothing more is read of it.
            quinn::ReadError::ClosedStream
            | quinn::ReadError::IllegalOrderedRead
            | quinn::ReadError::ZeroRttRejected => Self::Reset(Code::REQUEST_CANCELLED),
        }
    }
}

impl From<quinn::WriteError> for Error {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::Stopped(Code(code.into_inner())),
            quinn::WriteError::ConnectionLost(error) => error.into(),
            quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => {
                Self::Stopped(Code::REQUEST_CANCELLED)
            }
        }
    }
}
