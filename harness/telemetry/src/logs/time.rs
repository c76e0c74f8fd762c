//! The times that logs carry. Not a calendar: only what ordering and subtracting them needs.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

const NANOS: i128 = 1_000_000_000;

/// When a line was written, to the nanosecond.
///
/// A time of day and a point in time cannot be compared: `partial_cmp` gives `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timestamp {
    /// Nanoseconds since the Unix epoch.
    Unix(i128),
    /// Nanoseconds since midnight of a day, and in a zone, that the log does not tell.
    OfDay(u64),
}

impl Timestamp {
    /// Reads RFC 3339 (`2026-01-31T10:00:01.523Z`, a space for the `T` too), a time of day
    /// (`10:00:01.523`) or a Unix time in digits.
    pub fn from_text(text: &str) -> Option<Self> {
        let is_number = |b: u8| b.is_ascii_digit() || b == b'.' || b == b'-';
        if text.bytes().all(is_number)
            && let Some(time) = epoch_text(text)
        {
            return Some(time);
        }
        let mut rest = text;
        if text.len() > 10 && text.is_char_boundary(10) && text.as_bytes()[4] == b'-' {
            let (date, time) = text.split_at(10);
            let mut parts = date.split('-');
            let year = digits(parts.next()?, 4)?;
            let month = digits(parts.next()?, 2)?;
            let day = digits(parts.next()?, 2)?;
            if parts.next().is_some() || !is_date(year, month, day) {
                return None;
            }
            rest = time.strip_prefix(['T', 't', ' '])?;
            let (of_day, zone) = time_of_day(&mut rest)?.split_zone(rest)?;
            let days = i128::from(days_from_civil(year, month, day));
            return Some(Self::Unix(days * 86_400 * NANOS + of_day - zone));
        }
        let of_day = time_of_day(&mut rest)?.0;
        (rest.is_empty())
            .then(|| u64::try_from(of_day).ok().map(Self::OfDay))
            .flatten()
    }

    /// Reads a text as [`Timestamp::from_text`], or a number as a Unix time.
    ///
    /// The magnitude of a number tells its unit: seconds below 10¹¹ (the year 5138), then
    /// milliseconds, microseconds and nanoseconds, each up to a thousand times more.
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::from_text(text),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Some(epoch_whole(i128::from(whole))),
                None => epoch_fraction(number.as_f64()?),
            },
            _ => None,
        }
    }

    /// Nanoseconds from `earlier` to this; negative if this is before it.
    ///
    /// `None` if only one of the two knows its day. Times of day are taken to be of the same day.
    pub fn nanos_since(self, earlier: Self) -> Option<i128> {
        match (self, earlier) {
            (Self::Unix(later), Self::Unix(earlier)) => later.checked_sub(earlier),
            (Self::OfDay(later), Self::OfDay(earlier)) => {
                Some(i128::from(later) - i128::from(earlier))
            }
            _ => None,
        }
    }

    /// Seconds from `earlier` to this, as [`Timestamp::nanos_since`].
    pub fn seconds_since(self, earlier: Self) -> Option<f64> {
        self.nanos_since(earlier).map(|nanos| nanos as f64 / 1e9)
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Unix(a), Self::Unix(b)) => Some(a.cmp(b)),
            (Self::OfDay(a), Self::OfDay(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// RFC 3339 in UTC, or the time of day; to the millisecond or, where needed, the nanosecond.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, of_day) = match self {
            Self::Unix(nanos) => {
                let day = 86_400 * NANOS;
                (Some(nanos.div_euclid(day)), nanos.rem_euclid(day))
            }
            Self::OfDay(nanos) => (None, i128::from(*nanos)),
        };
        if let Some(days) = day {
            let (year, month, day) = civil_from_days(days);
            write!(f, "{year:04}-{month:02}-{day:02}T")?;
        }
        let (seconds, fraction) = (of_day / NANOS, of_day % NANOS);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}")?;
        if fraction % 1_000_000 == 0 {
            write!(f, ".{:03}", fraction / 1_000_000)?;
        } else {
            write!(f, ".{fraction:09}")?;
        }
        f.write_str(if day.is_some() { "Z" } else { "" })
    }
}

fn epoch_text(text: &str) -> Option<Timestamp> {
    match text.parse::<i64>() {
        Ok(whole) => Some(epoch_whole(i128::from(whole))),
        Err(_) => epoch_fraction(text.parse().ok()?),
    }
}

fn epoch_whole(value: i128) -> Timestamp {
    let scale = match value.unsigned_abs() {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    Timestamp::Unix(value * scale)
}

fn epoch_fraction(value: f64) -> Option<Timestamp> {
    let scale = match value.abs() {
        size if size < 1e11 => 1e9,
        size if size < 1e14 => 1e6,
        size if size < 1e17 => 1e3,
        size if size < 1e20 => 1.0,
        _ => return None,
    };
    Some(Timestamp::Unix((value * scale).round() as i128))
}

fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

struct OfDay(i128);

impl OfDay {
    /// Gives this and the offset of `rest` from UTC, both in nanoseconds.
    fn split_zone(self, rest: &str) -> Option<(i128, i128)> {
        if matches!(rest, "Z" | "z") {
            return Some((self.0, 0));
        }
        let (sign, offset) = match rest.as_bytes().first()? {
            b'+' => (1, &rest[1..]),
            b'-' => (-1, &rest[1..]),
            _ => return None,
        };
        let (hours, minutes) = offset.split_once(':')?;
        let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = i128::from(hours * 3600 + minutes * 60);
        Some((self.0, sign * seconds * NANOS))
    }
}

/// Reads `HH:MM:SS` and a fraction, and leaves what follows in `text`.
fn time_of_day(text: &mut &str) -> Option<OfDay> {
    let mut parts = [0; 3];
    for (nth, part) in parts.iter_mut().enumerate() {
        if nth > 0 {
            *text = text.strip_prefix(':')?;
        }
        *part = digits(text.get(..2)?, 2)?;
        *text = &text[2..];
    }
    let [hour, minute, second] = parts;
    // 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut nanos = i128::from(hour * 3600 + minute * 60 + second) * NANOS;
    if let Some(fraction) = text.strip_prefix(['.', ',']) {
        let end = fraction
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(fraction.len());
        if end == 0 {
            return None;
        }
        let kept = &fraction[..end.min(9)];
        let scale = 10_i128.pow(9 - kept.len() as u32);
        nanos += kept.parse::<i128>().ok()? * scale;
        *text = &fraction[end..];
    }
    Some(OfDay(nanos))
}

fn is_date(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Days since 1970-01-01 in the Gregorian calendar, counting years from March so that the leap day
/// is a year's last.
fn days_from_civil(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`], for any day.
fn civil_from_days(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    (year, month, day)
}
