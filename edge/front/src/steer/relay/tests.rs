//! A desk between real sockets: datagrams that the kernel merged, another process at the end of a line, and one that has
//! gone wrong.

use core::future::poll_fn;
use std::io::{IoSliceMut, Read as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionIdGenerator as _, Runtime as _, TokioRuntime};

use super::*;
use crate::steer::Slotted;

/// Endpoints of a process in these tests.
const COUNT: u32 = 2;
/// The length of a datagram, but the last of those that come together.
const STRIDE: usize = 100;

/// A datagram of a connection of this slot, or of a new one; its last byte is a number.
fn datagram(slot: Option<u8>, number: u8, length: usize) -> Vec<u8> {
    let mut datagram = match slot {
        Some(slot) => [&[0x43], &Slotted(slot).generate_cid()[..]].concat(),
        None => [&[0xc3, 0, 0, 0, 1, 8], [number; 8].as_slice()].concat(),
    };
    datagram.resize(length, 0);
    datagram[length - 1] = number;
    datagram
}

fn desk(mine: Generation, phase: Phase) -> Arc<Desk> {
    Arc::new(Desk::new(mine, &[COUNT], View { phase, peer: None }, Arc::default()))
}

/// The numbers of datagrams of one stride.
fn numbers(bytes: &[u8], stride: usize) -> Vec<u8> {
    bytes.chunks(stride).map(|datagram| datagram[datagram.len() - 1]).collect()
}

/// The numbers of what waits in a mailbox.
async fn mailbox(desk: &Desk, endpoint: usize) -> Vec<u8> {
    let mut found = Vec::new();
    loop {
        let mut memory = vec![0; 1 << 16];
        let mut metas = [RecvMeta::default()];
        let buffers = &mut [IoSliceMut::new(&mut memory)];
        let filled = poll_fn(|cx| core::task::Poll::Ready(desk.take((0, endpoint), cx, buffers, &mut metas))).await;
        if filled == 0 {
            return found;
        }
        found.extend(numbers(&memory[..metas[0].len], metas[0].stride));
    }
}

/// The numbers of what has come over the other end of a line.
fn heard(there: &Socket) -> Vec<u8> {
    there.set_nonblocking(true).expect("a socket");
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 17];
    while let Ok(length @ 1..) = (&mut &*there).read(&mut buffer) {
        let (_, meta, bytes) = parcel::parse(&buffer[..length]).expect("it is one of ours");
        assert_eq!((meta.ecn, meta.addr.ip()), (Some(EcnCodepoint::Ect0), Ipv4Addr::LOCALHOST.into()));
        found.extend(numbers(bytes, meta.stride));
    }
    found
}

/// Lets other tasks go on until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1 << 20 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what}: it never is");
}

/// Sends datagrams at once where the system can, so that they come together.
async fn send(socket: &Arc<dyn AsyncUdpSocket>, destination: SocketAddr, bytes: &[u8]) {
    let mut poller = Arc::clone(socket).create_io_poller();
    poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.expect("a socket");
    let together = if socket.max_transmit_segments() > 1 { bytes.len() } else { STRIDE };
    for contents in bytes.chunks(together) {
        let ecn = Some(EcnCodepoint::Ect0);
        let transmit = Transmit { destination, ecn, contents, segment_size: Some(STRIDE), src_ip: None };
        socket.try_send(&transmit).expect("room");
    }
}

#[tokio::test]
async fn of_datagrams_that_come_together_each_goes_to_its_place_and_to_no_other() {
    let bound = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let address = bound.local_addr().expect("bound");
    bound.set_nonblocking(true).expect("a socket");
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    client.set_nonblocking(true).expect("a socket");
    let client = TokioRuntime.wrap_udp_socket(client).expect("a runtime");
    let socket = TokioRuntime.wrap_udp_socket(bound).expect("a runtime");
    // The even one of two processes, which drains.
    let desk = desk(Generation::Even, Phase::Alone);
    let (here, there) = line::pair().expect("a pair");
    Line::open(here, Phase::Drains, &desk).expect("a runtime");
    let there = Socket::from(there);
    let wrapped = Relayed { desk: Arc::clone(&desk), group: 0, endpoint: 0 }.wrap(socket);
    let slots = [Some(0), Some(0), Some(1), Some(0), None, Some(2), Some(3), Some(1), Some(0), None, Some(9), Some(0)];
    let mut bytes = Vec::new();
    for (number, slot) in slots.into_iter().enumerate() {
        let length = if number + 1 == slots.len() { STRIDE - 30 } else { STRIDE };
        bytes.extend(datagram(slot, u8::try_from(number).expect("few"), length));
    }
    let of = |wanted: &[Option<u8>]| -> Vec<u8> {
        (0..).zip(slots).filter(|(_, slot)| wanted.contains(slot)).map(|(number, _)| number).collect()
    };
    send(&client, address, &bytes).await;
    let mut own = Vec::new();
    while own.len() < of(&[Some(0)]).len() {
        let mut memory = vec![vec![0; 1 << 16]; 4];
        let mut buffers: Vec<_> = memory.iter_mut().map(|memory| IoSliceMut::new(memory)).collect();
        let mut metas = [RecvMeta::default(); 4];
        let count = poll_fn(|cx| wrapped.poll_recv(cx, &mut buffers, &mut metas)).await.expect("it receives");
        for (buffer, meta) in buffers.iter().zip(metas).take(count) {
            assert_eq!((meta.ecn, meta.addr), (Some(EcnCodepoint::Ect0), client.local_addr().expect("bound")));
            own.extend(numbers(&buffer[..meta.len], meta.stride));
        }
    }
    assert_eq!(own, of(&[Some(0)]));
    assert_eq!(mailbox(&desk, 1).await, of(&[Some(1)]));
    assert_eq!(heard(&there), of(&[Some(2), Some(3), Some(9), None]), "the rest is of the one that serves");
}

#[tokio::test]
async fn what_others_passed_on_comes_out_of_the_socket_beside_its_own() {
    let bound = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let address = bound.local_addr().expect("bound");
    bound.set_nonblocking(true).expect("a socket");
    let desk = desk(Generation::Even, Phase::Alone);
    let socket = TokioRuntime.wrap_udp_socket(bound).expect("a runtime");
    let wrapped = Relayed { desk: Arc::clone(&desk), group: 0, endpoint: 0 }.wrap(socket);
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let mut meta = RecvMeta::default();
    (meta.len, meta.stride) = (STRIDE, STRIDE);
    for number in 0..8 {
        client.send_to(&datagram(Some(0), 100 + number, STRIDE), address).expect("sent");
    }
    let (mut passed, mut own) = (Vec::new(), Vec::new());
    for round in 0..100_u8 {
        // More waits for it than it takes at once.
        for _ in 0..4 {
            desk.pass_all(&desk.view(), 0, &meta, &datagram(Some(0), round, STRIDE));
        }
        let mut memory = vec![vec![0; STRIDE]; 4];
        let mut buffers: Vec<_> = memory.iter_mut().map(|memory| IoSliceMut::new(memory)).collect();
        let mut metas = [RecvMeta::default(); 4];
        let count = poll_fn(|cx| wrapped.poll_recv(cx, &mut buffers, &mut metas)).await.expect("it receives");
        let found = buffers.iter().take(count).map(|buffer| buffer[STRIDE - 1]);
        let (from_socket, from_others): (Vec<_>, Vec<_>) = found.partition(|number| *number >= 100);
        own.extend(from_socket);
        passed.extend(from_others);
        if own.len() == 8 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(own, (100..108).collect::<Vec<_>>(), "its own come in order, however much others pass on");
    assert_eq!(passed[..4], [0, 0, 0, 0], "what was passed on comes, too");
}

#[test]
fn the_ways_of_what_came_together_are_those_of_each_datagram() {
    let mut random = [0; 64];
    for round in 0..2_000 {
        aws_lc_rs::rand::fill(&mut random).expect("randomness");
        let mine = if random[0].is_multiple_of(2) { Generation::Even } else { Generation::Odd };
        let phase = [Phase::Alone, Phase::Drains, Phase::Serves, Phase::Waits][usize::from(random[1] % 4)];
        let count = usize::from(random[2] % 20);
        let mut bytes: Vec<u8> = Vec::new();
        for number in 0..count {
            let slot = random[3 + number] % 6;
            bytes.extend(datagram((slot < 5).then_some(slot), slot, STRIDE));
        }
        bytes.truncate(bytes.len().saturating_sub(usize::from(random[30] % 99)));
        let desk = desk(mine, phase);
        let ways: Vec<_> = desk.ways(&desk.view(), 0, STRIDE, &bytes).collect();
        let ends: Vec<_> = ways.iter().map(|(_, range)| (range.start, range.end)).collect();
        let starts: Vec<_> = [0].into_iter().chain(ends.iter().map(|(_, end)| *end)).collect();
        assert!(ends.iter().zip(&starts).all(|((start, end), from)| start == from && end > start), "round {round}");
        assert_eq!(starts.last(), Some(&bytes.len()), "nothing is left out");
        for (way, range) in &ways {
            for datagram in bytes[range.clone()].chunks(STRIDE) {
                let alone: Vec<_> = desk.ways(&desk.view(), 0, STRIDE, datagram).map(|(way, _)| way).collect();
                assert_eq!(alone, [*way], "round {round}");
            }
        }
        assert!(ways.windows(2).all(|pair| pair[0].0 != pair[1].0), "neighbours of one way are together");
    }
}

#[tokio::test]
async fn a_peer_that_has_gone_wrong_is_believed_nothing_and_gets_nothing_back() {
    let counts = Arc::<Counts>::default();
    let view = View { phase: Phase::Alone, peer: None };
    let desk = Arc::new(Desk::new(Generation::Odd, &[COUNT], view, Arc::clone(&counts)));
    let (here, there) = line::pair().expect("a pair");
    Line::open(here, Phase::Serves, &desk).expect("a runtime");
    let there = Socket::from(there);
    let mut meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (([127, 0, 0, 1], 7).into(), STRIDE, STRIDE);
    let say = |group: usize, slot: Option<u8>| {
        let head = parcel::head(group, &meta).expect("it goes over");
        [head.as_slice(), &datagram(slot, 1, STRIDE)].concat()
    };
    for (message, what) in [
        (b"nonsense".to_vec(), "no head"),
        (vec![0xff; 1 << 16], "bytes"),
        (vec![1; parcel::HEAD_BYTES + parcel::BYTES_MAX + 900], "more than it could have received"),
        (say(0, Some(0)), "one of its own connections"),
        (say(9, Some(2)), "a group that there is not"),
    ] {
        let dropped = counts.relay_dropped();
        there.send(&message).expect("room");
        until(what, || counts.relay_dropped() > dropped).await;
        assert_eq!((counts.relay_dropped(), counts.relayed()), (dropped + 1, 0), "{what}");
    }
    there.send(&say(0, Some(2))).expect("room");
    there.send(&say(0, None)).expect("room");
    until("what is right is taken", || counts.relayed() == 2).await;
    let got = [mailbox(&desk, 0).await.len(), mailbox(&desk, 1).await.len()];
    assert_eq!(got.iter().sum::<usize>(), 2, "what is right is taken");
    assert!(heard(&there).is_empty(), "nothing comes back");
}

#[tokio::test]
async fn a_line_that_nobody_reads_fills_and_never_waits_and_one_without_an_end_is_left() {
    let counts = Arc::<Counts>::default();
    let view = View { phase: Phase::Alone, peer: None };
    let desk = Arc::new(Desk::new(Generation::Even, &[COUNT], view, Arc::clone(&counts)));
    let (here, there) = line::pair().expect("a pair");
    Line::open(here, Phase::Drains, &desk).expect("a runtime");
    let mut meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (([127, 0, 0, 1], 7).into(), STRIDE, STRIDE);
    let theirs = datagram(Some(2), 1, STRIDE);
    let mut sent = 0_u64;
    while counts.relay_dropped() == 0 {
        desk.pass_all(&desk.view(), 0, &meta, &theirs);
        sent += 1;
        assert!(sent < 1 << 20, "it is bounded");
    }
    assert!(sent > 100, "it carries some: {sent}");
    assert_eq!((counts.relayed(), counts.relay_dropped()), (sent - 1, 1));
    let mut views = desk.views();
    drop(there);
    views.wait_for(|view| view.peer.is_none()).await.expect("the desk is there");
    desk.pass_all(&desk.view(), 0, &meta, &theirs);
    assert_eq!((counts.relayed(), counts.relay_dropped()), (sent - 1, 2), "there is nobody");
    assert_eq!(desk.view().phase, Phase::Drains, "what is new is still not for this one");
}
