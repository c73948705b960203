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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    fn meta(len: usize, stride: usize) -> RecvMeta {
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (len, stride);
        meta
    }

    /// What is taken at once into so many buffers of so many bytes, and how many datagrams were too long.
    fn take(mailbox: &Mailbox, buffers: usize, length: usize, cx: &Context<'_>) -> (Vec<(Vec<u8>, usize)>, u64) {
        let mut memory = vec![vec![0; length]; buffers];
        let mut room: Vec<_> = memory.iter_mut().map(|memory| IoSliceMut::new(memory)).collect();
        let mut metas = vec![RecvMeta::default(); buffers];
        let taken = mailbox.take(cx, &mut room, &mut metas);
        let all = memory.into_iter().zip(metas).take(taken.filled);
        (all.map(|(bytes, meta)| (bytes[..meta.len].to_vec(), meta.stride)).collect(), taken.dropped)
    }

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_mailbox_takes_4_mib_and_again_when_some_of_it_was_taken() {
        let mailbox = Mailbox::default();
        let (waker, bytes) = (Arc::<Counted>::default().into(), vec![1; 60_000]);
        let cx = Context::from_waker(&waker);
        let puts = (0..1000).take_while(|_| mailbox.put(meta(60_000, 1200), &bytes)).count();
        assert_eq!(puts, BYTES_MAX / (60_000 + ENTRY_BYTES));
        assert_eq!(take(&mailbox, 1, 65_536, &cx).0.len(), 1);
        assert!(mailbox.put(meta(60_000, 1200), &bytes));
        assert!(!mailbox.put(meta(60_000, 1200), &bytes));
        // Small ones cost what they hold the process to.
        let mailbox = Mailbox::default();
        let puts = (0..100_000).take_while(|_| mailbox.put(meta(1, 1), &[1])).count();
        assert_eq!(puts, BYTES_MAX / (1 + ENTRY_BYTES));
    }

    #[test]
    fn datagrams_come_out_whole_and_in_order_and_one_that_is_too_long_is_dropped() {
        let mailbox = Mailbox::default();
        let waker = Arc::<Counted>::default().into();
        let cx = Context::from_waker(&waker);
        let bytes: Vec<u8> = (0..25).collect();
        assert!(mailbox.put(meta(25, 10), &bytes) && mailbox.put(meta(12, 12), &bytes[..12]));
        assert!(mailbox.put(meta(5, 5), &bytes[20..]));
        let (taken, dropped) = take(&mailbox, 8, 11, &cx);
        let expect = [(0..10, 10), (10..20, 10), (20..25, 10), (20..25, 5)];
        let expect: Vec<_> = expect.map(|(range, stride)| (bytes[range].to_vec(), stride)).into();
        assert_eq!((taken, dropped), (expect, 1));
        assert_eq!(take(&mailbox, 8, 11, &cx), (vec![], 0));
        assert!(mailbox.put(meta(25, 10), &bytes));
        assert_eq!(take(&mailbox, 8, 20, &cx).0, [(bytes[..20].to_vec(), 10), (bytes[20..].to_vec(), 10)]);
        assert_eq!(mailbox.inner().bytes, 0, "nothing is kept");
    }

    #[test]
    fn its_reader_is_woken_by_what_comes_later() {
        let mailbox = Mailbox::default();
        let counted = Arc::<Counted>::default();
        let waker = Arc::clone(&counted).into();
        let cx = Context::from_waker(&waker);
        let woken = || counted.0.load(Ordering::SeqCst);
        assert!(mailbox.put(meta(1, 1), &[1]));
        assert_eq!(take(&mailbox, 1, 8, &cx).0.len(), 1);
        assert_eq!(woken(), 0);
        assert!(mailbox.put(meta(1, 1), &[1]) && mailbox.put(meta(1, 1), &[1]));
        assert_eq!(woken(), 1, "once, until it has looked");
        take(&mailbox, 1, 8, &cx);
        mailbox.wake();
        assert_eq!(woken(), 2);
    }
}
