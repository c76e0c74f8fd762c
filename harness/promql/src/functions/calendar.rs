//! Parts of a date in UTC. Not for time zones or leap seconds, of which PromQL has none.

/// What to take of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Minute,
    Hour,
    /// Sunday is 0.
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

const DAY: i64 = 86_400;

/// A part of the date at this many seconds since the Unix epoch; fractions are cut off.
pub(crate) fn part(seconds: f64, part: Part) -> f64 {
    // What no 64 bits can hold is, in Prometheus, the last second that they can: in December of the
    // year 292,277,026,596.
    let fits = seconds.abs() < 9.223_372_036_854_775e18;
    let seconds = if fits { seconds as i128 } else { 1 << 63 };
    let days = seconds.div_euclid(i128::from(DAY)) as i64;
    let of_day = seconds.rem_euclid(i128::from(DAY)) as i64;
    let date = Date::of(days);
    let value = match part {
        Part::Minute => of_day / 60 % 60,
        Part::Hour => of_day / 3_600,
        Part::DayOfWeek => (days + 4).rem_euclid(7),
        Part::DayOfMonth => date.day,
        Part::DayOfYear => days - Date::first_of(date.year, 1) + 1,
        Part::DaysInMonth => {
            let (year, month) = if date.month == 12 {
                (date.year + 1, 1)
            } else {
                (date.year, date.month + 1)
            };
            Date::first_of(year, month) - Date::first_of(date.year, date.month)
        }
        Part::Month => date.month,
        Part::Year => date.year,
    };
    value as f64
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// The date this many days after 1970-01-01.
    ///
    /// Eras of 400 years with years that start in March, after Howard Hinnant's
    /// "chrono-compatible low-level date algorithms".
    fn of(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
        }
    }

    /// Days from 1970-01-01 to the first of a month.
    fn first_of(year: i64, month: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let from_march = (month + 9) % 12;
        let of_year = (153 * from_march + 2) / 5;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        era * 146_097 + of_era - 719_468
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seconds: f64) -> Vec<f64> {
        [
            Part::Year,
            Part::Month,
            Part::DayOfMonth,
            Part::DayOfWeek,
            Part::DayOfYear,
            Part::DaysInMonth,
            Part::Hour,
            Part::Minute,
        ]
        .into_iter()
        .map(|which| part(seconds, which))
        .collect()
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        // 1970-01-01 was a Thursday.
        assert_eq!(all(0.0), [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        // 2024-02-29 23:59:59, a Thursday in a leap year.
        assert_eq!(
            all(1_709_251_199.9),
            [2024.0, 2.0, 29.0, 4.0, 60.0, 29.0, 23.0, 59.0]
        );
        // 1900 was no leap year: 1900-03-01 was a Thursday.
        assert_eq!(
            all(-2_203_891_200.0),
            [1900.0, 3.0, 1.0, 4.0, 60.0, 31.0, 0.0, 0.0]
        );
        // 2023-12-31, a Sunday.
        assert_eq!(
            all(1_703_980_800.0),
            [2023.0, 12.0, 31.0, 0.0, 365.0, 31.0, 0.0, 0.0]
        );
    }

    #[test]
    fn no_number_is_too_strange() {
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert_eq!(
                all(seconds),
                [292_277_026_596.0, 12.0, 4.0, 0.0, 339.0, 31.0, 15.0, 30.0]
            );
        }
        assert!(all(-1e18).into_iter().all(f64::is_finite));
    }
}
