//! A dump with other lines: what a scene leaves out of one, or writes differently.
//!
//! For texts of one record a line, and most of all for metrics in OpenMetrics with a time on each
//! sample. Not a parser: what a dump says is read by `telemetry`.
//!
//! ```
//! use kit::dump;
//!
//! let metrics = "# TYPE queue gauge\nqueue{pool=\"a\"} 3 100\nqueue{pool=\"a\"} 4 130\n# EOF\n";
//! let doubled = dump::revalued(metrics, |sample| {
//!     (sample.name() == "queue" && sample.seconds() > 100.0).then(|| 2.0 * sample.value)
//! });
//! assert!(doubled.contains("queue{pool=\"a\"} 3 100\nqueue{pool=\"a\"} 8 130\n"));
//! assert_eq!(dump::without(metrics, "queue"), "# EOF\n");
//! ```

/// A sample as its line gives it: `series value time`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'d> {
    /// Name and labels, as they are written.
    pub series: &'d str,
    pub value: f64,
    time: &'d str,
    seconds: f64,
}

impl<'d> Sample<'d> {
    /// Reads a line, if it is one of a sample that has a time.
    pub fn of(line: &'d str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (rest, time) = line.rsplit_once(' ')?;
        let (series, value) = rest.rsplit_once(' ')?;
        Some(Sample {
            series,
            value: value.parse().ok()?,
            time,
            seconds: time.parse().ok()?,
        })
    }

    /// The series without its labels.
    pub fn name(&self) -> &'d str {
        self.series
            .split_once('{')
            .map_or(self.series, |(name, _)| name)
    }

    /// Its time: seconds since the Unix epoch.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// The lines of `dump` that `wanted` chooses.
pub fn only(dump: &str, wanted: impl Fn(&str) -> bool) -> String {
    ended(dump.lines().filter(|line| wanted(line)))
}

/// The lines of `dump` in which `part` does not occur.
pub fn without(dump: &str, part: &str) -> String {
    only(dump, |line| !line.contains(part))
}

/// The samples of `dump` whose time `wanted` chooses, in seconds, and all that has no time.
pub fn at(dump: &str, wanted: impl Fn(f64) -> bool) -> String {
    only(dump, |line| {
        Sample::of(line).is_none_or(|sample| wanted(sample.seconds))
    })
}

/// `dump` with another value where `value` gives one.
pub fn revalued(dump: &str, value: impl Fn(Sample<'_>) -> Option<f64>) -> String {
    ended(dump.lines().map(|line| {
        let changed = Sample::of(line).and_then(|sample| {
            let Sample { series, time, .. } = sample;
            value(sample).map(|value| format!("{series} {value} {time}"))
        });
        changed.unwrap_or_else(|| line.to_owned())
    }))
}

/// `dump` without the time of the last sample of `name`, and the number of its line, from 1.
///
/// # Panics
/// When `dump` has no such sample.
pub fn timeless(dump: &str, name: &str) -> (String, usize) {
    let of = |line: &str| Sample::of(line).is_some_and(|sample| sample.name() == name);
    let last = dump
        .lines()
        .enumerate()
        .filter(|(_, line)| of(line))
        .last()
        .unwrap_or_else(|| panic!("the dump has no sample of `{name}` with a time"))
        .0;
    let lines = dump.lines().enumerate().map(|(nth, line)| match nth {
        _ if nth == last => line.rsplit_once(' ').map_or(line, |(sample, _)| sample),
        _ => line,
    });
    (ended(lines), last + 1)
}

fn ended(lines: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "# HELP busy Cores in use, at most 4 5\n\
                        busy{host=\"a b\"} 1.5 100\n\
                        busy{host=\"a b\"} 2 130.5\n\
                        busy_total 7 130.5\n\
                        # EOF\n";

    #[test]
    fn comments_and_samples_without_a_time_are_no_samples() {
        for line in ["# HELP busy at most 4 5", "# EOF", "busy 3", "<html> 1 2x"] {
            assert_eq!(Sample::of(line), None, "{line}");
        }
        let sample = Sample::of("busy{host=\"a b\"} 2 130.5").expect("it is one");
        assert_eq!((sample.name(), sample.value), ("busy", 2.0));
        assert_eq!(sample.seconds(), 130.5);
        assert_eq!(sample.series, "busy{host=\"a b\"}");
    }

    #[test]
    fn what_is_not_chosen_is_left_out_and_the_rest_stays_as_it_was() {
        assert_eq!(only(DUMP, |_| true), DUMP);
        assert_eq!(without(DUMP, "busy"), "# EOF\n");
        let late = at(DUMP, |seconds| seconds > 100.0);
        assert_eq!(late, without(DUMP, " 100"));
    }

    #[test]
    fn another_value_is_written_with_the_time_that_was_there() {
        let changed = revalued(DUMP, |sample| {
            (sample.name() == "busy").then_some(2.0 * sample.value)
        });
        let expected = DUMP
            .replace("\"} 1.5 100", "\"} 3 100")
            .replace("\"} 2 130.5", "\"} 4 130.5");
        assert_eq!(changed, expected);
    }

    #[test]
    fn the_last_sample_of_a_name_loses_its_time() {
        let (changed, line) = timeless(DUMP, "busy");
        assert_eq!(changed, DUMP.replace("\"} 2 130.5", "\"} 2"));
        assert_eq!(line, 3);
    }

    #[test]
    #[should_panic(expected = "no sample of `idle`")]
    fn a_name_that_is_not_there_is_no_scene() {
        let _ = timeless(DUMP, "idle");
    }
}
