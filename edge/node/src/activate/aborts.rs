//! Who took the process down: when it aborts, the thread that does so writes down which release it was running. A release
//! that is named twice is set aside on this node.
//!
//! A process that is killed writes nothing, and a guest's own traps never come here: wasmtime handles those.
#![allow(unsafe_code)] // Signal handlers cannot be set in safe Rust.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Once, OnceLock};

use eyot_bundle::name::Name;
use eyot_guest::{Entering, Limit};

/// The file of notes in the state folder.
const NAME: &str = "aborted";
/// More notes than these are not read, in bytes.
const BYTES_MAX: u64 = 64 << 10;
/// The signals by which a process ends itself, or is ended for what it did.
const SIGNALS: [i32; 3] = [libc::SIGABRT, libc::SIGBUS, libc::SIGSEGV];

/// Where notes go; -1: nowhere.
static NOTES: AtomicI32 = AtomicI32::new(-1);
/// Whether this process has written its note.
static NOTED: AtomicBool = AtomicBool::new(false);
/// What handled each of [`SIGNALS`] before.
static BEFORE: OnceLock<[libc::sigaction; 3]> = OnceLock::new();

thread_local! {
    /// The note of the release that this thread runs, and its length.
    static RUNNING: Cell<(*const u8, usize)> = const { Cell::new((ptr::null(), 0)) };
}

/// Writes a note into `state` whenever this process aborts. Once a process; to be called before any engine of functions
/// is made, since that has to see the signals of its guests first.
///
/// # Errors
/// If the file cannot be opened, or a handler not be set.
pub fn watch(state: &Path) -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = install(state));
    result
}

fn install(state: &Path) -> io::Result<()> {
    let notes = OpenOptions::new().append(true).create(true).mode(0o600).open(path(state))?;
    NOTES.store(notes.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = note;
    let mut before = [unset(); 3];
    for (signal, before) in SIGNALS.iter().zip(&mut before) {
        // SAFETY: a null action only reads the present one into `before`, which is of the right type.
        if unsafe { libc::sigaction(*signal, ptr::null(), before) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let _ = BEFORE.set(before);
    for signal in SIGNALS {
        let mut action = unset();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: `action` is a whole sigaction whose handler only calls what POSIX lists as async-signal-safe.
        if unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn unset() -> libc::sigaction {
    // SAFETY: all zeroes is a valid sigaction: the default handler, no flags, an empty mask.
    unsafe { std::mem::zeroed() }
}

/// Writes the note of this thread, and lets the signal come again to whom it belonged before.
extern "C" fn note(signal: libc::c_int) {
    let (text, length) = RUNNING.try_with(Cell::get).unwrap_or((ptr::null(), 0));
    let notes = NOTES.load(Ordering::Relaxed);
    // A stack that overflows is a fault first and an abort then: one death, one note.
    if !text.is_null() && notes >= 0 && !NOTED.swap(true, Ordering::Relaxed) {
        // SAFETY: `text` points to the `length` bytes of a mark that this very thread put there and has not taken back:
        // it is alive for as long as it is there (`Limit::on_thread`).
        unsafe { libc::write(notes, text.cast(), length) };
    }
    let before = BEFORE.get().zip(SIGNALS.iter().position(|known| *known == signal));
    if let Some((before, at)) = before {
        // SAFETY: an action that was in force before, read whole by `sigaction`.
        unsafe { libc::sigaction(signal, &before[at], ptr::null_mut()) };
    }
    if signal == libc::SIGABRT {
        // A fault happens again when its instruction does, an abort that somebody sent (systemd's watchdog) does not.
        // SAFETY: `raise` is async-signal-safe; what it raises waits until this handler has returned.
        unsafe { libc::raise(signal) };
    }
}

fn path(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// How often each release was named since the notes were last forgotten.
pub fn notes(state: &Path) -> BTreeMap<(Name, u64), u32> {
    let mut text = String::new();
    let read = File::open(path(state)).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    let mut named = BTreeMap::new();
    if read.is_ok() {
        let parsed = text.lines().filter_map(|line| {
            let (app, release) = line.split_once(' ')?;
            Some((app.parse::<Name>().ok()?, release.parse::<u64>().ok()?))
        });
        parsed.for_each(|release| *named.entry(release).or_insert(0) += 1);
    }
    named
}

/// Forgets the notes: they are counted elsewhere. The file stays, since a handler may have it open.
///
/// # Errors
/// What the system said.
pub fn forget(state: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path(state)) {
        Ok(file) => file.set_len(0).and_then(|()| file.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// An app's share that also knows for which release it is drawn on.
pub struct Marked<L> {
    share: Arc<L>,
    /// `shop 417` and a newline.
    text: Box<[u8]>,
}

impl<L> Marked<L> {
    /// The share of `app`, for calls of `release`.
    pub fn new(share: Arc<L>, app: &Name, release: u64) -> Self {
        Self { share, text: format!("{app} {release}\n").into_bytes().into() }
    }
}

impl<L: Limit> Limit for Marked<L> {
    fn memory(&self, bytes: u64) -> bool {
        self.share.memory(bytes)
    }

    fn memory_back(&self, bytes: u64) {
        self.share.memory_back(bytes);
    }

    fn cpu(&self, us: u64) -> bool {
        self.share.cpu(us)
    }

    fn enter(&self) -> Entering {
        self.share.enter()
    }

    fn enter_below(&self, depth: u8) -> Entering {
        self.share.enter_below(depth)
    }

    fn on_thread(&self, runs: bool) {
        let mark = if runs { (self.text.as_ptr(), self.text.len()) } else { (ptr::null(), 0) };
        RUNNING.with(|running| running.set(mark));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    struct Free;

    impl Limit for Free {
        fn memory(&self, _: u64) -> bool {
            true
        }

        fn memory_back(&self, _: u64) {}

        fn cpu(&self, _: u64) -> bool {
            true
        }

        fn enter(&self) -> Entering {
            Box::pin(async { Ok(Box::new(()) as Box<dyn Send>) })
        }
    }

    /// Set in the process that is to die: how.
    const DIES: &str = "EYOT_TEST_DIES";
    const STATE: &str = "EYOT_TEST_STATE";

    #[test]
    fn the_release_that_a_dying_thread_runs_is_named_and_no_other() {
        if let Ok(how) = std::env::var(DIES) {
            die(&how, &PathBuf::from(std::env::var(STATE).expect("told")));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let this = "activate::aborts::tests::the_release_that_a_dying_thread_runs_is_named_and_no_other";
        for (how, count) in [("abort", 1), ("overflow", 2), ("kill", 2), ("abort idle", 2), ("fault", 3), ("sent", 4)] {
            let exe = std::env::current_exe().expect("this test");
            let mut child = Command::new(exe);
            child.args([this, "--exact", "--nocapture"]).env(DIES, how).env(STATE, folder.path());
            let output = child.output().expect("run");
            assert!(!output.status.success(), "{how}");
            let expect = BTreeMap::from([(("shop".parse().expect("a name"), 417), count)]);
            assert_eq!(notes(folder.path()), expect, "{how}: {}", String::from_utf8_lossy(&output.stderr));
        }
        forget(folder.path()).expect("forgotten");
        assert!(notes(folder.path()).is_empty());
    }

    #[test]
    fn notes_are_read_no_further_than_64_kib() {
        let folder = tempfile::tempdir().expect("a folder");
        let filling = "x\n".repeat(32 << 10);
        for (text, count) in [(format!("shop 417\n{filling}"), 1), (format!("{filling}shop 417\n"), 0)] {
            std::fs::write(path(folder.path()), text).expect("written");
            assert_eq!(notes(folder.path()).len(), count);
        }
    }

    fn die(how: &str, state: &Path) -> ! {
        watch(state).expect("watched");
        let marked = |app: &str, release| Marked::new(Arc::new(Free), &app.parse().expect("a name"), release);
        let neighbour = marked("blog", 1);
        neighbour.on_thread(true);
        let how = how.to_owned();
        let thread = std::thread::spawn(move || {
            let shop = marked("shop", 417);
            shop.on_thread(how != "abort idle");
            match how.as_str() {
                "kill" => drop(rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)),
                "sent" => {
                    // SAFETY: it is meant to end here.
                    unsafe { libc::raise(libc::SIGABRT) };
                    #[expect(clippy::exit, reason = "an abort that did not end it is seen as a good end")]
                    std::process::exit(0);
                }
                "overflow" => drop(deeper(1)),
                // SAFETY: it is meant to fault.
                "fault" => unsafe { ptr::write_volatile(8 as *mut u8, 1) },
                _ => std::process::abort(),
            }
        });
        let _ = thread.join();
        std::process::abort()
    }

    #[expect(unconditional_recursion, reason = "it is meant to overflow the stack")]
    fn deeper(depth: u64) -> u64 {
        let array = std::hint::black_box([depth; 64]);
        deeper(array[3] + 1) + array[5]
    }
}
