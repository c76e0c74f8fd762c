//! Unix time as people and log lines write it. Not a library for dates: it only prints.

/// RFC 3339 with the offset of a zone that is `zone` minutes east of UTC, to the second.
pub fn rfc3339(unix_seconds: i64, zone: i64) -> String {
    let offset = if zone == 0 {
        "Z".to_owned()
    } else {
        let sign = if zone < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", zone.abs() / 60, zone.abs() % 60)
    };
    format!("{}{offset}", date_time(unix_seconds + 60 * zone))
}

/// RFC 3339 in UTC, to the millisecond.
pub fn rfc3339_millis(unix_millis: i64) -> String {
    format!(
        "{}.{:03}Z",
        date_time(unix_millis.div_euclid(1_000)),
        unix_millis.rem_euclid(1_000)
    )
}

/// The calendar is Howard Hinnant's `civil_from_days`.
fn date_time(unix_seconds: i64) -> String {
    let (days, second) = (
        unix_seconds.div_euclid(86_400),
        unix_seconds.rem_euclid(86_400),
    );
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_164_800, 0), "2024-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_764_315_000, -300), "2025-11-28T02:30:00-05:00");
        assert_eq!(
            rfc3339_millis(1_764_315_000_007),
            "2025-11-28T07:30:00.007Z"
        );
        assert_eq!(rfc3339_millis(-1), "1969-12-31T23:59:59.999Z");
    }
}
