//! What one connection may cost.

use std::time::Duration;

use bytes::Bytes;

use crate::core::message::Bounds;
use crate::core::settings::Settings;

/// What one connection may cost. What is beyond ends the request or, with H3_EXCESSIVE_LOAD, the connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest head or trailers, by the count of RFC 9114, section 4.2.2: names, values and 32 bytes for each field.
    /// A larger request is answered by `too_large`.
    pub header_bytes_max: usize,
    /// Whether a server takes extended CONNECT (RFC 9220), and says so in its settings.
    pub connect_protocol: bool,
    /// How long a request's head may take to come, from when its stream was opened.
    pub header_time_max: Duration,
    /// How long a message may wait for the peer to take of it; then the stream is reset.
    pub write_time_max: Duration,
    /// What the peer takes pays the waiting back at this rate, in bytes a second: a trickle ends like silence.
    pub write_rate_bytes_min: u32,
    /// How many frames of one message may carry nothing: unknown ones, empty DATA, interim responses.
    pub extra_frames_max: u32,
    /// How many bytes the unknown frames of one message may declare in all.
    pub extra_bytes_max: u64,
    /// By how many the requests that the peer broke off, or that were malformed, may outnumber those that ended well.
    pub resets_max: u32,
    /// What answers a request whose head is too large.
    pub too_large: fn() -> http::Response<Bytes>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 << 10,
            connect_protocol: false,
            header_time_max: Duration::from_secs(10),
            write_time_max: Duration::from_secs(120),
            write_rate_bytes_min: 256,
            extra_frames_max: 64,
            extra_bytes_max: 64 << 10,
            resets_max: 100,
            too_large: || {
                let mut response = http::Response::new(Bytes::new());
                *response.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                response
            },
        }
    }
}

impl Limits {
    /// What is said of them to a peer.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            header_bytes_max: u64::try_from(self.header_bytes_max).unwrap_or(u64::MAX),
            connect_protocol: self.connect_protocol,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            header_bytes_max: self.header_bytes_max,
            extra_frames_max: self.extra_frames_max,
            extra_bytes_max: self.extra_bytes_max,
            connect_protocol: self.connect_protocol,
        }
    }
}
