//! Time intervals: the hours, days, months and years in which a route is muted or active.

use std::ops::RangeInclusive;

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::yaml::{Problems, View};

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A time interval with its name: it holds a moment if one of its parts does.
#[derive(Debug, Clone)]
pub struct TimeInterval {
    name: String,
    parts: Vec<Part>,
}

/// Each `None` holds every moment; all the others must hold.
#[derive(Debug, Clone)]
struct Part {
    minutes: Option<Vec<(i32, i32)>>,
    weekdays: Option<Vec<RangeInclusive<i32>>>,
    days_of_month: Option<Vec<(i32, i32)>>,
    months: Option<Vec<RangeInclusive<i32>>>,
    years: Option<Vec<RangeInclusive<i32>>>,
    zone: TimeZone,
}

impl TimeInterval {
    /// The name that routes refer to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the moment, in milliseconds since the Unix epoch, is in the interval.
    pub fn holds(&self, at_ms: i64) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(at_ms) else {
            return false;
        };
        self.parts
            .iter()
            .any(|part| part.holds(&instant.to_zoned(part.zone.clone())))
    }

    pub(super) fn decode(view: &View<'_>, problems: &mut Problems) -> Self {
        let fields = view.fields(&["name", "time_intervals"], problems);
        let name = fields.text("name", problems).unwrap_or_default().to_owned();
        if name.is_empty() {
            problems.add(view, "the time interval has no name", "add `name`");
        }
        let parts = fields
            .list("time_intervals", problems)
            .iter()
            .map(|part| Part::decode(part, problems))
            .collect();
        TimeInterval { name, parts }
    }
}

impl Part {
    fn holds(&self, moment: &Zoned) -> bool {
        fn any(ranges: &Option<Vec<RangeInclusive<i32>>>, value: i32) -> bool {
            ranges
                .as_ref()
                .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&value)))
        }
        let minute = i32::from(moment.hour()) * 60 + i32::from(moment.minute());
        let day = i32::from(moment.day());
        let days_in_month = i32::from(moment.days_in_month());
        let in_minutes = self.minutes.as_ref().is_none_or(|ranges| {
            ranges
                .iter()
                .any(|&(start, end)| (start..end).contains(&minute))
        });
        let in_days = self.days_of_month.as_ref().is_none_or(|ranges| {
            ranges.iter().any(|&(first, last)| {
                let from_end = |day: i32| {
                    if day < 0 {
                        days_in_month + day + 1
                    } else {
                        day
                    }
                };
                let (first, last) = (from_end(first), from_end(last));
                first <= days_in_month && (first..=last).contains(&day)
            })
        });
        in_minutes
            && in_days
            && any(
                &self.weekdays,
                i32::from(moment.weekday().to_sunday_zero_offset()),
            )
            && any(&self.months, i32::from(moment.month()))
            && any(&self.years, i32::from(moment.year()))
    }

    fn decode(view: &View<'_>, problems: &mut Problems) -> Self {
        let fields = view.fields(
            &[
                "times",
                "weekdays",
                "days_of_month",
                "months",
                "years",
                "location",
            ],
            problems,
        );
        let minutes = fields.get("times").map(|view| {
            view.list(problems)
                .iter()
                .map(|range| decode_minutes(range, problems))
                .collect()
        });
        let weekdays = decode_ranges(
            fields.get("weekdays"),
            problems,
            "write a day such as `monday`, or a range such as `monday:friday`",
            |text| index_of(&WEEKDAYS, text),
        );
        let months = decode_ranges(
            fields.get("months"),
            problems,
            "write a month such as `may` or `5`, or a range such as `june:august`",
            |text| match text.parse::<i32>() {
                Ok(month) => (1..=12).contains(&month).then_some(month),
                Err(_) => index_of(&MONTHS, text).map(|index| index + 1),
            },
        );
        let years = decode_ranges(
            fields.get("years"),
            problems,
            "write a year such as `2027`, or a range such as `2027:2029`",
            |text| text.parse().ok(),
        );
        let days_of_month = fields.get("days_of_month").map(|view| {
            view.list(problems)
                .iter()
                .map(|range| decode_days(range, problems))
                .collect()
        });
        let zone = match fields.get("location") {
            None => TimeZone::UTC,
            Some(view) => {
                let name = view.text(problems);
                match name {
                    "" | "UTC" => TimeZone::UTC,
                    name => TimeZone::get(name).unwrap_or_else(|_| {
                        problems.add(
                            &view,
                            format!("no time zone is called `{name}`, or not on every machine"),
                            "write a name of the time zone database, such as `Europe/Madrid`",
                        );
                        TimeZone::UTC
                    }),
                }
            }
        };
        Part {
            minutes,
            weekdays,
            days_of_month,
            months,
            years,
            zone,
        }
    }
}

fn index_of(names: &[&str], text: &str) -> Option<i32> {
    let text = text.to_lowercase();
    let index = names.iter().position(|name| *name == text)?;
    i32::try_from(index).ok()
}

fn decode_minutes(view: &View<'_>, problems: &mut Problems) -> (i32, i32) {
    const REMEDY: &str = "write both as `HH:MM` from `00:00` to `24:00`, the end after the start, \
                          and a night as two ranges";
    let fields = view.fields(&["start_time", "end_time"], problems);
    let mut minute = |name: &str| {
        let text = fields.text(name, problems)?;
        let (hour, minute) = text.split_once(':')?;
        if hour.len() != 2 || minute.len() != 2 {
            return None;
        }
        let (hour, minute): (i32, i32) = (hour.parse().ok()?, minute.parse().ok()?);
        let valid =
            (0..24).contains(&hour) && (0..60).contains(&minute) || (hour, minute) == (24, 0);
        valid.then_some(hour * 60 + minute)
    };
    match (minute("start_time"), minute("end_time")) {
        (Some(start), Some(end)) if start < end => (start, end),
        (Some(_), Some(_)) => {
            problems.add(view, "the range ends before it starts", REMEDY);
            (0, 0)
        }
        _ => {
            problems.add(
                view,
                "the start or the end is missing or no time of day",
                REMEDY,
            );
            (0, 0)
        }
    }
}

fn decode_ranges(
    view: Option<View<'_>>,
    problems: &mut Problems,
    remedy: &str,
    value: impl Fn(&str) -> Option<i32>,
) -> Option<Vec<RangeInclusive<i32>>> {
    let view = view?;
    let ranges = view
        .list(problems)
        .iter()
        .filter_map(|item| {
            let text = item.text(problems);
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            match (value(first), value(last)) {
                (Some(first), Some(last)) if first <= last => Some(first..=last),
                (Some(_), Some(_)) => {
                    problems.add(
                        item,
                        format!("the range `{text}` ends before it starts"),
                        "put the earlier first; a week begins with sunday; \
                         write what spans an end as two items",
                    );
                    None
                }
                _ => {
                    problems.add(item, format!("`{text}` is not understood"), remedy);
                    None
                }
            }
        })
        .collect();
    Some(ranges)
}

fn decode_days(view: &View<'_>, problems: &mut Problems) -> (i32, i32) {
    let text = view.text(problems);
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let day = |text: &str| {
        let day: i32 = text.parse().ok()?;
        ((-31..=31).contains(&day) && day != 0).then_some(day)
    };
    // Whether the end comes first depends on the month; refused is what is so in the shortest.
    let in_shortest = |day: i32| if day < 0 { 28 + day } else { day };
    match (day(first), day(last)) {
        (Some(first), Some(last))
            if in_shortest(first) <= in_shortest(last) && (first > 0 || last < 0) =>
        {
            (first, last)
        }
        _ => {
            problems.add(
                view,
                format!("`{text}` is no range of days of a month"),
                "write a day from 1 to 31, from -31 to -1 counted from the month's end, \
                 or a range such as `1:5` or `-3:-1`",
            );
            (1, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn interval(text: &str) -> Result<TimeInterval, yaml::ConfigError> {
        let node = yaml::read(text)?;
        let mut problems = Problems::default();
        let interval = TimeInterval::decode(&View::root(&node), &mut problems);
        problems.or_error(|| interval)
    }

    fn at(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn office_hours_hold_on_working_days_in_their_zone() {
        let office = interval(
            "name: office\ntime_intervals:\n- weekdays: [monday:friday]\n  \
             times: [{start_time: 09:00, end_time: 17:00}]\n  location: Europe/Madrid\n",
        )
        .unwrap();
        // 2026-03-02 is a Monday; Madrid is at UTC+1 then, and at UTC+2 in July.
        for (moment, expected) in [
            ("2026-03-02T07:59:00Z", false),
            ("2026-03-02T08:00:00Z", true),
            ("2026-03-02T15:59:59Z", true),
            ("2026-03-02T16:00:00Z", false),
            ("2026-07-06T07:00:00Z", true),
            ("2026-03-07T10:00:00Z", false),
        ] {
            assert_eq!(office.holds(at(moment)), expected, "{moment}");
        }
    }

    #[test]
    fn days_count_from_the_end_of_the_month_too() {
        let close =
            interval("name: close\ntime_intervals:\n- days_of_month: ['-3:-1', '1']\n").unwrap();
        for (moment, expected) in [
            ("2027-02-25T12:00:00Z", false),
            ("2027-02-26T12:00:00Z", true),
            ("2027-02-28T12:00:00Z", true),
            ("2027-03-01T12:00:00Z", true),
            ("2027-03-28T12:00:00Z", false),
            ("2027-03-29T12:00:00Z", true),
        ] {
            assert_eq!(close.holds(at(moment)), expected, "{moment}");
        }
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        for part in [
            "weekdays: [saturday:sunday]",
            "weekdays: [mon]",
            "times: [{start_time: '22:00', end_time: '06:00'}]",
            "times: [{start_time: '9:00', end_time: '17:00'}]",
            "times: [{start_time: '09:00'}]",
            "days_of_month: ['0']",
            "days_of_month: ['5:1']",
            "days_of_month: ['-1:5']",
            "months: ['13']",
            "location: Atlantis/Capital",
            "hours: [1]",
        ] {
            let text = format!("name: x\ntime_intervals:\n- {part}\n");
            assert!(interval(&text).is_err(), "{part}");
        }
    }
}
