//! One schedule: waits until it is due, gets its turn, brings the event. It never overlaps itself, since all of that is one
//! task; what was missed meanwhile is made up by its last time, if that is not long ago.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::cron::Cron;
use eyot_bundle::release::Run;
use eyot_link::events::{TURN_MS, Turn, TurnRequest, TurnStep};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::Ground;
use super::message::{self, Event};
use super::turns::May;
use crate::entry::{Entry, Schedule};
use crate::telemetry::ScheduleResult;

/// A time that was missed is made up for so long.
const MISSED_MAX: SignedDuration = SignedDuration::from_hours(1);
/// The clock is looked at this often at least: it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);
/// How often another's turn is asked for again, at least.
const LATER_MAX: Duration = Duration::from_secs(1);
/// How often an origin that is away is asked again, and a disk that takes nothing.
const AGAIN: Duration = Duration::from_secs(5);
/// How long an origin may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a turn is asked for while it goes on.
const KEEP: Duration = Duration::from_millis(TURN_MS / 4);
/// How often the origin is told that a turn has ended, a second apart, until it has heard.
const DONE_TRIES: u32 = 30;

/// Runs a schedule until it is told to stop.
pub(super) async fn run(
    ground: Arc<Ground>,
    entry: Arc<Entry>,
    schedule: Arc<Schedule>,
    mut stop: watch::Receiver<bool>,
) {
    let mut beat = Beat { ground, entry, schedule, is_away: false };
    let mut from = beat.begin().await;
    loop {
        let look = look(&beat.schedule.cron, from, Timestamp::now());
        from = look.from;
        if look.missed {
            beat.missed();
        }
        let wait = match look.due {
            Ok(planned) => match beat.turn(planned).await {
                Taken::Over => {
                    from = planned;
                    beat.looked(from);
                    Duration::ZERO
                }
                Taken::Later(wait) => wait,
            },
            Err(wait) => wait,
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What a look at the clock says.
#[derive(Debug, PartialEq)]
struct Look {
    /// From when on times are looked at now.
    from: Timestamp,
    /// Whether some were left out, which are too old to be made up.
    missed: bool,
    /// The last time that is due, or how long to wait before the next look.
    due: Result<Timestamp, Duration>,
}

fn look(cron: &Cron, from: Timestamp, now: Timestamp) -> Look {
    let oldest = now.saturating_sub(MISSED_MAX).unwrap_or(from);
    let missed = from < oldest && cron.next(from).is_some_and(|due| due <= oldest);
    // A clock that was set back holds nothing up.
    let from = from.max(oldest).min(now);
    let wait = || {
        let next = cron.next(now).and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        next.unwrap_or(LOOK).min(LOOK)
    };
    Look { from, missed, due: cron.latest(from, now).ok_or_else(wait) }
}

/// One schedule being run.
struct Beat {
    ground: Arc<Ground>,
    entry: Arc<Entry>,
    schedule: Arc<Schedule>,
    /// Whether the origin did not answer when it was asked last.
    is_away: bool,
}

/// What came of a time.
enum Taken {
    /// It is to be asked for again.
    Later(Duration),
    /// There is nothing left to be done about it.
    Over,
}

impl Beat {
    /// From when on times are looked at: what was looked at last here, or was begun last before this process. A schedule
    /// that is new here has missed nothing.
    async fn begin(&self) -> Timestamp {
        let (app, id) = (&self.entry.app, &self.schedule.id);
        let known = match self.ground.looked(app, id) {
            Some(looked) => Some(looked),
            None => self.ground.files.last(app, id).await,
        };
        let from = known.unwrap_or_else(Timestamp::now);
        self.looked(from);
        from
    }

    fn looked(&self, until: Timestamp) {
        self.ground.look(&self.entry.app, &self.schedule.id, until);
    }

    fn missed(&self) {
        self.count(ScheduleResult::Missed);
        let (app, schedule) = (&self.entry.app, &self.schedule.written);
        tracing::warn!(%app, schedule, "times of a schedule were missed so long ago that they are not made up");
    }

    async fn turn(&mut self, planned: Timestamp) -> Taken {
        match self.schedule.run {
            Run::EachNode => self.here(planned).await,
            Run::Once => self.for_the_fleet(planned).await,
        }
    }

    /// Runs it if no process of this node has.
    async fn here(&self, planned: Timestamp) -> Taken {
        match self.ground.files.begin(&self.entry.app, &self.schedule.id, planned).await {
            Ok(May::Run(_held)) => {
                self.bring(planned).await;
                Taken::Over
            }
            Ok(May::NotAgain) => Taken::Over,
            Ok(May::NotYet) => Taken::Later(LATER_MAX),
            Err(error) => {
                tracing::error!(app = %self.entry.app, %error, "a schedule cannot be noted, and is not run");
                Taken::Later(AGAIN)
            }
        }
    }

    /// Runs it if the origin gives this node the turn.
    async fn for_the_fleet(&mut self, planned: Timestamp) -> Taken {
        match self.ask(planned, TurnStep::Claim).await {
            Err(why) => {
                self.away(&why);
                Taken::Later(AGAIN)
            }
            Ok(turn) => {
                self.is_away = false;
                match turn {
                    Turn::Later(ms) => Taken::Later(Duration::from_millis(ms).min(LATER_MAX)),
                    Turn::Past => {
                        self.count(ScheduleResult::Elsewhere);
                        Taken::Over
                    }
                    Turn::Yours(_) => {
                        self.with_turn(planned).await;
                        Taken::Over
                    }
                }
            }
        }
    }

    /// Runs it, keeps the turn meanwhile, and gives it back.
    async fn with_turn(&self, planned: Timestamp) {
        // So that it is known after a restart what was missed; that it cannot be noted holds up nothing.
        let _held = self.ground.files.begin(&self.entry.app, &self.schedule.id, planned).await;
        let running = self.bring(planned);
        tokio::pin!(running);
        loop {
            tokio::select! {
                () = &mut running => break,
                () = tokio::time::sleep(KEEP) => match self.ask(planned, TurnStep::Claim).await {
                    Ok(Turn::Yours(_)) => {}
                    Ok(Turn::Later(_) | Turn::Past) => tracing::error!(
                        app = %self.entry.app, schedule = self.schedule.written, %planned,
                        "the turn of a schedule was lost while it was run; another node may run it too"
                    ),
                    Err(why) => tracing::warn!(app = %self.entry.app, why, "the turn of a schedule could not be kept"),
                },
            }
        }
        for _ in 0..DONE_TRIES {
            match self.ask(planned, TurnStep::Done).await {
                Ok(_) => return,
                Err(why) => {
                    tracing::debug!(app = %self.entry.app, why, "the origin did not hear that a schedule has ended")
                }
            }
            tokio::time::sleep(LATER_MAX).await;
        }
        tracing::error!(
            app = %self.entry.app, schedule = self.schedule.written, %planned,
            "the origin did not hear that a schedule has ended; another node may run it again"
        );
    }

    async fn ask(&self, planned: Timestamp, step: TurnStep) -> Result<Turn, String> {
        let request =
            TurnRequest { schedule: self.schedule.id.clone(), planned, process: self.ground.process.clone(), step };
        match tokio::time::timeout(ANSWER, self.ground.client.turn(&self.entry.app, &request)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the origin did not answer in {} s", ANSWER.as_secs())),
        }
    }

    fn away(&mut self, why: &str) {
        self.count(ScheduleResult::Away);
        if !self.is_away {
            tracing::warn!(
                app = %self.entry.app, schedule = self.schedule.written, why,
                "the origin does not say whose turn a schedule is: it is not run"
            );
        }
        self.is_away = true;
    }

    async fn bring(&self, planned: Timestamp) {
        let (entry, schedule) = (&self.entry, &self.schedule);
        let event = Event {
            kind: "io.eyot.schedule",
            id: format!("{}-{planned}", schedule.id),
            source: format!("/apps/{}/schedules/{}", entry.app, schedule.id),
            subject: schedule.written.clone(),
            time: planned,
            attempt: 1,
            content_type: None,
            body: Bytes::new(),
        };
        let result = match message::bring(&self.ground.node, entry, &schedule.target, event).await {
            Ok(()) => ScheduleResult::Done,
            Err(_) => ScheduleResult::Failed,
        };
        self.count(result);
    }

    fn count(&self, result: ScheduleResult) {
        self.ground.node.telemetry.schedule(&self.entry.label, &self.schedule.target.route, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_missed_the_last_time_is_made_up_for_an_hour() {
        let at = |text: &str| -> Timestamp { format!("2026-11-23T{text}Z").parse().expect("a time") };
        let cron = Cron::parse("*/10 * * * *", "UTC").expect("a schedule");
        let wait = |seconds| Err(Duration::from_secs(seconds));
        for (from, now, expect) in [
            ("06:00:00", "06:05:00", (at("06:00:00"), false, wait(30))),
            ("06:00:00", "06:09:50", (at("06:00:00"), false, wait(10))),
            ("06:00:00", "06:10:00", (at("06:00:00"), false, Ok(at("06:10:00")))),
            ("06:00:00", "06:59:59", (at("06:00:00"), false, Ok(at("06:50:00")))),
            ("06:00:00", "07:00:00", (at("06:00:00"), false, Ok(at("07:00:00")))),
            ("06:00:00", "07:10:00", (at("06:10:00"), true, Ok(at("07:10:00")))),
            ("06:00:00", "05:00:00", (at("05:00:00"), false, wait(30))),
        ] {
            let (from_then, missed, due) = expect;
            assert_eq!(look(&cron, at(from), at(now)), Look { from: from_then, missed, due }, "{from} {now}");
        }
        let daily = Cron::parse("0 3 * * *", "UTC").expect("a schedule");
        let late = look(&daily, at("02:00:00"), at("04:00:01"));
        assert_eq!((late.missed, late.due.is_ok()), (true, false), "an hour and a second late");
        assert_eq!(look(&daily, at("02:00:00"), at("03:59:59")).due, Ok(at("03:00:00")));
    }
}
