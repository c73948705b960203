//! The end of a connection whose client may still be sending: it is read a little longer, because a reset would take
//! the last response from it.

use core::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What is still read, in bytes, and for how long.
const LINGER_BYTES_MAX: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// Ends our side, and waits a little for the client to end its own.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) {
    let rest = async {
        io.shutdown().await?;
        let mut sink = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match io.read(&mut sink).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, join};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_sending_is_read_for_a_mib_and_no_more() {
        let (bytes, spare) = (LINGER_BYTES_MAX * 2, LINGER_BYTES_MAX / 2);
        for (sent, left) in [(bytes, bytes - LINGER_BYTES_MAX), (spare, 0)] {
            let sending = vec![0; sent];
            let mut source = &sending[..];
            linger(join(&mut source, tokio::io::sink())).await;
            assert_eq!(source.len(), left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_neither_sends_nor_leaves_is_waited_for_two_seconds() {
        let (ours, mut theirs) = duplex(64);
        let from = Instant::now();
        let mut said = [0; 1];
        let (reads, ()) = tokio::join!(theirs.read(&mut said), linger(ours));
        assert_eq!((reads.ok(), from.elapsed()), (Some(0), LINGER), "our side has ended, and then theirs is cut");
    }
}
