//! Durations as Prometheus and Alertmanager write them, such as `90s`, `1h30m` and `2w`.
//!
//! Only whole numbers with units in falling order; a year is 365 days, a day 24 hours.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is nothing.
    #[error("the duration is empty")]
    Empty,
    /// A number without a unit.
    #[error("the duration `{0}` has no unit")]
    NoUnit(String),
    /// Something else.
    #[error("`{0}` is no duration")]
    Malformed(String),
    /// More than can be counted.
    #[error("the duration `{0}` is too long")]
    TooLong(String),
}

impl DurationError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            DurationError::NoUnit(text) => {
                format!("write the unit too, as in `{text}s` or `{text}m`")
            }
            _ => "write a whole number and a unit (ms, s, m, h, d, w, y), \
                  as in `30s`, `5m` or `1h30m`"
                .to_owned(),
        }
    }
}

/// Parses a duration such as `1h30m`; `0` needs no unit.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::NoUnit(text.to_owned()));
    }
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(malformed());
        }
        let (_, size) = units
            .find(|(name, _)| *name == unit)
            .ok_or_else(malformed)?;
        let number: u64 = number.parse().map_err(|_| too_long())?;
        millis = number
            .checked_mul(*size)
            .and_then(|part| millis.checked_add(part))
            .filter(|&millis| millis <= i64::MAX as u64 / 1_000_000)
            .ok_or_else(too_long)?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration as Prometheus does: the largest units first, weeks and years only if whole.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in UNITS {
        if matches!(unit, "y" | "w") && millis % size != 0 {
            continue;
        }
        let count = millis / size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis -= count * size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fall_and_add_up() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1y", 31_536_000_000),
            ("2w", 1_209_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_remedy() {
        assert!(
            parse_duration("300")
                .unwrap_err()
                .remedy()
                .contains("`300s`")
        );
        for text in [
            "", "5", "m", "1.5h", "-1m", "1m1h", "5 m", "5M", "1m1m", "1hh",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_duration("99999999999y"),
            Err(DurationError::TooLong("99999999999y".into()))
        );
    }

    #[test]
    fn durations_are_written_as_prometheus_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (90_000_000, "1d1h"),
            (604_800_000, "1w"),
            (1_500, "1s500ms"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }
}
