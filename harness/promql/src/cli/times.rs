//! Moments and durations as they are typed: seconds, RFC 3339, `5m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A moment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub i64);

const MAX_SECONDS: f64 = 1e12;

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<f64>() {
            return if seconds.abs() <= MAX_SECONDS {
                Ok(Self((seconds * 1e3).round() as i64))
            } else {
                Err("too far from the epoch".to_owned())
            };
        }
        rfc3339(text).map(Self).ok_or_else(|| {
            "write seconds since the epoch, or a time such as 2026-03-01T02:59:00Z".to_owned()
        })
    }
}

fn rfc3339(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| part.parse().ok())?
    };
    let sign = |at: usize, wanted: &str| text.get(at..at + 1).filter(|held| wanted.contains(held));
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    for (at, wanted) in [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")] {
        sign(at, wanted)?;
    }
    let fits = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut ms = 0;
    if let Some(tail) = rest.strip_prefix('.') {
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let fraction: f64 = format!("0.{}", &tail[..end]).parse().ok()?;
        ms = (fraction * 1e3).round() as i64;
        rest = &tail[end..];
    }
    let zone_minutes = match rest {
        "Z" | "z" => 0,
        _ => {
            let factor = match rest.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = rest[1..].split_once(':')?;
            let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
            factor * (hours * 60 + minutes)
        }
    };
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + (minute - zone_minutes) * 60 + second;
    Some(seconds * 1_000 + ms)
}

/// Days from 1970-01-01, after Howard Hinnant's "chrono-compatible low-level date algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `02:59:30` in UTC, with the date where it is not 1970-01-01.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let mut text = String::new();
        if days != 0 {
            // The inverse of the function above, by trying: the year is off by at most one.
            let mut year = 1970 + days.div_euclid(366);
            while days_from_civil(year + 1, 1, 1) <= days {
                year += 1;
            }
            let mut month = 1;
            while month < 12 && days_from_civil(year, month + 1, 1) <= days {
                month += 1;
            }
            let day = days - days_from_civil(year, month, 1) + 1;
            text = format!("{year:04}-{month:02}-{day:02} ");
        }
        text.push_str(&format!(
            "{:02}:{:02}:{:02}",
            of_day / 3_600,
            of_day / 60 % 60,
            of_day % 60
        ));
        f.pad(&text)
    }
}

/// A step: `15s`, `1m30s`, or a number of seconds.
#[derive(Debug, Clone, Copy)]
pub struct Step(pub Duration);

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a duration such as 15s or 1m, or seconds".to_owned();
        let ms = match text.parse::<f64>() {
            Ok(seconds) => seconds * 1e3,
            Err(_) => units_ms(text).ok_or_else(wrong)?,
        };
        if (1.0..=1e15).contains(&ms) {
            Ok(Self(Duration::from_millis(ms as u64)))
        } else {
            Err(wrong())
        }
    }
}

fn units_ms(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: f64 = rest[..end].parse().ok()?;
        let tail = &rest[end..];
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        total += amount
            * match &tail[..unit_end] {
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 6e4,
                "h" => 3.6e6,
                "d" => 8.64e7,
                "w" => 6.048e8,
                "y" => 3.1536e10,
                _ => return None,
            };
        rest = &tail[unit_end..];
    }
    (total > 0.0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("1.5", 1_500),
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59.25Z", 1_709_251_199_250),
            ("2024-03-01T01:59:59+02:00", 1_709_251_199_000),
        ] {
            assert_eq!(text.parse(), Ok(Moment(ms)), "{text}");
        }
        for text in [
            "",
            "soon",
            "1e300",
            "2024-13-01T00:00:00Z",
            "2024-01-01",
            "NaN",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn moments_print_with_their_date_unless_it_is_the_first() {
        assert_eq!(Moment(61_000).to_string(), "00:01:01");
        assert_eq!(Moment(1_709_251_199_250).to_string(), "2024-02-29 23:59:59");
        assert_eq!(Moment(-1_000).to_string(), "1969-12-31 23:59:59");
    }

    #[test]
    fn steps_have_units_or_are_seconds() {
        for (text, ms) in [("15", 15_000), ("0.5", 500), ("1m30s", 90_000)] {
            assert_eq!(text.parse::<Step>().unwrap().0.as_millis(), ms);
        }
        for text in ["", "0", "-5", "5x", "m", "NaN"] {
            assert!(text.parse::<Step>().is_err(), "{text}");
        }
    }
}
