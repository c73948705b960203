//! What is watched while an attack goes on: the node's memory, and a neighbour's requests.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::{House, MARGIN_BYTES};
use crate::harness::client::PROTOCOLS;
use crate::harness::size::size;

/// The moment between two looks at the memory.
const LOOK: Duration = Duration::from_millis(50);

/// So many looks of a series are printed.
const PRINTED: usize = 12;

/// Does something, beside a neighbour all of whose requests must be answered; the node's memory may grow by `room_bytes`
/// and the margin while it is done.
pub(super) fn watched<T>(house: &House, what: &str, room_bytes: u64, attack: impl FnOnce() -> T) -> T {
    let id = house.node.process.id();
    // From here on the peak is the attack's.
    fs::write(format!("/proc/{id}/clear_refs"), "5").expect("a process of ours");
    let before = memory_bytes(id, "VmRSS");
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (stop, stopped) = channel();
    let (done, series) = std::thread::scope(|scope| {
        let series = scope.spawn(move || series(id, &stopped));
        scope.spawn(|| neighbour(house, &over, &answered));
        let end = End { over: &over, _stop: stop };
        let done = attack();
        drop(end);
        (done, series.join().expect("no panic"))
    });
    let after = memory_bytes(id, "VmRSS");
    let peak = memory_bytes(id, "VmHWM").max(series.iter().max().map_or(0, |kib| kib << 10));
    let calls = answered.load(Ordering::Relaxed);
    println!("RSS of {what}: before {} peak {} after {} KiB; {series:?}", before >> 10, peak >> 10, after >> 10);
    println!("beside {what}: {calls} requests of a neighbour were answered");
    let grown = peak.saturating_sub(before);
    assert!(grown <= room_bytes + MARGIN_BYTES, "{what}: the memory grew by {grown} bytes, room is {room_bytes}");
    assert!(house.node.metric("eyot_panics_total") < 1.0, "{}", house.node.admin("/metrics").text());
    done
}

/// Ends what goes on beside an attack, also when that fails.
struct End<'a> {
    over: &'a AtomicBool,
    _stop: Sender<()>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Asks over one protocol after the other until the attack is over, and so often at the least.
fn neighbour(house: &House, over: &AtomicBool, answered: &AtomicUsize) {
    for protocol in PROTOCOLS.iter().cycle() {
        if over.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) >= size().neighbour_calls {
            return;
        }
        let path = if answered.load(Ordering::Relaxed).is_multiple_of(2) { "/fixed" } else { "/up/any" };
        house.served(*protocol, path);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// The memory every now and then, in KiB, thinned out.
fn series(id: u32, stopped: &Receiver<()>) -> Vec<u64> {
    let mut all = Vec::new();
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        all.push(memory_bytes(id, "VmRSS") >> 10);
    }
    let step = all.len().div_ceil(PRINTED).max(1);
    all.into_iter().step_by(step).collect()
}

/// A line of `/proc/<id>/status`, in bytes.
pub(super) fn memory_bytes(id: u32, line: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let found = text.lines().find_map(|row| row.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|row| row.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("no {line} in {text}")) << 10
}
