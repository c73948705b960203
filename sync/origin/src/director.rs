//! The director: where each app's rollout stands, as pure steps from one control to the next.
//!
//! It can delay, pause, go on, and go back to what the newest release names in `previous`; what a control may say at all
//! is checked by `eyot_bundle::verify`, here and on every node.

use std::time::Duration;

use eyot_bundle::control::{Control, State};
use eyot_bundle::release::{FORMAT, Release};
use eyot_link::wire::{Action, RolloutRequest};
use http::StatusCode;
use jiff::Timestamp;

use crate::denied::Denied;

/// The control after `release` was published: at the plan's first step, or done if it has no other.
pub(crate) fn published(before: Option<&Control>, release: &Release, now: Timestamp) -> Control {
    let last = release.rollout.steps.len() <= 1 || release.rollout.instant;
    Control {
        format: FORMAT,
        app: release.app.clone(),
        seq: before.map_or(0, |control| control.seq) + 1,
        issued: now,
        release: release.number,
        base: before.map_or(0, running),
        step: if last { last_step(release) } else { 0 },
        state: if last { State::Done } else { State::Running },
        since: now,
        reason: None,
    }
}

/// The release that nodes go back to when the rollout of the next one fails.
fn running(control: &Control) -> u64 {
    match control.state {
        State::Done => control.release,
        State::Aborted | State::Paused | State::RolledBack | State::Running => control.base,
    }
}

/// The control after `request`. `release` is the one that `control` rolls out; `listed` are the numbers that the app's
/// role names.
pub(crate) fn act(
    control: &Control,
    release: &Release,
    listed: &[u64],
    request: RolloutRequest,
    who: &str,
    now: Timestamp,
) -> Result<Control, Denied> {
    let rolls_back = request.action == Action::Rollback;
    if let Some(number) = request.release.filter(|number| !rolls_back && *number != control.release) {
        return Err(conflict(format!("release {number} is not being rolled out; release {} is", control.release)));
    }
    let (state, step, base) = match (request.action, control.state) {
        (Action::Pause, State::Running) => (State::Paused, control.step, control.base),
        (Action::Resume, State::Aborted | State::Paused | State::RolledBack) => resumed(control, release),
        (Action::Promote, State::Paused | State::Running) => step_after(control, release),
        (Action::Abort, State::Paused | State::Running) => {
            (State::Aborted, control.step, back_to(control.base, control, release, listed)?)
        }
        (Action::Rollback, _) => rolled_back(control, release, listed, request.release)?,
        (Action::Abort | Action::Pause | Action::Promote | Action::Resume, state) => {
            return Err(conflict(format!("release {} is {}", control.release, word(state))));
        }
    };
    Ok(next(control, state, step, base, Some(format!("{} by {who}", action_word(request.action))), now))
}

/// The control after the bake of the present step, if it has passed.
pub(crate) fn baked(control: &Control, release: &Release, now: Timestamp) -> Option<Control> {
    let step = release.rollout.steps.get(usize::try_from(control.step).ok()?)?;
    let ready = control.since.checked_add(Duration::from_millis(step.bake_ms)).is_ok_and(|ready| now >= ready);
    if control.state != State::Running || !ready {
        return None;
    }
    let (state, step, base) = step_after(control, release);
    Some(next(control, state, step, base, None, now))
}

fn next(control: &Control, state: State, step: u32, base: u64, reason: Option<String>, now: Timestamp) -> Control {
    let seq = control.seq + 1;
    Control { seq, issued: now, step, base, state, since: now, reason, ..control.clone() }
}

/// The number of the plan's last step.
fn last_step(release: &Release) -> u32 {
    u32::try_from(release.rollout.steps.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

/// The step after the present one; the last is done as soon as it begins.
fn step_after(control: &Control, release: &Release) -> (State, u32, u64) {
    let step = control.step.saturating_add(1).min(last_step(release));
    let state = if step == last_step(release) { State::Done } else { State::Running };
    (state, step, control.base)
}

/// Goes on where it stood.
fn resumed(control: &Control, release: &Release) -> (State, u32, u64) {
    let state = if control.step >= last_step(release) { State::Done } else { State::Running };
    (state, control.step, control.base)
}

fn rolled_back(
    control: &Control,
    release: &Release,
    listed: &[u64],
    to: Option<u64>,
) -> Result<(State, u32, u64), Denied> {
    let to = match to {
        Some(to) => to,
        None => release.previous.iter().copied().max().ok_or_else(|| conflict("no release is named in `previous`"))?,
    };
    back_to(to, control, release, listed).map(|base| (State::RolledBack, control.step, base))
}

/// Whether nodes may go back to `base`, which a node asks too.
fn back_to(base: u64, control: &Control, release: &Release, listed: &[u64]) -> Result<u64, Denied> {
    let named = || release.previous.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if base == 0 {
        return Err(conflict(format!("release {} is the first: there is nothing to go back to", control.release)));
    }
    if !release.previous.contains(&base) {
        let detail = format!("release {} does not name {base} in `previous`; it names: {}", release.number, named());
        return Err(conflict(detail));
    }
    if base < release.min_release {
        return Err(conflict(format!("release {base} is below `min_release`, {}", release.min_release)));
    }
    if !listed.contains(&base) {
        return Err(conflict(format!("release {base} is no longer listed by its publishers")));
    }
    Ok(base)
}

fn conflict(detail: impl Into<String>) -> Denied {
    Denied::request(StatusCode::CONFLICT, "rollout", detail)
}

fn word(state: State) -> &'static str {
    match state {
        State::Aborted => "aborted: resume it, or publish the next",
        State::Done => "done already: `rollback` goes back",
        State::Paused => "paused",
        State::RolledBack => "rolled back: resume it, or publish the next",
        State::Running => "running",
    }
}

pub(crate) fn action_word(action: Action) -> &'static str {
    match action {
        Action::Abort => "abort",
        Action::Pause => "pause",
        Action::Promote => "promote",
        Action::Resume => "resume",
        Action::Rollback => "rollback",
    }
}

#[cfg(test)]
mod tests {
    use eyot_bundle::release::{Rollout, Step};
    use eyot_bundle::verify;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn release(number: u64, previous: &[u64], bakes_ms: &[u64]) -> Release {
        let step = |bake_ms: &u64| Step { select: "*".to_owned(), percent_bp: 10_000, bake_ms: *bake_ms };
        Release {
            format: FORMAT,
            app: "shop".parse().expect("a name"),
            number,
            created: at(0),
            previous: previous.to_vec(),
            min_release: 0,
            hosts: Vec::new(),
            functions: std::collections::BTreeMap::new(),
            upstreams: std::collections::BTreeMap::new(),
            files: Default::default(),
            stores: Default::default(),
            schedules: Vec::new(),
            queues: Vec::new(),
            routes: Vec::new(),
            rollout: Rollout { steps: bakes_ms.iter().map(step).collect(), ..Rollout::default() },
        }
    }

    fn ask(action: Action, release: Option<u64>) -> RolloutRequest {
        RolloutRequest { action, release }
    }

    /// What the director writes, every node's check takes.
    fn sound(control: impl std::borrow::Borrow<Control>) -> Control {
        let control = control.borrow();
        let bytes = eyot_bundle::sign::document(control).expect("a document");
        verify::control(&bytes, &control.app).expect("a control that nodes take")
    }

    #[test]
    fn a_release_without_steps_to_wait_for_is_done_at_once_and_can_be_taken_back() {
        let first = sound(published(None, &release(1, &[], &[0]), at(0)));
        assert_eq!((first.state, first.base, first.seq), (State::Done, 0, 1));
        let two = release(2, &[1], &[0]);
        let second = sound(published(Some(&first), &two, at(1)));
        assert_eq!((second.state, second.base, second.seq), (State::Done, 1, 2));
        for to in [None, Some(1)] {
            let back = act(&second, &two, &[1, 2], ask(Action::Rollback, to), "k", at(2)).expect("a rollback");
            assert_eq!((back.state, back.base, back.release), (State::RolledBack, 1, 2));
            let three = sound(published(Some(&sound(back)), &release(3, &[1, 2], &[0]), at(3)));
            assert_eq!((three.base, three.seq), (1, 4));
        }
    }

    #[test]
    fn nothing_goes_back_to_what_the_newest_release_does_not_name() {
        let two = release(2, &[1], &[0]);
        let control = published(Some(&published(None, &release(1, &[], &[0]), at(0))), &two, at(1));
        let bounded = Release { min_release: 2, ..two.clone() };
        for (release, listed, to) in
            [(&two, &[1, 2][..], 3), (&two, &[2], 1), (&bounded, &[1, 2], 1), (&two, &[0, 1, 2], 0)]
        {
            let denied = act(&control, release, listed, ask(Action::Rollback, Some(to)), "k", at(2));
            assert_eq!(denied.expect_err("no way back").code(), "rollout", "{to}");
        }
        let first = published(None, &release(1, &[], &[9, 0]), at(0));
        assert!(act(&first, &release(1, &[], &[9, 0]), &[1], ask(Action::Abort, None), "k", at(1)).is_err());
    }

    #[test]
    fn a_rollout_goes_on_by_its_bakes_holds_when_paused_and_jumps_when_promoted() {
        let plan = release(2, &[1], &[10_000, 10_000, 0]);
        let first = published(None, &release(1, &[], &[0]), at(0));
        let control = sound(published(Some(&first), &plan, at(0)));
        assert_eq!((control.state, control.step, baked(&control, &plan, at(9))), (State::Running, 0, None));
        let one = sound(baked(&control, &plan, at(10)).expect("the first bake has passed"));
        assert_eq!((one.state, one.step), (State::Running, 1));
        let paused = sound(act(&one, &plan, &[1, 2], ask(Action::Pause, Some(2)), "k", at(11)).expect("a pause"));
        assert_eq!(baked(&paused, &plan, at(99)), None);
        let on = sound(act(&paused, &plan, &[1, 2], ask(Action::Resume, None), "k", at(99)).expect("going on"));
        assert_eq!((on.state, on.step, baked(&on, &plan, at(100))), (State::Running, 1, None));
        let done = sound(act(&on, &plan, &[1, 2], ask(Action::Promote, None), "k", at(100)).expect("the last step"));
        assert_eq!((done.state, done.step), (State::Done, 2));
        for action in [Action::Pause, Action::Promote, Action::Resume, Action::Abort] {
            assert!(act(&done, &plan, &[1, 2], ask(action, None), "k", at(101)).is_err(), "{action:?}");
        }
        assert!(act(&on, &plan, &[1, 2], ask(Action::Pause, Some(1)), "k", at(101)).is_err());
        let aborted = sound(act(&on, &plan, &[1, 2], ask(Action::Abort, None), "k", at(101)).expect("an abort"));
        assert_eq!((aborted.state, aborted.base), (State::Aborted, 1));
    }
}
