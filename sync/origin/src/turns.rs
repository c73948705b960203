//! Whose turn it is to run a schedule: each of its times goes to one node, and to another only if that one has neither
//! said that it ended nor asked for more time. A turn that is not over holds back the later ones, so a schedule does not
//! overlap itself. What was decided is durable before it is told.

use std::collections::BTreeMap;

use eyot_bundle::name::Name;
use eyot_link::events::{TURN_MS, Turn, TurnRequest, TurnStep};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::denied::Denied;
use crate::heads::{Entry, Heads};

/// Schedules of one app that are remembered: those of a few releases.
const SCHEDULES_MAX: usize = 400;
/// A time that has passed so long ago is nobody's turn, in seconds; what is remembered need not go back further.
const PAST_S: i64 = 86_400;
/// So much earlier than the origin a node's clock may say that a time has come, in milliseconds.
const EARLY_MS: i64 = 500;
/// Nobody is told to wait longer than this, in milliseconds.
const WAIT_MS_MAX: i64 = 60_000;
/// How often a head is read again after another origin was first.
const TRIES_MAX: usize = 16;
const SCHEDULE_DIGITS: usize = 16;
const PROCESS_BYTES_MAX: usize = 64;

/// The turn that was had last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Had {
    planned: Timestamp,
    node: Name,
    process: String,
    until: Timestamp,
    done: bool,
}

/// Those of one app, by schedule: the value of its head.
type All = BTreeMap<String, Had>;

/// The turns of all apps. One at a time is written.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<()>);

impl Turns {
    /// What `node` is told.
    pub(crate) async fn ask(
        &self,
        heads: &impl Heads,
        app: &Name,
        node: &Name,
        request: &TurnRequest,
        now: Timestamp,
    ) -> Result<Turn, Denied> {
        check(request)?;
        let key = format!("events/{app}");
        // Most ask in vain: they need not wait for a disk.
        let all = read(heads.get(&key).await?.as_ref());
        let (answer, None) = decide(all.get(&request.schedule), node, request, now) else {
            let _one = self.0.lock().await;
            return write(heads, &key, node, request, now).await;
        };
        Ok(answer)
    }
}

async fn write(
    heads: &impl Heads,
    key: &str,
    node: &Name,
    request: &TurnRequest,
    now: Timestamp,
) -> Result<Turn, Denied> {
    for _ in 0..TRIES_MAX {
        let entry = heads.get(key).await?;
        let mut all = read(entry.as_ref());
        let (answer, had) = decide(all.get(&request.schedule), node, request, now);
        let Some(had) = had else { return Ok(answer) };
        all.insert(request.schedule.clone(), had);
        forget(&mut all, now);
        if all.len() > SCHEDULES_MAX {
            let detail = format!("{SCHEDULES_MAX} schedules of an app are remembered for a day; this is one more");
            return Err(Denied::request(StatusCode::INSUFFICIENT_STORAGE, "too_many", detail));
        }
        let bytes = serde_json::to_vec(&all).map_err(|error| Denied::Failed(error.to_string()))?;
        match heads.swap(key, entry.map(|entry| entry.version), bytes.into()).await.map_err(Denied::from) {
            Ok(_) => return Ok(answer),
            Err(Denied::Moved) => {}
            Err(denied) => return Err(denied),
        }
    }
    Err(Denied::Moved)
}

/// What there is to be told, and what is to be remembered first.
fn decide(had: Option<&Had>, node: &Name, request: &TurnRequest, now: Timestamp) -> (Turn, Option<Had>) {
    let TurnRequest { planned, process, step, .. } = request;
    let is_theirs = |had: &&Had| had.node == *node && had.process == *process && had.planned == *planned;
    let theirs = had.filter(is_theirs);
    let turn = |done| Had {
        planned: *planned,
        node: node.clone(),
        process: process.clone(),
        until: now.saturating_add(SignedDuration::from_millis(TURN_MS.cast_signed())).unwrap_or(now),
        done,
    };
    let grant = (Turn::Yours(TURN_MS), Some(turn(false)));
    match (step, theirs, had) {
        (_, Some(theirs), _) if theirs.done => (Turn::Past, None),
        (TurnStep::Claim, Some(_), _) => grant,
        (TurnStep::Done, Some(_), _) => (Turn::Yours(0), Some(turn(true))),
        // It was given to another.
        (TurnStep::Done, None, _) => (Turn::Past, None),
        (TurnStep::Claim, None, _) if ahead_ms(*planned, now) > EARLY_MS => (later(*planned, now), None),
        (TurnStep::Claim, None, _) if ahead_ms(*planned, now) < -PAST_S * 1000 => (Turn::Past, None),
        (TurnStep::Claim, None, Some(had)) if had.planned > *planned => (Turn::Past, None),
        (TurnStep::Claim, None, Some(had)) if had.done && had.planned == *planned => (Turn::Past, None),
        (TurnStep::Claim, None, Some(had)) if !had.done && had.until > now => (later(had.until, now), None),
        (TurnStep::Claim, None, _) => grant,
    }
}

fn ahead_ms(at: Timestamp, now: Timestamp) -> i64 {
    at.as_millisecond().saturating_sub(now.as_millisecond())
}

fn later(at: Timestamp, now: Timestamp) -> Turn {
    Turn::Later(ahead_ms(at, now).clamp(1, WAIT_MS_MAX).cast_unsigned())
}

/// Forgets what nobody can ask for any more.
fn forget(all: &mut All, now: Timestamp) {
    all.retain(|_, had| ahead_ms(had.planned.max(had.until), now) >= -PAST_S * 1000);
}

fn check(request: &TurnRequest) -> Result<(), Denied> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if request.schedule.len() != SCHEDULE_DIGITS || !request.schedule.bytes().all(is_digit) {
        return Err(Denied::malformed(format!("a schedule is named by {SCHEDULE_DIGITS} hexadecimal digits")));
    }
    let process = &request.process;
    if process.is_empty() || process.len() > PROCESS_BYTES_MAX || !process.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Denied::malformed(format!("a process is named by 1 to {PROCESS_BYTES_MAX} visible characters")));
    }
    Ok(())
}

/// What is remembered. What cannot be read is as if it was not there: it is of passing use.
fn read(entry: Option<&Entry>) -> All {
    entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::redb::RedbHeads;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn request(planned: i64, process: &str, step: TurnStep) -> TurnRequest {
        TurnRequest { schedule: "0123456789abcdef".to_owned(), planned: at(planned), process: process.to_owned(), step }
    }

    const CLAIM: TurnStep = TurnStep::Claim;
    const DONE: TurnStep = TurnStep::Done;

    #[tokio::test]
    async fn each_time_of_a_schedule_is_one_nodes_turn_and_anothers_only_when_that_one_is_silent() {
        let yours = Turn::Yours(TURN_MS);
        // Who asks, for which time, what, at which second; and what is answered.
        type Asked<'a> = (&'a str, i64, TurnStep, i64, Turn);
        let stories: &[(&str, &[Asked<'_>])] = &[
            (
                "the first has it, and says when it has ended",
                &[
                    ("a", 0, CLAIM, 0, yours),
                    ("b", 0, CLAIM, 0, Turn::Later(10_000)),
                    ("a", 0, CLAIM, 4, yours),
                    ("b", 0, CLAIM, 10, Turn::Later(4_000)),
                    ("a", 0, DONE, 11, Turn::Yours(0)),
                    ("b", 0, CLAIM, 11, Turn::Past),
                    ("a", 0, CLAIM, 11, Turn::Past),
                    ("a", 0, DONE, 12, Turn::Past),
                    ("b", 60, CLAIM, 60, yours),
                ],
            ),
            (
                "one that is silent loses it when its time is over, and not before",
                &[
                    ("a", 0, CLAIM, 0, yours),
                    ("b", 0, CLAIM, 9, Turn::Later(1_000)),
                    ("b", 0, CLAIM, 10, yours),
                    ("a", 0, CLAIM, 10, Turn::Later(10_000)),
                    ("a", 0, DONE, 10, Turn::Past),
                    ("b", 0, DONE, 11, Turn::Yours(0)),
                ],
            ),
            (
                "a late holder goes on when nobody asked meanwhile",
                &[("a", 0, CLAIM, 0, yours), ("a", 0, CLAIM, 30, yours), ("b", 0, CLAIM, 31, Turn::Later(9_000))],
            ),
            (
                "a turn that goes on holds back the next time, and one that is dead is passed over by it",
                &[
                    ("a", 0, CLAIM, 0, yours),
                    ("a", 1, CLAIM, 1, Turn::Later(9_000)),
                    ("b", 1, CLAIM, 1, Turn::Later(9_000)),
                    ("b", 9, CLAIM, 10, yours),
                    ("c", 0, CLAIM, 21, Turn::Past),
                ],
            ),
            (
                "another process of the node is another",
                &[("a", 0, CLAIM, 0, yours), ("a/2", 0, CLAIM, 1, Turn::Later(9_000))],
            ),
            (
                "a clock that is ahead is told to wait, and what is a day old is past",
                &[
                    ("a", 5, CLAIM, 0, Turn::Later(5_000)),
                    ("a", 5_000, CLAIM, 0, Turn::Later(60_000)),
                    ("a", 0, CLAIM, 86_401, Turn::Past),
                    ("a", 0, DONE, 86_401, Turn::Past),
                ],
            ),
        ];
        for (story, steps) in stories {
            let folder = tempfile::tempdir().expect("a folder");
            let heads = RedbHeads::open(&folder.path().join("heads.redb")).expect("a new file");
            for (index, (who, planned, step, now, expect)) in steps.iter().enumerate() {
                let node = name(&who[..1]);
                // Each is answered by another origin: nothing is kept beside the heads.
                let (turns, app, request) = (Turns::default(), name("shop"), request(*planned, who, *step));
                let answer = turns.ask(&heads, &app, &node, &request, at(*now)).await;
                assert_eq!(answer.expect("an answer"), *expect, "{story}, {index}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_who_ask_at_once_one_has_the_turn() {
        let folder = tempfile::tempdir().expect("a folder");
        let heads = RedbHeads::open(&folder.path().join("heads.redb")).expect("a new file");
        let turns = std::sync::Arc::new(Turns::default());
        let mut asked = tokio::task::JoinSet::new();
        for count in 0..16 {
            let (heads, turns) = (heads.clone(), turns.clone());
            let node = name(&format!("n{count}"));
            asked.spawn(async move { turns.ask(&heads, &name("shop"), &node, &request(0, "p", CLAIM), at(0)).await });
        }
        let answers = asked.join_all().await;
        let had = answers.iter().filter(|answer| matches!(answer, Ok(Turn::Yours(_)))).count();
        let waits = answers.iter().filter(|answer| matches!(answer, Ok(Turn::Later(_)))).count();
        assert_eq!((had, waits), (1, 15), "{answers:?}");
    }

    #[tokio::test]
    async fn turns_of_400_schedules_of_an_app_are_remembered_for_a_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let heads = RedbHeads::open(&folder.path().join("heads.redb")).expect("a new file");
        let had = Had { planned: at(0), node: name("a"), process: "p".to_owned(), until: at(0), done: true };
        let all: All = (0..400).map(|count| (format!("{count:016x}"), had.clone())).collect();
        heads.swap("events/shop", None, serde_json::to_vec(&all).expect("JSON").into()).await.expect("a swap");
        let turns = Turns::default();
        let ask = |second| {
            let (heads, turns) = (&heads, &turns);
            async move { turns.ask(heads, &name("shop"), &name("a"), &request(second, "p", CLAIM), at(second)).await }
        };
        assert_eq!(ask(86_400).await.expect_err("one more").code(), "too_many");
        assert_eq!(ask(86_401).await, Ok(Turn::Yours(TURN_MS)), "the others are forgotten");
    }

    #[test]
    fn what_names_no_schedule_and_no_process_is_not_taken() {
        for (schedule, process) in
            [("", "p"), ("0123456789ABCDEF", "p"), ("0123456789abcdef0", "p"), ("0123456789abcdef", "")]
        {
            let request = TurnRequest { schedule: schedule.to_owned(), ..request(0, process, CLAIM) };
            assert_eq!(check(&request).expect_err(schedule).code(), "bad_request");
        }
        assert!(check(&request(0, &"p".repeat(64), CLAIM)).is_ok());
        assert!(check(&request(0, &"p".repeat(65), CLAIM)).is_err());
    }
}
