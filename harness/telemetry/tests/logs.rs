//! Logs as JSON lines: fields, times, and where a line goes wrong.

use proptest::prelude::*;
use telemetry::logs::{self, LogLine, Timestamp};

const LOCK_WAIT: &str = include_str!("data/lock_wait.jsonl");

fn one(text: &str) -> LogLine {
    let mut lines = logs::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(lines.len(), 1, "{text}");
    lines.remove(0)
}

#[test]
fn the_lock_log_is_read_whole_with_its_times_of_day() {
    let lines = logs::parse(LOCK_WAIT).unwrap();
    assert_eq!(lines.len(), 8);
    let last = &lines[7];
    assert_eq!(last.line, 8);
    assert_eq!(last.str("request_id").unwrap(), "def-456");
    assert_eq!(last.u64("waited_ms").unwrap(), 30004);
    let waited = last
        .time
        .unwrap()
        .seconds_since(lines[5].time.unwrap())
        .unwrap();
    assert!((waited - 30.004).abs() < 1e-9, "{waited}");
    assert!(lines.is_sorted_by(|a, b| a.time <= b.time));
}

#[test]
fn every_time_format_is_read_to_the_same_instant() {
    let same = [
        "2026-01-31T10:00:01.523Z",
        "2026-01-31t10:00:01.523z",
        "2026-01-31 10:00:01,523+00:00",
        "2026-01-31T12:30:01.523+02:30",
        "2026-01-30T22:00:01.523000000999-12:00",
    ];
    for text in same {
        let time = Timestamp::from_text(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(time.to_string(), "2026-01-31T10:00:01.523Z", "{text}");
    }
    let numbers = [
        "1769853601.523",
        "1769853601523",
        "1769853601523000",
        "1769853601523000000",
        "\"1769853601523\"",
    ];
    for number in numbers {
        let time = one(&format!("{{\"ts\":{number}}}")).time.unwrap();
        let micros = time
            .nanos_since(Timestamp::Unix(1_769_853_601_523_000_000))
            .unwrap()
            / 1000;
        assert_eq!(micros, 0, "{number}: {time}");
    }
    assert_eq!(
        Timestamp::from_text("00:00:00.5"),
        Some(Timestamp::OfDay(500_000_000))
    );
    assert_eq!(
        Timestamp::from_text("1969-12-31T23:59:59Z"),
        Some(Timestamp::Unix(-1_000_000_000))
    );
    assert_eq!(
        Timestamp::from_text("2000-02-29T00:00:00Z").map(|time| time.to_string()),
        Some("2000-02-29T00:00:00.000Z".to_owned())
    );
}

#[test]
fn a_time_that_does_not_exist_is_refused() {
    let texts = [
        "",
        "10:00",
        "24:00:00",
        "10:60:00",
        "10:00:61",
        "10:00:00.",
        "10:00:00Z",
        "1:00:00",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00 Z",
        "tuesday",
        "é026-01-01T00:00:00Z",
    ];
    for text in texts {
        assert_eq!(Timestamp::from_text(text), None, "{text:?}");
    }
}

#[test]
fn a_time_of_day_and_an_instant_do_not_compare() {
    let (day, unix) = (Timestamp::OfDay(5), Timestamp::Unix(5));
    assert_eq!(day.partial_cmp(&unix), None);
    assert_eq!(day.nanos_since(unix), None);
}

#[test]
fn fields_are_found_by_path_and_by_names_that_hold_dots() {
    let line =
        one(r#"{"http":{"status":503,"tags":["a","b"]},"http.method":"GET","slow":true,"x":-1.5}"#);
    assert_eq!(line.u64("http.status").unwrap(), 503);
    assert_eq!(line.str("http.tags.1").unwrap(), "b");
    assert_eq!(line.str("http.method").unwrap(), "GET");
    assert!(line.bool("slow").unwrap());
    assert_eq!(line.f64("x").unwrap(), -1.5);
    assert_eq!(
        line.u64("x").unwrap_err().to_string(),
        "line 1: the field `x` is `-1.5`, not a whole number from 0"
    );
    assert_eq!(
        line.str("http.code").unwrap_err().to_string(),
        "line 1: there is no field `http.code`, only `http`, `http.method`, `slow`, `x`"
    );
}

#[test]
fn a_line_that_is_no_object_or_has_no_readable_time_is_an_error_that_points_at_it() {
    let cases = [
        (
            "{}\n\n{\"é\":1,}\n",
            "line 3, column 8: expected a JSON object, found JSON in which this fails: trailing comma",
        ),
        (
            "[1]\n",
            "line 1, column 1: expected a JSON object, found JSON in which this fails: invalid type: sequence, expected a map",
        ),
        (
            "{\"a\":\n",
            "line 1, column 5: expected a JSON object, found JSON in which the text ends within a value",
        ),
        (
            "{\"é\":1,\"time\":\"soon\"}",
            "line 1, column 8: expected `time` to be an RFC 3339 time, a time of day as HH:MM:SS.mmm or a Unix time, found `\"soon\"`",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(
            logs::parse(text).unwrap_err().to_string(),
            message,
            "of {text:?}"
        );
    }
}

#[test]
fn nesting_beyond_the_limit_is_an_error_and_not_a_crash() {
    let text = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let error = logs::parse(&text).unwrap_err().to_string();
    assert!(error.contains("recursion limit exceeded"), "{error}");
}

#[test]
fn reading_can_go_on_after_a_bad_line() {
    let good: Vec<usize> = logs::lines("{}\nbad\n{\"a\":1}\r\n")
        .filter_map(Result::ok)
        .map(|line| line.line)
        .collect();
    assert_eq!(good, [1, 3]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = logs::from_slice(&bytes);
    }

    #[test]
    fn arbitrary_times_never_panic(text in "[0-9TZ:. +-]{0,30}|.{0,20}", number in any::<f64>()) {
        let _ = Timestamp::from_text(&text).map(|time| time.to_string());
        let _ = Timestamp::from_json(&serde_json::json!(number)).map(|time| time.to_string());
    }

    #[test]
    fn a_time_survives_being_printed(nanos in -62_135_596_800_000_000_000i128..253_402_300_799_000_000_000, of_day in 0u64..86_400_000_000_000) {
        for time in [Timestamp::Unix(nanos), Timestamp::OfDay(of_day)] {
            prop_assert_eq!(Timestamp::from_text(&time.to_string()), Some(time), "{}", time);
        }
    }

    #[test]
    fn a_line_survives_being_printed(fields in proptest::collection::btree_map(any::<String>(), any::<(String, i64)>(), 0..5)) {
        let text = serde_json::to_string(&fields).unwrap();
        let Ok(lines) = logs::parse(&text) else { return Ok(()) };
        let printed = lines[0].to_string();
        prop_assert_eq!(logs::parse(&printed), Ok(lines));
    }
}
