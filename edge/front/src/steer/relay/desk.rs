//! The desk of a process: it looks at what was received, by the rule of the kernel's program, and passes on what is not
//! for its reader.

use core::ops::Range;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::Context;

use quinn::udp::RecvMeta;
use tokio::sync::watch;

use super::line::Line;
use super::mailbox::{Mailbox, Taken, datagrams};
use super::parcel;
use super::{Phase, View};
use crate::counts::Counts;
use crate::steer::Generation;
use crate::steer::program::Program;

/// Where datagrams of this process go.
#[derive(Debug)]
pub(in crate::steer) struct Desk {
    mine: Generation,
    /// One for each group of sockets.
    groups: Vec<Group>,
    view: watch::Sender<View>,
    counted: Arc<Counts>,
}

/// The endpoints of this process at one address.
#[derive(Debug)]
struct Group {
    mailboxes: Vec<Mailbox>,
    count: u32,
}

/// Where datagrams belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the endpoint of this number in this process.
    Mine(usize),
    /// To the other process.
    Theirs,
}

impl Desk {
    /// For so many endpoints at each group.
    pub(super) fn new(mine: Generation, endpoints: &[u32], view: View, counted: Arc<Counts>) -> Self {
        let group = |count: &u32| Group { mailboxes: (0..*count).map(|_| Mailbox::default()).collect(), count: *count };
        Self { mine, groups: endpoints.iter().map(group).collect(), view: watch::Sender::new(view), counted }
    }

    pub(super) fn mine(&self) -> Generation {
        self.mine
    }

    /// How this process stands now.
    pub(super) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// How it stands, as it changes.
    pub(super) fn views(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// From now on it stands so. A line that it leaves is closed.
    pub(super) fn set(&self, phase: Phase, peer: Option<Arc<Line>>) {
        if let Some(left) = self.view.send_replace(View { phase, peer }).peer {
            left.close();
        }
        self.wake();
    }

    /// The other process drains, if it still is there.
    pub(super) fn serve(&self) {
        self.view.send_modify(|view| view.phase = Phase::Serves);
        self.wake();
    }

    /// The other end of a line is gone; whatever came to its sockets is read here.
    pub(super) fn is_left_by(&self, line: &Arc<Line>) {
        self.view.send_if_modified(|view| view.without(line));
    }

    /// Endpoints look how it stands.
    fn wake(&self) {
        self.groups.iter().flat_map(|group| &group.mailboxes).for_each(Mailbox::wake);
    }

    /// Takes what waits for an endpoint.
    pub(super) fn take(
        &self,
        (group, endpoint): (usize, usize),
        cx: &Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        let mailbox = self.groups.get(group).and_then(|group| group.mailboxes.get(endpoint));
        let taken = mailbox.map_or_else(Taken::default, |mailbox| mailbox.take(cx, buffers, metas));
        self.counted.drop_relayed(taken.dropped);
        taken.filled
    }

    /// Passes datagrams on, whoever they are for.
    pub(super) fn pass_all(&self, view: &View, group: usize, meta: &RecvMeta, bytes: &[u8]) {
        for (way, range) in self.ways(view, group, meta.stride, bytes) {
            self.pass(view, group, way, meta, &bytes[range]);
        }
    }

    /// Passes on what came over a line: only to endpoints of this process, so that nothing goes in circles.
    pub(super) fn receive(&self, message: &[u8]) {
        let is_there = |group: usize| self.groups.get(group).is_some_and(|group| group.count > 0);
        let Some((group, meta, bytes)) = parcel::parse(message).filter(|(group, ..)| is_there(*group)) else {
            self.counted.drop_relayed(1);
            return;
        };
        let view = View { peer: None, ..self.view() };
        self.pass_all(&view, group, &meta, bytes);
    }

    /// Passes datagrams on that all go the same way.
    pub(super) fn pass(&self, view: &View, group: usize, way: Way, meta: &RecvMeta, bytes: &[u8]) {
        let meta = RecvMeta { len: bytes.len(), ..*meta };
        let passed = match (way, &view.peer) {
            (Way::Mine(endpoint), _) => {
                let mailbox = self.groups.get(group).and_then(|group| group.mailboxes.get(endpoint));
                mailbox.is_some_and(|mailbox| mailbox.put(meta, bytes))
            }
            (Way::Theirs, Some(peer)) => peer.send(group, &meta, bytes),
            (Way::Theirs, None) => false,
        };
        let count = datagrams(bytes.len(), meta.stride);
        if passed { self.counted.pass_on(count) } else { self.counted.drop_relayed(count) }
    }

    /// The ways of the datagrams of one receive, in order: neighbours that go the same way together. None for a group
    /// that there is not.
    pub(super) fn ways<'a>(
        &self,
        view: &View,
        group: usize,
        stride: usize,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (Way, Range<usize>)> + use<'a> {
        let (serves, other) = view.phase.steers(self.mine);
        let count = self.groups.get(group).map_or(0, |group| group.count);
        let base = if self.mine == Generation::Even { 0 } else { count };
        let program = Program::new(count, serves, other);
        let way = move |datagram: &[u8]| {
            let mine = program?.place(datagram).checked_sub(base).filter(|at| *at < count);
            Some(mine.map_or(Way::Theirs, |at| Way::Mine(at as usize)))
        };
        let stride = stride.max(1);
        let mut rest = 0..bytes.len();
        core::iter::from_fn(move || {
            let next = |at: usize| &bytes[at..bytes.len().min(at + stride)];
            let from = rest.start;
            let first = way(rest.next().map(|_| next(from))?)?;
            rest.start = bytes.len().min(from + stride);
            while rest.start < rest.end && way(next(rest.start)) == Some(first) {
                rest.start = bytes.len().min(rest.start + stride);
            }
            Some((first, from..rest.start))
        })
    }
}
