//! When a schedule is due: an expression of cron, in a time zone. Pure: the clock is an argument, and zones come from the
//! database that is compiled in, so that every node of a fleet reckons alike.
//!
//! Five fields: minute, hour, day of the month, month, day of the week; six: seconds come first. A field is a list of
//! `*`, values and ranges (`9-17`), of which `*` and ranges may have a step (`*/5`, `9-17/2`). Months and days of the
//! week have names (`jan`, `mon`); Sunday is 0 and 7. Where both days are restricted, either is enough, and where one of
//! them begins with `*`, both must hold (as in crontab(5)). There is no `L`, `W`, `#`, `?` or `@daily`.
//!
//! Where clocks change, two kinds of schedules differ. One that names **hours** means the time of the wall: what falls
//! into hours that are skipped is due at the moment after them, once however often it fell there; what falls into hours
//! that come twice is due the first time only. One of **every hour** means a rhythm: it is due whenever the wall shows a
//! time of it, in both passes, and nothing is made up.

use core::ops::RangeInclusive;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// A schedule that is not due within so many years never is: the 29th of February that is a certain day of the week comes
/// back within 40.
const YEARS_MAX: i16 = 50;
const HOURS_ALL: u64 = (1 << 24) - 1;

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Neither five fields nor six.
    #[error("`{0}` is no time: write five fields, or six with seconds")]
    Fields(String),
    /// A field is wrong.
    #[error("`{text}` is no {field}: it is {from} to {to}, as `*`, `*/5`, `1,3` or `1-5/2`")]
    Field {
        /// What it stands for.
        field: &'static str,
        /// It.
        text: String,
        /// The least value.
        from: u32,
        /// The greatest.
        to: u32,
    },
    /// There is no such day.
    #[error("it is never due: no month that it names has that day")]
    Never,
    /// There is no such zone.
    #[error("`{0}` is no time zone: write it as `Europe/Berlin` or `UTC`")]
    Zone(String),
}

/// A schedule, ready to be asked.
#[derive(Clone, Debug)]
pub struct Cron {
    /// Bits of the values that each field names.
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one kind of day is enough.
    either_day: bool,
    zone: TimeZone,
}

/// What one field stands for.
struct Field {
    name: &'static str,
    range: RangeInclusive<u32>,
    /// The names of its values, from the least.
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", range: 0..=59, names: &[] };
const MINUTE: Field = Field { name: "minute", range: 0..=59, names: &[] };
const HOUR: Field = Field { name: "hour", range: 0..=23, names: &[] };
const DAY: Field = Field { name: "day of the month", range: 1..=31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    range: 1..=12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field =
    Field { name: "day of the week", range: 0..=7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"] };

impl Cron {
    /// The schedule of an expression in the zone of this name in the IANA database.
    ///
    /// # Errors
    /// What is wrong with one of them, or that it is never due.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        let no_time = || CronError::Fields(expression.chars().take(64).collect());
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            rest if rest.len() == 5 => ("0", rest),
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            _ => return Err(no_time()),
        };
        let &[minute, hour, day, month, weekday] = rest else { return Err(no_time()) };
        let weekdays = WEEKDAY.read(weekday)?;
        let cron = Self {
            seconds: SECOND.read(second)?,
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days: DAY.read(day)?,
            months: MONTH.read(month)?,
            // Sunday is one day.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            zone: zone_of(zone)?,
        };
        cron.next_civil(Date::constant(2000, 1, 1).to_datetime(Time::midnight())).ok_or(CronError::Never)?;
        Ok(cron)
    }

    /// The first moment after `after` at which it is due; none only at the end of all time.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self.hours {
            HOURS_ALL => self.next_in_rhythm(after),
            _ => self.next_on_wall(after),
        }
    }

    /// The last moment after `after`, and not after `until`, at which it was due.
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut latest = None;
        let mut next = self.next(after);
        while let Some(due) = next.filter(|due| *due <= until) {
            latest = Some(due);
            next = self.next(due);
        }
        latest
    }

    /// Moments rise with what the wall shows, so the first time that lies after `after` is the one.
    fn next_on_wall(&self, after: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.to_datetime(after);
        loop {
            wall = self.next_civil(wall)?;
            let moment = self.moment(wall)?;
            if moment > after {
                return Some(moment);
            }
        }
    }

    /// When the wall shows this for the first time, or the moment after it was skipped.
    fn moment(&self, wall: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            // By the clock from before, the change has just been when the wall shows what it skipped.
            AmbiguousOffset::Gap { after, .. } => {
                let earlier = after.to_timestamp(wall).ok()?;
                self.zone.following(earlier).next().map(|change| change.timestamp())
            }
        }
    }

    /// Between two changes of the clock, the wall goes as time goes.
    fn next_in_rhythm(&self, after: Timestamp) -> Option<Timestamp> {
        // What is due is a whole second after this one.
        let mut from = Timestamp::from_second(after.as_second() - i64::from(after.subsec_nanosecond() < 0)).ok()?;
        loop {
            let begin = from.checked_add(SignedDuration::from_secs(1)).ok()?;
            let offset = self.zone.to_offset(begin);
            let due = offset.to_timestamp(self.next_civil(offset.to_datetime(from))?).ok()?;
            match self.zone.following(begin).next().map(|change| change.timestamp()) {
                Some(change) if due >= change => from = change.checked_sub(SignedDuration::from_secs(1)).ok()?,
                _ => return Some(due),
            }
        }
    }

    /// The first time on a wall without changes that is after `after`.
    fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        let second = Time::new(after.hour(), after.minute(), after.second(), 0).ok()?;
        let from = after.date().to_datetime(second).checked_add(1.second()).ok()?;
        let mut date = from.date();
        let mut earliest = Some(from.time());
        let last_year = date.year().saturating_add(YEARS_MAX);
        while date.year() <= last_year {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = None;
                continue;
            }
            if self.is_day(date)
                && let Some(time) = self.next_time(earliest.unwrap_or(Time::midnight()))
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            earliest = None;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first time of a day that is not before `from`.
    fn next_time(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        let at = |hour, minute, second| Time::new(hour, minute, second, 0).ok();
        let first = |bits| least(bits, 0);
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = least(self.seconds, second)
            {
                return at(hour, minute, second);
            }
            if let Some(minute) = least(self.minutes, minute + 1) {
                return at(hour, minute, first(self.seconds)?);
            }
        }
        at(least(self.hours, hour + 1)?, first(self.minutes)?, first(self.seconds)?)
    }
}

/// Whether the bit of a value is set.
fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

/// The least value of a set that is not below `from`.
fn least(bits: u64, from: i8) -> Option<i8> {
    let from = u32::try_from(from).ok()?;
    let left = bits.checked_shr(from).filter(|left| *left != 0)?;
    i8::try_from(from + left.trailing_zeros()).ok()
}

fn zone_of(name: &str) -> Result<TimeZone, CronError> {
    let unknown = || CronError::Zone(name.chars().take(64).collect());
    // Never the host's: two nodes could know other rules of the same name.
    TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())
}

impl Field {
    /// The bits of the values that `text` names.
    fn read(&self, text: &str) -> Result<u64, CronError> {
        let bits = text.split(',').map(|part| self.part(part)).try_fold(0, |bits, part| Some(bits | part?));
        bits.ok_or_else(|| CronError::Field {
            field: self.name,
            text: text.chars().take(64).collect(),
            from: *self.range.start(),
            to: *self.range.end(),
        })
    }

    fn part(&self, part: &str) -> Option<u64> {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, Some(number(step).filter(|step| (1..=*self.range.end()).contains(step))?)),
            None => (part, None),
        };
        let (from, to) = match span.split_once('-') {
            None if span == "*" => (*self.range.start(), *self.range.end()),
            // A step goes from somewhere to somewhere.
            None if step.is_some() => return None,
            None => (self.value(span, false)?, self.value(span, false)?),
            Some((from, to)) => (self.value(from, false)?, self.value(to, true)?),
        };
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        (from <= to).then(|| (from..=to).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    /// A number or name within the range. At the end of a range of days, Sunday is the last.
    fn value(&self, text: &str, is_end: bool) -> Option<u32> {
        let is_it = |(_, name): &(usize, &&str)| name.eq_ignore_ascii_case(text);
        let named = match is_end {
            true => self.names.iter().enumerate().rfind(is_it),
            false => self.names.iter().enumerate().find(is_it),
        };
        let named = named.and_then(|(index, _)| u32::try_from(index).ok()).map(|index| index + self.range.start());
        named.or_else(|| number(text)).filter(|value| self.range.contains(value))
    }
}

/// A number of one or two digits.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
