//! Cohorts: which release of an app runs on this node, by the release's plan and the director's control.
//!
//! The director only moves along a plan the publisher signed: it can hold, pause or go back, never skip time. A step is
//! counted on this node no earlier than the bakes of all steps before it after the node first saw the release.

use eyot_bundle::control::{Control, State};
use eyot_bundle::digest::Hasher;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::{Release, Rollout, Step};
use jiff::Timestamp;

/// The shares a cohort is counted in: hundredths of a percent.
pub const PLACES: u16 = 10_000;

/// What runs on this node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The release that runs.
    pub runs: Runs,
    /// After how many milliseconds time alone brings the next counted step, if the control stays as it is.
    pub changes_ms: Option<u64>,
}

/// Which release runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Whatever is active stays, and where nothing is, nothing runs: there is no base to stand on.
    Held,
    /// This one.
    Release(u64),
}

/// The place of `key` (a node's id) under a rollout's salt: 0 to 9,999, the first eight bytes of
/// `sha256(salt, 0, key)` as a big-endian number, modulo 10,000. It is in a share of `n` if it is less than `n`.
pub fn place(salt: &str, key: &str) -> u16 {
    let mut hasher = Hasher::default();
    for piece in [salt.as_bytes(), &[0], key.as_bytes()] {
        hasher.update(piece);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finish().as_bytes()[..8]);
    u16::try_from(u64::from_be_bytes(first) % u64::from(PLACES)).unwrap_or(0)
}

/// Which release runs on `node` at `now`, if it first saw `release` at `seen`.
///
/// `running` and `paused`: `release` in the cohort of the steps up to the control's, else `base`. `done`: as at the last
/// step, for all nodes. `aborted` and `rolled_back`: `base`.
///
/// # Errors
/// `incompatible` if `control` is not about `release`; `older_than_floor` if it goes back to what `release` does not
/// name in `previous`, or to below `min_release`.
pub fn runs(
    release: &Release,
    control: &Control,
    node: &str,
    seen: Timestamp,
    now: Timestamp,
) -> Result<Standing, Refusal> {
    if (&control.app, control.release) != (&release.app, release.number) {
        let (app, number) = (&control.app, control.release);
        let detail = format!("the control is for {app}/{number}, the release is {}/{}", release.app, release.number);
        return Err(Refusal::new(Reason::Incompatible, detail));
    }
    let going_back = matches!(control.state, State::Aborted | State::RolledBack);
    let base = match base(release, control) {
        Ok(base) => base,
        Err(refusal) if going_back => return Err(refusal),
        Err(_) => Runs::Held,
    };
    if going_back {
        return Ok(Standing { runs: base, changes_ms: None });
    }
    let plan = &release.rollout;
    let first_of_all = release.previous.is_empty();
    if control.state == State::Done && first_of_all {
        // The bakes guard what ran before; here nothing did, and a node that joins late need not stand idle.
        return Ok(Standing { runs: Runs::Release(release.number), changes_ms: None });
    }
    let told = match control.state {
        State::Done => plan.steps.len(),
        _ => usize::try_from(control.step).map_or(usize::MAX, |step| step.saturating_add(1)).min(plan.steps.len()),
    };
    let (counted, changes_ms) = counted(plan, told, passed_ms(seen, now));
    let place = place(&plan.salt, node);
    let in_cohort = plan.steps[..counted].iter().any(|step| selects(step) && place < step.percent_bp);
    let all = control.state == State::Done && counted == plan.steps.len();
    let runs = if in_cohort || all { Runs::Release(release.number) } else { base };
    Ok(Standing { runs, changes_ms: if runs == Runs::Release(release.number) { None } else { changes_ms } })
}

/// What `base` stands for. None at all is right only for the first release of an app.
fn base(release: &Release, control: &Control) -> Result<Runs, Refusal> {
    let base = control.base;
    let refuse = |why: &str| {
        let (app, number) = (&release.app, release.number);
        Err(Refusal::new(Reason::OlderThanFloor, format!("{app}/{number} does not go back to {base}: {why}")))
    };
    match base {
        0 if release.previous.is_empty() => Ok(Runs::Held),
        _ if !release.previous.contains(&base) => refuse("it does not name it in `previous`"),
        _ if base < release.min_release => refuse("it is below `min_release`"),
        _ => Ok(Runs::Release(base)),
    }
}

/// How many of the first `told` steps count after `passed_ms`, and when the next one will.
fn counted(plan: &Rollout, told: usize, passed_ms: u64) -> (usize, Option<u64>) {
    if plan.instant {
        return (told, None);
    }
    let mut starts_ms = 0u64;
    for (at, step) in plan.steps[..told].iter().enumerate() {
        if starts_ms > passed_ms {
            return (at, Some(starts_ms - passed_ms));
        }
        starts_ms = starts_ms.saturating_add(step.bake_ms);
    }
    (told, None)
}

/// Milliseconds from `seen` to `now`; a clock that went back has let no time pass.
fn passed_ms(seen: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(seen).as_millis()).unwrap_or(0)
}

/// Whether a step is for this node. A selector of a later format selects nothing, so the node stays where it is.
fn selects(step: &Step) -> bool {
    step.select == "*"
}

#[cfg(test)]
mod tests {
    use eyot_bundle::release::FORMAT;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    /// Number 9, three steps: 10 % baking 60 s, 50 % baking 300 s, all.
    fn release() -> Release {
        let step = |percent_bp, bake_ms| Step { select: "*".to_owned(), percent_bp, bake_ms };
        Release {
            format: FORMAT,
            app: "shop".parse().expect("a name"),
            number: 9,
            created: at(0),
            previous: vec![8, 3],
            min_release: 5,
            hosts: Vec::new(),
            functions: Default::default(),
            upstreams: Default::default(),
            files: Default::default(),
            stores: Default::default(),
            schedules: Vec::new(),
            queues: Vec::new(),
            routes: Vec::new(),
            rollout: Rollout {
                salt: "shop/9".to_owned(),
                steps: vec![step(1_000, 60_000), step(5_000, 300_000), step(10_000, 0)],
                ..Rollout::default()
            },
        }
    }

    fn control(state: State, step: u32, base: u64) -> Control {
        let app = "shop".parse().expect("a name");
        Control { format: 1, app, seq: 1, issued: at(0), release: 9, base, step, state, since: at(0), reason: None }
    }

    /// A node whose place is in `places`.
    fn node(places: std::ops::Range<u16>) -> String {
        let mut names = (0..).map(|number| format!("node-{number}"));
        names.find(|name| places.contains(&place("shop/9", name))).expect("some node is there")
    }

    #[test]
    fn a_node_runs_the_release_once_its_step_is_told_and_the_bakes_before_it_have_passed() {
        let (early, middle, late) = (node(0..1_000), node(1_000..5_000), node(5_000..10_000));
        let (new, old) = (Runs::Release(9), Runs::Release(8));
        use State::{Aborted, Done, Paused, RolledBack, Running};
        for (state, step, second, expect) in [
            (Running, 0, 0, [new, old, old]),
            (Running, 0, 9_999, [new, old, old]),
            (Running, 1, 0, [new, old, old]),
            (Running, 1, 59, [new, old, old]),
            (Running, 1, 60, [new, new, old]),
            (Running, 2, 60, [new, new, old]),
            (Running, 2, 359, [new, new, old]),
            (Running, 2, 360, [new, new, new]),
            (Running, u32::MAX, 360, [new, new, new]),
            (Running, 2, -500, [new, old, old]),
            (Paused, 1, 9_999, [new, new, old]),
            (Done, 2, 9_999, [new, new, new]),
            (Done, 0, 9_999, [new, new, new]),
            (Done, 2, 61, [new, new, old]),
            (Aborted, 2, 9_999, [old, old, old]),
            (RolledBack, 2, 9_999, [old, old, old]),
        ] {
            let run =
                |node: &str| runs(&release(), &control(state, step, 8), node, at(0), at(second)).expect("taken").runs;
            assert_eq!([run(&early), run(&middle), run(&late)], expect, "{state:?} step {step} after {second} s");
        }
    }

    #[test]
    fn it_tells_when_time_alone_brings_the_next_step() {
        let wait = |node: &str, step, second| {
            runs(&release(), &control(State::Running, step, 8), node, at(0), at(second)).expect("taken").changes_ms
        };
        let late = node(5_000..10_000);
        assert_eq!([wait(&late, 0, 0), wait(&late, 1, 10), wait(&late, 2, 100)], [None, Some(50_000), Some(260_000)]);
        assert_eq!(wait(&node(0..1_000), 2, 0), None);
    }

    #[test]
    fn an_instant_plan_bakes_nothing() {
        let mut release = release();
        release.rollout.instant = true;
        let late = node(5_000..10_000);
        let standing = runs(&release, &control(State::Running, 2, 8), &late, at(0), at(0)).expect("taken");
        assert_eq!(standing, Standing { runs: Runs::Release(9), changes_ms: None });
    }

    #[test]
    fn nothing_goes_back_to_what_the_release_does_not_name_or_forbids() {
        for (state, base, expect) in [
            (State::RolledBack, 8, Ok(Runs::Release(8))),
            (State::RolledBack, 7, Err(Reason::OlderThanFloor)),
            (State::RolledBack, 3, Err(Reason::OlderThanFloor)),
            (State::Aborted, 0, Err(Reason::OlderThanFloor)),
            (State::Aborted, 9, Err(Reason::OlderThanFloor)),
            (State::Running, 7, Ok(Runs::Held)),
            (State::Paused, 3, Ok(Runs::Held)),
            (State::Running, 0, Ok(Runs::Held)),
        ] {
            let standing = runs(&release(), &control(state, 0, base), &node(5_000..10_000), at(0), at(0));
            assert_eq!(standing.map(|it| it.runs).map_err(|it| it.reason), expect, "{state:?} {base}");
        }
    }

    #[test]
    fn the_first_release_of_an_app_stands_on_nothing() {
        let mut release = release();
        release.previous.clear();
        let late = node(5_000..10_000);
        for (state, expect) in
            [(State::Running, Runs::Held), (State::Aborted, Runs::Held), (State::Done, Runs::Release(9))]
        {
            let standing = runs(&release, &control(state, 0, 0), &late, at(0), at(0)).expect("taken");
            assert_eq!(standing.runs, expect, "{state:?}");
        }
    }

    #[test]
    fn a_control_for_another_release_or_app_and_a_selector_not_known_move_nothing() {
        let mut other = control(State::Running, 2, 8);
        other.release = 10;
        let refused = runs(&release(), &other, "n", at(0), at(0)).map_err(|refusal| refusal.reason);
        assert_eq!(refused, Err(Reason::Incompatible));
        let mut release = release();
        release.rollout.steps.truncate(1);
        release.rollout.steps[0].select = "region=eu-*".to_owned();
        let standing = runs(&release, &control(State::Running, 0, 8), &node(0..1_000), at(0), at(0)).expect("taken");
        assert_eq!(standing.runs, Runs::Release(8));
        release.rollout.steps.clear();
        let standing = runs(&release, &control(State::Running, 0, 8), "n", at(0), at(0)).expect("taken");
        assert_eq!(standing.runs, Runs::Release(8));
    }

    #[test]
    fn the_place_of_a_node_is_the_same_in_every_version() {
        assert_eq!([place("shop/417", "fra-1"), place("shop/418", "fra-1"), place("", "")], [3186, 9470, 3192]);
    }

    proptest! {
        #[test]
        fn a_wider_or_later_step_never_drops_a_node(
            key in "[a-z]{1,12}", steps in proptest::collection::vec((0u16..=10_000, 0u64..100_000), 1..6),
            step in 0u32..6, second in 0i64..600,
        ) {
            let mut release = release();
            release.rollout.steps = steps.into_iter()
                .map(|(percent_bp, bake_ms)| Step { select: "*".to_owned(), percent_bp, bake_ms }).collect();
            let run = |step, second| {
                runs(&release, &control(State::Running, step, 8), &key, at(0), at(second)).expect("taken").runs
            };
            if run(step, second) == Runs::Release(9) {
                prop_assert_eq!(run(step + 1, second), Runs::Release(9));
                prop_assert_eq!(run(step, second + 1), Runs::Release(9));
            }
        }

        #[test]
        fn the_time_it_names_is_when_it_counts_the_next_step(key in "[a-z]{1,12}", step in 0u32..4, second in 0i64..500) {
            let release = release();
            let control = control(State::Running, step, 8);
            let standing = runs(&release, &control, &key, at(0), at(second)).expect("taken");
            if let Some(wait_ms) = standing.changes_ms {
                let later = at(second) + jiff::SignedDuration::from_millis(i64::try_from(wait_ms).expect("short"));
                let after = runs(&release, &control, &key, at(0), later).expect("taken");
                prop_assert!(after.changes_ms != standing.changes_ms || after.runs != standing.runs);
            }
        }
    }
}
