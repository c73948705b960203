//! Upgrade without loss: a process that serves starts its successor, hands it the listening sockets and the keys, lets go
//! of the ledger when the successor has compiled what is active, and of new connections when it is ready. It drains when
//! the successor has served well for a while. State has one owner at any time; whatever fails before, the old process
//! takes back what it gave.
//!
//! The two talk over an inherited socket pair and nothing else. Which connection goes where is `front`'s to steer.

pub mod give;
pub(crate) mod successor;
pub mod take;
mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

/// How far an upgrade to the next process has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nobody asked for one.
    None,
    /// The new process is being started.
    Starting,
    /// It compiles what is active.
    Preparing,
    /// It has the ledger, and loads.
    Taking,
    /// It serves, and is watched for a while.
    Proving,
    /// It serves for good; this process drains.
    Done,
    /// It did not become ready; this process serves on.
    Failed(String),
}

impl Step {
    fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starting => "starting",
            Self::Preparing => "preparing",
            Self::Taking => "taking",
            Self::Proving => "proving",
            Self::Done => "done",
            Self::Failed(_) => "failed",
        }
    }
}

/// The upgrades of one process: what was asked, and how far it is.
#[derive(Debug)]
pub struct Upgrades {
    step: Mutex<Step>,
    /// The process that is to take over, 0: there is none.
    successor: AtomicU32,
    asked: Notify,
    /// Whether the process before this one still drains.
    before: watch::Sender<bool>,
    /// Whether the admin takes connections.
    doors: watch::Sender<bool>,
}

impl Upgrades {
    /// Those of a process that another one started to take over, or of one that begins by itself.
    pub fn new(is_heir: bool) -> Self {
        Self {
            step: Mutex::new(Step::None),
            successor: AtomicU32::new(0),
            asked: Notify::new(),
            before: watch::Sender::new(is_heir),
            doors: watch::Sender::new(false),
        }
    }

    /// Asks for an upgrade.
    ///
    /// # Errors
    /// Why there can be none now.
    pub fn ask(&self) -> Result<(), &'static str> {
        let mut step = self.step();
        match *step {
            Step::Starting | Step::Preparing | Step::Taking | Step::Proving => Err("an upgrade is under way"),
            Step::Done => Err("another process has taken over"),
            _ if *self.before.borrow() => Err("the process before this one still drains"),
            Step::None | Step::Failed(_) => {
                *step = Step::Starting;
                self.asked.notify_one();
                Ok(())
            }
        }
    }

    /// For those who look: this process, and how far its upgrade is.
    pub fn view(&self) -> Value {
        let step = self.step().clone();
        let why = if let Step::Failed(why) = &step { Some(why) } else { None };
        json!({
            "pid": std::process::id(),
            "state": step.word(),
            "why": why,
            "successor": Some(self.successor.load(Ordering::Relaxed)).filter(|pid| *pid != 0),
            "predecessor_drains": *self.before.borrow(),
        })
    }

    /// Whether another process has taken over.
    pub fn is_handed_over(&self) -> bool {
        *self.step() == Step::Done
    }

    /// Whether the admin may take connections: not before this process is the one to ask, nor after.
    pub(crate) fn doors(&self) -> watch::Receiver<bool> {
        self.doors.subscribe()
    }

    pub(crate) fn open_doors(&self) {
        self.doors.send_replace(true);
    }

    pub(crate) fn close_doors(&self) {
        self.doors.send_replace(false);
    }

    /// The process before this one has ended.
    pub(crate) fn is_alone(&self) {
        self.before.send_replace(false);
    }

    /// The process that is to take over; none when it has ended.
    pub(crate) fn successor(&self, pid: Option<u32>) {
        self.successor.store(pid.unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn now(&self, step: Step) {
        *self.step() = step;
    }

    fn step(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_upgrade_at_a_time_and_none_while_the_process_before_drains() {
        let upgrades = Upgrades::new(true);
        assert_eq!(upgrades.ask(), Err("the process before this one still drains"));
        upgrades.is_alone();
        assert_eq!(upgrades.ask(), Ok(()));
        for step in [Step::Starting, Step::Preparing, Step::Taking, Step::Proving] {
            upgrades.now(step);
            assert_eq!(upgrades.ask(), Err("an upgrade is under way"));
        }
        upgrades.now(Step::Failed("no such file".to_owned()));
        assert_eq!(upgrades.view()["why"], "no such file");
        assert_eq!(upgrades.ask(), Ok(()), "after a failure there may be another");
        upgrades.now(Step::Done);
        assert_eq!((upgrades.ask(), upgrades.is_handed_over()), (Err("another process has taken over"), true));
    }
}
