//! Lines of JSON in a streamed body, each bounded.

use bytes::{Buf as _, BytesMut};

use crate::body::{self, Body};
use crate::error::Error;

/// A body that is read line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Body,
    url: String,
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no end of a line.
    looked: usize,
    line_bytes_max: usize,
    /// It is dead when it is silent for this long, in seconds.
    silent_s: u64,
}

impl Lines {
    pub(crate) fn new(body: Body, url: String, line_bytes_max: usize, silent_s: u64) -> Self {
        Self { body, url, buffer: BytesMut::new(), looked: 0, line_bytes_max, silent_s }
    }

    /// Who gives it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The next line that is not empty, without its end; `None`: the body has ended. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>, Error> {
        loop {
            while let Some(end) = self.line_end() {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                self.looked = 0;
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.buffer.len() > self.line_bytes_max {
                return Err(Error::TooLarge { url: self.url.clone(), limit_bytes: self.line_bytes_max as u64 });
            }
            match body::next(&mut self.body, &self.url, self.silent_s).await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    /// For `map_err`: a line that is no `what`.
    pub(crate) fn malformed(&self, what: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
        let url = self.url.clone();
        move |error| Error::Malformed { url, what, cause: error.to_string() }
    }

    fn line_end(&mut self) -> Option<usize> {
        let found = self.buffer.iter().skip(self.looked).position(|&byte| byte == b'\n').map(|at| at + self.looked);
        self.looked = self.buffer.len();
        found
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.len()
    }
}
