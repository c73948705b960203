//! The stream of changes: lines of JSON, each bounded, with a beat at least every 15 s.

use crate::body::Body;
use crate::error::Error;
use crate::ndjson::Lines;
use crate::wire::{BEAT_MS, WATCH_LINE_BYTES_MAX, WatchLine};

/// A stream that is silent for this long is dead, in seconds: three beats.
pub(crate) const SILENT_S: u64 = BEAT_MS * 3 / 1000;

/// A stream of changes. Dropped, it tells the parent to stop.
#[derive(Debug)]
pub struct WatchStream(Lines);

impl WatchStream {
    pub(crate) fn new(body: Body, url: String) -> Self {
        Self(Lines::new(body, url, WATCH_LINE_BYTES_MAX, SILENT_S))
    }

    /// The parent that gives the stream.
    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// The next line of a kind that this build knows. Safe to drop and call again. The stream never ends well: its
    /// end is an error too, for the caller to connect anew.
    pub async fn next(&mut self) -> Result<WatchLine, Error> {
        let ended = || "the stream ended".to_owned();
        loop {
            let line = self.0.next().await?;
            let line = line.ok_or_else(|| Error::Broken { url: self.0.url().to_owned(), cause: ended() })?;
            if let Some(line) = WatchLine::decode(&line).map_err(self.0.malformed("watch line"))? {
                return Ok(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn stream(pieces: Vec<Vec<u8>>) -> WatchStream {
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Error>::new(pieces.len() + 1);
        for piece in pieces {
            sender.send_data(piece.into()).await.expect("room");
        }
        WatchStream::new(body.boxed_unsync(), "https://parent".to_owned())
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_were_cut_and_the_end_is_an_error() {
        let text = b"{\"seq\":1}\n\n{\"later\":{}}\n{\"seq\":2,\"inline\":{}}\n{\"seq\":3}";
        for size in [1, 2, 7, 100] {
            let mut stream = stream(text.chunks(size).map(<[u8]>::to_vec).collect()).await;
            for seq in [1, 2] {
                let line = stream.next().await.expect("a line");
                assert!(matches!(line, WatchLine::Change(change) if change.seq == seq));
            }
            assert!(matches!(stream.next().await, Err(Error::Broken { .. })));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_a_beat_for_45_s_is_dead() {
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Error>::new(1);
        let mut stream = WatchStream::new(body.boxed_unsync(), "https://parent".to_owned());
        let beats = async {
            for _ in 0..3 {
                tokio::time::sleep(std::time::Duration::from_secs(44)).await;
                let beat = Bytes::from_static(b"{\"beat\":\"2026-11-22T12:00:00Z\"}\n");
                sender.send_data(beat).await.expect("read");
            }
        };
        let read = async {
            for _ in 0..3 {
                assert!(matches!(stream.next().await, Ok(WatchLine::Beat(_))));
            }
        };
        tokio::join!(beats, read);
        let began = tokio::time::Instant::now();
        assert!(matches!(stream.next().await, Err(Error::Silent { seconds: 45, .. })));
        assert_eq!(began.elapsed().as_secs(), 45);
    }

    #[tokio::test]
    async fn a_line_without_end_and_a_line_that_is_no_json_end_the_stream() {
        let mut endless = stream(vec![vec![b'x'; 256 << 10]; 8]).await;
        assert!(matches!(endless.next().await, Err(Error::TooLarge { .. })));
        assert!(endless.0.held_bytes() <= WATCH_LINE_BYTES_MAX + (256 << 10));
        let mut bad = stream(vec![b"no\n".to_vec()]).await;
        assert!(matches!(bad.next().await, Err(Error::Malformed { .. })));
    }
}
