//! Schedules as tables, and against what one would find by trying every second.

use super::*;
use proptest::prelude::*;

fn cron(expression: &str, zone: &str) -> Cron {
    Cron::parse(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The first moments after `after`, in UTC.
fn due(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron = cron(expression, zone);
    let next = |last: &Timestamp| cron.next(*last);
    std::iter::successors(Some(at(after)), next).skip(1).take(count).map(|due| due.to_string()).collect()
}

#[test]
fn fields_mean_what_crontab_says() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("* * * * *", "2026-11-23T05:59:59Z", &["2026-11-23T06:00:00Z", "2026-11-23T06:01:00Z"]),
        ("*/5 * * * *", "2026-11-23T05:55:00Z", &["2026-11-23T06:00:00Z", "2026-11-23T06:05:00Z"]),
        ("* * * * * *", "2026-11-23T05:59:58.5Z", &["2026-11-23T05:59:59Z", "2026-11-23T06:00:00Z"]),
        ("*/20 59 23 * * *", "2026-11-23T23:59:30Z", &["2026-11-23T23:59:40Z", "2026-11-24T23:59:00Z"]),
        ("0 9-17/4 * * mon-fri", "2026-11-20T13:00:00Z", &["2026-11-20T17:00:00Z", "2026-11-23T09:00:00Z"]),
        (
            "15,45 0 1 JAN,jul *",
            "2026-11-23T00:00:00Z",
            &["2027-01-01T00:15:00Z", "2027-01-01T00:45:00Z", "2027-07-01T00:15:00Z"],
        ),
        ("0 0 * * 7", "2026-11-23T00:00:00Z", &["2026-11-29T00:00:00Z"]),
        ("0 0 * * 0", "2026-11-23T00:00:00Z", &["2026-11-29T00:00:00Z"]),
        (
            "0 0 * * fri-sun",
            "2026-11-23T00:00:00Z",
            &["2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"],
        ),
        // Either day is enough where both are restricted; both must hold where one begins with a star.
        ("0 0 25 * thu", "2026-11-23T00:00:00Z", &["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"]),
        ("0 0 */2 * thu", "2026-11-19T00:00:00Z", &["2026-12-03T00:00:00Z"]),
        ("0 0 29 2 *", "2026-11-23T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        (
            "0 0 31 * *",
            "2026-11-23T00:00:00Z",
            &["2026-12-31T00:00:00Z", "2027-01-31T00:00:00Z", "2027-03-31T00:00:00Z"],
        ),
        ("59 59 23 31 12 *", "2026-12-31T23:59:59Z", &["2027-12-31T23:59:59Z"]),
    ];
    for (expression, after, expect) in rows {
        assert_eq!(due(expression, "UTC", after, expect.len()), *expect, "{expression}");
    }
}

#[test]
fn where_clocks_change_hours_mean_the_wall_and_every_hour_means_a_rhythm() {
    let rows: &[(&str, &str, &str, &[&str])] = &[
        ("0 12 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", &["2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"]),
        // 02:30 is skipped on the 29th of March: it is due at 03:00, which is 01:00 in UTC; once, however often it fell there.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        ("*/10 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
        // 02:30 comes twice on the 25th of October: it is due the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", &["2026-10-26T01:30:00Z"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z"]),
        // Every hour: nothing is made up, and both passes count.
        ("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
        ),
        (
            "0 */1 * * *",
            "America/New_York",
            "2026-11-01T04:30:00Z",
            &["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"],
        ),
        // Half an hour only: from 02:00 to 02:30 on the 4th of October.
        ("15 * * * *", "Australia/Lord_Howe", "2026-10-03T14:50:00Z", &["2026-10-03T16:15:00Z"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T14:50:00Z", &["2026-10-03T15:30:00Z"]),
        // A whole day: the 30th of December 2011 was not in Samoa.
        ("0 8 * * *", "Pacific/Apia", "2011-12-29T18:00:00Z", &["2011-12-30T10:00:00Z", "2011-12-30T18:00:00Z"]),
    ];
    for (expression, zone, after, expect) in rows {
        assert_eq!(due(expression, zone, after, expect.len()), *expect, "{expression} in {zone} after {after}");
    }
}

#[test]
fn what_was_missed_is_known_by_its_last_time() {
    let cron = cron("*/5 * * * *", "UTC");
    let latest = |after, until| cron.latest(at(after), at(until)).map(|due| due.to_string());
    assert_eq!(latest("2026-11-23T05:00:00Z", "2026-11-23T05:04:59Z"), None);
    assert_eq!(latest("2026-11-23T05:00:00Z", "2026-11-23T05:05:00Z").as_deref(), Some("2026-11-23T05:05:00Z"));
    assert_eq!(latest("2026-11-23T05:00:00Z", "2026-11-23T06:04:00Z").as_deref(), Some("2026-11-23T06:00:00Z"));
}

#[test]
fn what_is_no_schedule_is_said_in_words() {
    let rows = [
        ("* * * *", "UTC", "five fields"),
        ("* * * * * * *", "UTC", "five fields"),
        ("60 * * * *", "UTC", "`60` is no minute: it is 0 to 59"),
        ("* 24 * * *", "UTC", "no hour"),
        ("* * 0 * *", "UTC", "no day of the month"),
        ("* * * 13 *", "UTC", "no month"),
        ("* * * * 8", "UTC", "no day of the week"),
        ("60 * * * * *", "UTC", "no second"),
        ("5/10 * * * *", "UTC", "no minute"),
        ("10-5 * * * *", "UTC", "no minute"),
        ("*/0 * * * *", "UTC", "no minute"),
        ("*/60 * * * *", "UTC", "no minute"),
        ("1,,2 * * * *", "UTC", "no minute"),
        ("+1 * * * *", "UTC", "no minute"),
        ("* * L * *", "UTC", "no day of the month"),
        ("* * ? * *", "UTC", "no day of the month"),
        ("* * * mon *", "UTC", "no month"),
        ("* * * * mo", "UTC", "no day of the week"),
        ("@daily", "UTC", "five fields"),
        ("0 0 30 2 *", "UTC", "never due"),
        ("* * * * *", "Europe/Nowhere", "no time zone"),
        ("* * * * *", "", "no time zone"),
        ("* * * * *", "../../etc/passwd", "no time zone"),
    ];
    for (expression, zone, expect) in rows {
        let error = Cron::parse(expression, zone).expect_err(expression).to_string();
        assert!(error.contains(expect), "{expression}: {error}");
    }
}

/// A field of an expression over this range.
fn field(from: u32, to: u32) -> impl Strategy<Value = String> {
    let value = from..=to;
    let range = (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..=to).prop_map(|step| format!("*/{step}")),
        1 => range.clone(),
        1 => (range, 1..=to).prop_map(|(range, step)| format!("{range}/{step}")),
        2 => prop::collection::vec(value, 1..4).prop_map(|all| all.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
}

/// Moments around the year's changes of the clock, and others.
fn moments() -> impl Strategy<Value = Timestamp> {
    let second = |text: &str| at(text).as_second();
    let changes = ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-11-01T06:00:00Z", "2026-10-03T15:30:00Z"];
    let near = prop::sample::select(changes.map(second).to_vec()).prop_flat_map(|at| at - 7_500..at + 7_500);
    prop_oneof![near, second("2020-01-01T00:00:00Z")..second("2040-01-01T00:00:00Z")]
        .prop_map(|second| Timestamp::from_second(second).expect("in range"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_next_time_is_later_and_shows_what_the_fields_name_or_ends_a_gap(
        (second, minute, hour) in (field(0, 59), field(0, 59), field(0, 23)),
        (day, month, weekday) in (field(1, 28), field(1, 12), field(0, 7)),
        zone in zones(),
        after in moments(),
    ) {
        // With six days of seven and 28 of the month, every pair of them comes back within a few years.
        let cron = cron(&format!("{second} {minute} {hour} {day} {month} {weekday}"), zone);
        let next = cron.next(after).expect("there is a next time");
        prop_assert!(next > after);
        let wall = cron.zone.to_datetime(next);
        let shows = has(cron.seconds, wall.second()) && has(cron.minutes, wall.minute()) && has(cron.hours, wall.hour())
            && has(cron.months, wall.month()) && cron.is_day(wall.date());
        let before = next.checked_sub(SignedDuration::from_secs(1)).expect("in range");
        let ends_a_gap = cron.zone.to_offset(next) > cron.zone.to_offset(before);
        prop_assert!(shows || ends_a_gap, "{next} shows {wall}");
        prop_assert_eq!(cron.latest(after, next), Some(next));
    }

    #[test]
    fn nothing_that_is_due_is_passed_over(
        (second, minute, hour) in (field(0, 59), field(0, 59), field(0, 23)),
        zone in zones(),
        after in moments(),
    ) {
        let cron = cron(&format!("{second} {minute} {hour} * * *"), zone);
        let next = cron.next(after).expect("there is a next time");
        // Every second between is one that the fields do not name, or one of a second pass.
        for ahead in 1..=next.duration_since(after).as_secs().saturating_sub(1).min(20_000) {
            let moment = after.checked_add(SignedDuration::from_secs(ahead)).expect("in range");
            let wall = cron.zone.to_datetime(moment);
            let shows = has(cron.seconds, wall.second()) && has(cron.minutes, wall.minute()) && has(cron.hours, wall.hour());
            let again = cron.hours != HOURS_ALL && cron.moment(wall) != Some(moment);
            prop_assert!(!shows || again, "{moment} shows {wall}, and the next after {after} would be {next}");
        }
    }
}
