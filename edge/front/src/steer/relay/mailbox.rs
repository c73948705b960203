//! The mailbox of an endpoint: datagrams for it that another reader received. Bounded; it never waits.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use quinn::udp::RecvMeta;

/// What waits for an endpoint at once, in bytes: as much as is asked of the kernel for a socket.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// What each entry counts beside its bytes.
const ENTRY_BYTES: usize = 128;

/// Datagrams of one sender that came together, all of one stride but the last, which may be shorter.
#[derive(Debug)]
struct Entry {
    meta: RecvMeta,
    bytes: Vec<u8>,
    /// How much of it has been taken: whole datagrams.
    taken: usize,
}

/// A mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    bytes: usize,
    reader: Option<Waker>,
}

/// What was taken at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Buffers that hold something now, from the first.
    pub(super) filled: usize,
    /// Datagrams that are longer than what their reader takes; they are gone.
    pub(super) dropped: u64,
}

impl Mailbox {
    /// Puts datagrams in, all or none; whether there was room.
    #[must_use]
    pub(super) fn put(&self, meta: RecvMeta, bytes: &[u8]) -> bool {
        let mut inner = self.inner();
        let cost = bytes.len() + ENTRY_BYTES;
        if inner.bytes + cost > BYTES_MAX {
            return false;
        }
        inner.bytes += cost;
        inner.entries.push_back(Entry { meta, bytes: bytes.to_vec(), taken: 0 });
        let reader = inner.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// Takes what there is into `buffers`, and wakes `cx` at whatever comes later.
    pub(super) fn take(&self, cx: &Context<'_>, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Taken {
        let mut inner = self.inner();
        match &mut inner.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let mut taken = Taken::default();
        while let (Some(buffer), Some(meta)) = (buffers.get_mut(taken.filled), metas.get_mut(taken.filled)) {
            let Some(entry) = inner.entries.front_mut() else { break };
            let rest = &entry.bytes[entry.taken..];
            let fits = if rest.len() <= buffer.len() {
                rest.len()
            } else {
                buffer.len() / entry.meta.stride.max(1) * entry.meta.stride
            };
            if fits == 0 {
                taken.dropped += datagrams(rest.len(), entry.meta.stride);
            } else {
                buffer[..fits].copy_from_slice(&rest[..fits]);
                *meta = RecvMeta { len: fits, ..entry.meta };
                taken.filled += 1;
                entry.taken += fits;
            }
            if fits == 0 || entry.taken == entry.bytes.len() {
                let cost = entry.bytes.len() + ENTRY_BYTES;
                inner.entries.pop_front();
                inner.bytes -= cost;
            }
        }
        taken
    }

    /// Wakes its reader for another reason.
    pub(super) fn wake(&self) {
        let reader = self.inner().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many datagrams of `stride` so many bytes are.
pub(super) fn datagrams(bytes: usize, stride: usize) -> u64 {
    u64::try_from(bytes.div_ceil(stride.max(1))).unwrap_or(u64::MAX)
}
