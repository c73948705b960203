//! Dates of HTTP (RFC 9110, section 5.6.7): its own format, the two older ones, and how one is written.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The time that a field's value names, in seconds since 1970, in any case of letters; none for what is no date. `now`, in
/// the same seconds, decides what a year of two digits means: never more than 50 years ahead.
pub fn parse(value: &[u8], now: i64) -> Option<i64> {
    let text = str::from_utf8(value).ok()?.to_ascii_lowercase();
    let parts: Vec<&str> = text.split(' ').collect();
    match parts[..] {
        [day, date, month, year, time, "gmt"] => {
            is_day(day.strip_suffix(',')?, &DAYS)?;
            seconds(number(year, 4)?, self::month(month)?, number(date, 2)?, time)
        }
        [day, date, time, "gmt"] => {
            is_day(day.strip_suffix(',')?, &LONG_DAYS)?;
            let mut parts = date.split('-');
            let (date, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            let year = full_year(number(year, 2)?, now)?;
            parts.next().is_none().then(|| seconds(year, self::month(month)?, number(date, 2)?, time))?
        }
        // asctime: a day of one digit has two spaces before it.
        [day, month, "", date, time, year] => {
            is_day(day, &DAYS)?;
            seconds(number(year, 4)?, self::month(month)?, number(date, 1)?, time)
        }
        [day, month, date, time, year] => {
            is_day(day, &DAYS)?;
            seconds(number(year, 4)?, self::month(month)?, number(date, 2)?, time)
        }
        _ => None,
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` for seconds since 1970; times before 1970 and after 9999 are the first and the last of those.
pub fn format(seconds: i64) -> String {
    let seconds = seconds.clamp(0, Timestamp::MAX.as_second());
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn is_day(text: &str, days: &[&str]) -> Option<()> {
    days.contains(&text).then_some(())
}

fn month(text: &str) -> Option<i8> {
    MONTHS.iter().position(|month| *month == text).and_then(|at| i8::try_from(at + 1).ok())
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i16> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The year of two digits that is no more than 50 years after `now` (RFC 9110, section 5.6.7).
fn full_year(year: i16, now: i64) -> Option<i16> {
    let this = Timestamp::from_second(now).ok()?.to_zoned(TimeZone::UTC).year();
    let here = this - this % 100 + year;
    Some(if here > this + 50 { here - 100 } else { here })
}

fn seconds(year: i16, month: i8, date: i16, time: &str) -> Option<i64> {
    let mut parts = time.split(':');
    let mut two = || i8::try_from(number(parts.next()?, 2)?).ok();
    let (hour, minute, second) = (two()?, two()?, two()?);
    if parts.next().is_some() {
        return None;
    }
    // A leap second is its minute's last one.
    let second = if second == 60 { 59 } else { second };
    let time = DateTime::new(year, month, i8::try_from(date).ok()?, hour, minute, second, 0).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn dates_are_read_in_three_formats_and_any_case_and_nothing_else_is_one() {
        for (text, expect) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun Nov 16 08:49:37 1994", Some(784_975_777)),
            ("SUN, 06 NOV 1994 08:49:37 gMT", Some(784_111_777)),
            ("Thursday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878)),
            ("Friday, 18-Aug-90 02:01:18 GMT", Some(650_944_878)),
            ("Tue, 19 Jan 2038 14:14:08 GMT", Some(2_147_523_248)),
            ("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_799)),
            ("0", None),
            ("-1", None),
            ("", None),
            ("Thu, 18 Aug 2050 02:01:18 UTC", None),
            ("Thu, 18 Aug 2050 02:01:18 AEST", None),
            ("Thu, 18 Aug 50 02:01:18 GMT", None),
            ("Thu 18 Aug 2050 02:01:18 GMT", None),
            ("Thu, 18  Aug  2050 02:01:18 GMT", None),
            ("Thu, 18-Aug-2050 02:01:18 GMT", None),
            ("Thu, 18 Aug 2050 02.01.18 GMT", None),
            ("Thu, 18 Aug 2050 2:01:18 GMT", None),
            ("Thu, 31 Feb 2050 02:01:18 GMT", None),
            ("Foo, 18 Aug 2050 02:01:18 GMT", None),
            ("Thu, 18 Aug 2050 25:01:18 GMT", None),
        ] {
            assert_eq!(parse(text.as_bytes(), NOW), expect, "{text}");
        }
        assert_eq!(parse(b"\xff", NOW), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for seconds in [0, 784_111_777, NOW, Timestamp::MAX.as_second()] {
            assert_eq!(parse(format(seconds).as_bytes(), NOW), Some(seconds));
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
