//! Numbers, units and times as a person reads them.
//!
//! Times are in UTC throughout: a night is told by more than one service, and none of them knows
//! where its reader sits.

use jiff::Timestamp;

/// What a number counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Things, or nobody said.
    Plain,
    /// Shown in ns, µs, ms or s.
    Seconds,
    /// Shown in B, KiB, MiB, GiB or TiB.
    Bytes,
    /// A share of one, shown in percent.
    Ratio,
    /// Seconds since the Unix epoch, shown as date and time.
    Moment,
    /// Shown as it is.
    Other(String),
}

/// A unit, and whether it is one a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    /// What is counted.
    pub unit: Unit,
    /// Whether it is a rate.
    pub per_second: bool,
}

/// The scale of one axis: values are multiplied by `factor` and read in `label`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// From the unit of the dump to the unit of the axis.
    pub factor: f64,
    /// The unit of the axis; empty for plain numbers.
    pub label: String,
    /// Whether the values are seconds since the Unix epoch, which an axis shows as times.
    pub moments: bool,
}

impl Quantity {
    /// The unit of a metric: what `# UNIT` declares, or what the name ends with, as the naming
    /// rules of Prometheus ask. The name of a recorded rule, `level:metric:operations`, tells by
    /// its metric, and by its operations whether it is a rate.
    pub fn of_metric(name: &str, declared: Option<&str>) -> Self {
        let mut parts = name.splitn(3, ':');
        let (name, per_second) = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(metric), Some(operations)) => (metric, operations.starts_with("rate")),
            _ => (name, false),
        };
        let of = |unit| Self { unit, per_second };
        if name.ends_with("_time_seconds") || name.ends_with("_timestamp_seconds") {
            return of(Unit::Moment);
        }
        let base = ["_total", "_bucket", "_sum", "_count", "_created"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let word = declared
            .filter(|unit| !unit.is_empty())
            .unwrap_or_else(|| base.rsplit('_').next().unwrap_or_default());
        let unit = match word {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            "ratio" => Unit::Ratio,
            other => match declared {
                Some(declared) if !declared.is_empty() => Unit::Other(other.to_owned()),
                _ => Unit::Plain,
            },
        };
        of(unit)
    }

    /// The same, a second.
    #[must_use]
    pub fn rate(self) -> Self {
        Self {
            per_second: true,
            ..self
        }
    }

    /// A scale on which `largest` is a number of few digits.
    pub fn scale(&self, largest: f64) -> Scale {
        const KIB: f64 = 1024.0;
        let largest = largest.abs();
        let (factor, word) = match &self.unit {
            // A rate of seconds is a share of time: 0.3 s/s reads better than 300 ms/s.
            Unit::Seconds if self.per_second => (1.0, "s"),
            Unit::Seconds => match largest {
                0.0 => (1.0, "s"),
                v if v < 1e-6 => (1e9, "ns"),
                v if v < 1e-3 => (1e6, "µs"),
                v if v < 1.0 => (1e3, "ms"),
                _ => (1.0, "s"),
            },
            Unit::Bytes => match largest {
                v if v < KIB => (1.0, "B"),
                v if v < KIB * KIB => (1.0 / KIB, "KiB"),
                v if v < KIB * KIB * KIB => (1.0 / (KIB * KIB), "MiB"),
                v if v < KIB * KIB * KIB * KIB => (1.0 / (KIB * KIB * KIB), "GiB"),
                _ => (1.0 / (KIB * KIB * KIB * KIB), "TiB"),
            },
            Unit::Ratio => (100.0, "%"),
            Unit::Moment if is_epoch(largest) => (1.0, "UTC"),
            Unit::Moment => (1.0, "s"),
            Unit::Plain => (1.0, ""),
            Unit::Other(word) => (1.0, word.as_str()),
        };
        let label = match (self.per_second, word) {
            (false, word) => word.to_owned(),
            (true, "") => "per second".to_owned(),
            (true, word) => format!("{word} per second"),
        };
        Scale {
            factor,
            label,
            moments: self.unit == Unit::Moment && !self.per_second && is_epoch(largest),
        }
    }

    /// A value with its unit.
    pub fn show(&self, value: f64) -> String {
        if self.unit == Unit::Moment && !self.per_second && is_epoch(value) {
            return moment(value, Precision::Full);
        }
        let scale = self.scale(value);
        let number = number(value * scale.factor);
        match (self.per_second, scale.label.as_str()) {
            (_, "") => number,
            (true, "per second") => format!("{number}/s"),
            (true, label) => format!("{number} {}", label.replace(" per second", "/s")),
            (false, "%") => format!("{number}%"),
            (false, label) => format!("{number} {label}"),
        }
    }
}

/// Whether a number of seconds is a time of our days rather than a duration: from 1986 to 2096.
fn is_epoch(seconds: f64) -> bool {
    (5e8..4e9).contains(&seconds)
}

/// A number with four digits that count, thousands set apart: `142,831`, `0.06190`, `1.2e30`.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    if value.fract() == 0.0 || size >= 1e5 {
        return grouped(&format!("{value:.0}"));
    }
    let before = size.log10().floor() as i32;
    let decimals = usize::try_from(3 - before).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    grouped(text)
}

/// A tick on an axis whose ticks are `step` apart: all of them with the same decimals.
pub fn tick(value: f64, step: f64) -> String {
    // A tick near zero is zero: 0.1 + 0.2 − 0.3 leaves dust.
    let value = if value.abs() < step * 1e-9 {
        0.0
    } else {
        value
    };
    let size = value.abs();
    let short = |divisor: f64, suffix: &str| {
        let decimals = decimals(step / divisor);
        format!("{:.decimals$}{suffix}", value / divisor)
    };
    match size {
        _ if !(step.is_finite() && size.is_finite()) => number(value),
        v if v >= 1e15 || (v > 0.0 && step < 1e-6) => format!("{value:.1e}"),
        v if v >= 1e12 => short(1e12, " T"),
        v if v >= 1e9 => short(1e9, " G"),
        v if v >= 1e6 => short(1e6, " M"),
        v if v >= 1e4 => short(1e3, " k"),
        _ => short(1.0, ""),
    }
}

fn decimals(step: f64) -> usize {
    if step >= 1.0 && step.fract() == 0.0 {
        return 0;
    }
    // 2.5 and 0.25 need one more than their magnitude.
    (0..8)
        .find(|&decimals| {
            let shifted = step * 10f64.powi(decimals);
            (shifted - shifted.round()).abs() < 1e-6 * shifted.abs().max(1.0)
        })
        .and_then(|decimals| usize::try_from(decimals).ok())
        .unwrap_or(8)
}

/// A count of things with thousands set apart.
pub fn count(value: usize) -> String {
    grouped(&value.to_string())
}

/// `1 line`, `2,000 lines`.
pub fn counted(value: usize, what: &str) -> String {
    match value {
        1 => format!("1 {what}"),
        _ => format!("{} {what}s", count(value)),
    }
}

fn grouped(digits: &str) -> String {
    let (sign, rest) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits),
    };
    let (whole, fraction) = match rest.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (rest, None),
    };
    let mut text = sign.to_owned();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth) % 3 == 0 && whole.len() > 4 {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// A duration in nanoseconds: `850 ms`, `1.234 s`, `2 min 5 s`.
pub fn nanos(nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    if seconds < 120.0 {
        let seconds = Quantity {
            unit: Unit::Seconds,
            per_second: false,
        };
        return seconds.show(nanos as f64 / 1e9);
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{} h {minutes} min", count(hours as usize)),
    }
}

/// How finely a moment is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// `2025-11-28`
    Day,
    /// `08:22`
    Minute,
    /// `08:22:04`
    Second,
    /// `08:22:04.123`
    Milli,
    /// `2025-11-28 08:22:04`
    Full,
}

/// A moment, in seconds since the Unix epoch, in UTC; beyond the calendar as seconds.
pub fn moment(seconds: f64, precision: Precision) -> String {
    let nanos = (seconds * 1e9).round();
    let Ok(time) = Timestamp::from_nanosecond(nanos as i128) else {
        return format!("{} s", number(seconds));
    };
    let pattern = match precision {
        Precision::Day => "%Y-%m-%d",
        Precision::Minute => "%H:%M",
        Precision::Second => "%H:%M:%S",
        Precision::Milli => "%H:%M:%S%.3f",
        Precision::Full if seconds.fract() == 0.0 => "%Y-%m-%d %H:%M:%S",
        Precision::Full => "%Y-%m-%d %H:%M:%S%.3f",
    };
    time.strftime(pattern).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_count() {
        for (value, shown) in [
            (142_831.0, "142,831"),
            (8934.2, "8934"),
            (0.0619, "0.0619"),
            (-0.25, "-0.25"),
            (1234.5678, "1235"),
            (1e30, "1.000e30"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
            (0.0, "0"),
            (-0.0, "0"),
            (99.95, "99.95"),
            (12_345.6, "12,346"),
        ] {
            assert_eq!(number(value), shown, "{value:?}");
        }
    }

    #[test]
    fn units_come_from_the_declaration_or_from_the_name() {
        let show = |name: &str, declared, value| Quantity::of_metric(name, declared).show(value);
        assert_eq!(show("task_duration_seconds_sum", None, 0.0025), "2.5 ms");
        assert_eq!(show("heap_bytes", None, 3.0 * 1024.0 * 1024.0), "3 MiB");
        assert_eq!(show("queue_size", None, 847.0), "847");
        assert_eq!(show("busy_ratio", None, 0.5), "50%");
        assert_eq!(show("temperature", Some("celsius"), 21.5), "21.5 celsius");
        let rate = Quantity::of_metric("requests_total", None).rate();
        assert_eq!(rate.show(12.0), "12/s");
        let cpu = Quantity::of_metric("cpu_seconds_total", None).rate();
        assert_eq!(cpu.show(0.3), "0.3 s/s");
        assert_eq!(show("job:gc_pause_seconds:p99", None, 0.07), "70 ms");
        assert_eq!(show("job:requests:rate5m", None, 7.0), "7/s");
        let start = 1_764_315_060.0;
        let shown = "2025-11-28 07:31:00";
        assert_eq!(show("process_start_time_seconds", None, start), shown);
        assert_eq!(show("process_idle_time_seconds", None, 30.0), "30 s");
    }

    #[test]
    fn the_ticks_of_an_axis_have_the_same_decimals() {
        let ticks: Vec<String> = [0.0, 0.25, 0.5, 0.75]
            .iter()
            .map(|value| tick(*value, 0.25))
            .collect();
        assert_eq!(ticks, ["0.00", "0.25", "0.50", "0.75"]);
        assert_eq!(tick(15_000.0, 5_000.0), "15 k");
        assert_eq!(tick(2_500_000.0, 500_000.0), "2.5 M");
        assert_eq!(tick(0.1 + 0.2 - 0.3, 0.1), "0.0");
    }

    #[test]
    fn moments_are_told_in_utc_and_beyond_the_calendar_in_seconds() {
        assert_eq!(
            moment(1_764_315_060.0, Precision::Full),
            "2025-11-28 07:31:00"
        );
        assert_eq!(moment(1_764_315_060.5, Precision::Milli), "07:31:00.500");
        assert!(moment(9e11, Precision::Full).ends_with(" s"));
    }

    #[test]
    fn durations_read_in_the_unit_that_fits() {
        assert_eq!(nanos(850_000_000), "850 ms");
        assert_eq!(nanos(0), "0 s");
        assert_eq!(nanos(125_000_000_000), "2 min 5 s");
    }
}
