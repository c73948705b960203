//! The CPU clock of another process: all its threads, those that ended too, in user and kernel mode, to the nanosecond.
//! `/proc/<pid>/stat` has the same figure in ticks of 10 ms.
#![allow(unsafe_code, reason = "the clock of another process is asked of the C library")]

/// The clock of one process. It must live as long as it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Clock(libc::clockid_t);

impl Clock {
    /// The clock of the process `id`.
    pub(crate) fn of(id: u32) -> Self {
        let id = libc::pid_t::try_from(id).expect("a process id");
        let mut clock = 0;
        // SAFETY: it writes one `clockid_t` to where the pointer leads, which is `clock`.
        let code = unsafe { libc::clock_getcpuclockid(id, &raw mut clock) };
        assert_eq!(code, 0, "the clock of process {id}");
        Self(clock)
    }

    /// What it shows, in microseconds since the process began.
    pub(crate) fn us(self) -> f64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes one `timespec` to where the pointer leads, which is `time`.
        let code = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        assert_eq!(code, 0, "the process of a clock has ended");
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    }
}
