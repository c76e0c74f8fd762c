//! The scrapes of both formats, read, compared, printed and found fault with.

use telemetry::metrics::{Format, HistogramError, Kind, Scrape};

const WORKER_POOL: &str = include_str!("data/worker_pool.prom");

fn pool() -> Scrape {
    Scrape::parse(WORKER_POOL).unwrap_or_else(|error| panic!("worker_pool.prom: {error}"))
}

#[test]
fn the_worker_pool_scrape_is_read_whole() {
    let scrape = pool();
    let families: Vec<(&str, Kind, usize)> = scrape
        .families
        .iter()
        .map(|family| (family.name.as_str(), family.kind, family.samples.len()))
        .collect();
    assert_eq!(
        families,
        [
            ("worker_pool_queue_size", Kind::Gauge, 1),
            ("worker_pool_workers_active", Kind::Gauge, 1),
            ("worker_pool_workers_total", Kind::Gauge, 1),
            ("worker_pool_tasks_total", Kind::Counter, 3),
            ("worker_pool_task_duration_seconds", Kind::Histogram, 11),
        ]
    );
    assert_eq!(scrape.value("worker_pool_queue_size", &[]), Some(847.0));
    let tasks: Vec<(Option<&str>, f64, usize)> = scrape
        .samples("worker_pool_tasks_total")
        .map(|sample| (sample.labels.get("status"), sample.value, sample.line))
        .collect();
    assert_eq!(
        tasks,
        [
            (Some("ok"), 142831.0, 15),
            (Some("error"), 287.0, 16),
            (Some("timeout"), 1204.0, 17),
        ]
    );
    assert_eq!(scrape.value("worker_pool_tasks_total", &[]), None);
    assert_eq!(
        scrape.value("worker_pool_tasks_total", &[("status", "error")]),
        Some(287.0)
    );
}

#[test]
fn the_worker_pool_histogram_is_gathered_and_checked() {
    let histogram = pool()
        .histogram("worker_pool_task_duration_seconds", &[])
        .unwrap();
    assert_eq!(histogram.sum, 8934.2);
    assert_eq!(histogram.count, 144322.0);
    let bounds: Vec<(f64, f64)> = histogram
        .buckets
        .iter()
        .map(|bucket| (bucket.le, bucket.cumulative))
        .collect();
    assert_eq!(
        bounds,
        [
            (0.01, 89234.0),
            (0.025, 112445.0),
            (0.05, 131200.0),
            (0.1, 138900.0),
            (0.25, 141500.0),
            (0.5, 142100.0),
            (1.0, 142600.0),
            (2.5, 142780.0),
            (f64::INFINITY, 144322.0),
        ]
    );
}

#[test]
fn a_histogram_that_contradicts_itself_is_an_error_that_names_the_line() {
    let cases = [
        (
            "h_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 4\nh_bucket{le=\"+Inf\"} 5\nh_sum 1\nh_count 5\n",
            "line 2: the bucket le=\"2\" holds 4, less than the 5 of a narrower one; buckets are cumulative",
        ),
        (
            "h_bucket{le=\"1\"} 5\nh_sum 1\nh_count 5\n",
            "`h_bucket` has no bucket le=\"+Inf\"",
        ),
        (
            "h_bucket{le=\"+Inf\"} 5\nh_sum 1\nh_count 6\n",
            "line 1: the bucket le=\"+Inf\" holds 5, but `_count` is 6",
        ),
        (
            "h_bucket{le=\"1\"} 5\nh_bucket{le=\"1.0\"} 5\nh_bucket{le=\"+Inf\"} 5\nh_sum 1\nh_count 5\n",
            "lines 1 and 2: two buckets with le=\"1\"",
        ),
        (
            "h_bucket{le=\"x\"} 5\nh_sum 1\nh_count 5\n",
            "line 1: expected a label `le` with a number, found `x`",
        ),
        (
            "h_bucket 5\nh_sum 1\nh_count 5\n",
            "line 1: expected a label `le` with a number, found none",
        ),
        (
            "h_bucket{le=\"+Inf\"} NaN\nh_sum 1\nh_count NaN\n",
            "line 1: a bucket counts observations, NaN is no count",
        ),
        (
            "h_bucket{le=\"+Inf\"} 5\nh_count 5\n",
            "`h_sum` is missing beside its buckets",
        ),
        (
            "h_bucket{le=\"+Inf\"} 5\nh_sum 5\n",
            "`h_count` is missing beside its buckets",
        ),
        (
            "h_bucket{le=\"+Inf\",route=\"/x\"} 5\n",
            "there is no `h_bucket`; the name occurs with {route=\"/x\"}",
        ),
    ];
    for (text, message) in cases {
        let scrape = Scrape::parse(text).unwrap();
        let error = scrape.histogram("h", &[]).unwrap_err();
        assert_eq!(error.to_string(), message, "of\n{text}");
    }
}

#[test]
fn a_histogram_is_looked_up_by_its_labels_without_le() {
    let text = "h_bucket{route=\"/x\",le=\"+Inf\"} 5\nh_sum{route=\"/x\"} 1\nh_count{route=\"/x\"} 5\n\
                h_bucket{route=\"/y\",le=\"+Inf\"} 7\nh_sum{route=\"/y\"} 2\nh_count{route=\"/y\"} 7\n";
    let scrape = Scrape::parse(text).unwrap();
    assert_eq!(
        scrape.histogram("h", &[("route", "/y")]).unwrap().count,
        7.0
    );
    assert!(matches!(
        scrape.histogram("h", &[]),
        Err(HistogramError::Missing { known, .. }) if known.len() == 2
    ));
    assert_eq!(scrape.histogram_labels("h").len(), 2);
}

#[test]
fn a_text_that_leaves_the_format_is_refused_with_line_column_and_expectation() {
    use Format::{Exposition, OpenMetrics};
    let cases = [
        (
            Exposition,
            "a 1\nb{x=1} 2\n",
            "line 2, column 5: expected `\"` and a label value, found `1} 2`",
        ),
        (
            Exposition,
            "a{x=\"1\" 2\n",
            "line 1, column 9: expected `,` or `}` after a label, found `2`",
        ),
        (
            Exposition,
            "a{x=\"\\t\"} 2\n",
            "line 1, column 6: expected one of the escapes `\\\\`, `\\\"` and `\\n`, found `\\t\"} 2`",
        ),
        (
            Exposition,
            "a{x=\"1\n",
            "line 1, column 7: expected `\"` at the end of the label value, found the end of the line",
        ),
        (
            Exposition,
            "a{x=\"1\",x=\"2\"} 1\n",
            "line 1, column 9: expected each label once, found `x=\"2\"} 1`",
        ),
        (
            Exposition,
            "é 1\n",
            "line 1, column 1: expected a metric name, found `é 1`",
        ),
        (
            Exposition,
            "a{é=\"1\"} 1\n",
            "line 1, column 3: expected a label name or `}`, found `é=\"1\"} 1`",
        ),
        (
            Exposition,
            "a one\n",
            "line 1, column 3: expected a value such as 42, 0.25, 1e-3, +Inf or NaN, found `one`",
        ),
        (
            Exposition,
            "a 1e999\n",
            "line 1, column 3: expected a number within the range of a 64-bit float, found `1e999`",
        ),
        (
            Exposition,
            "a 1 1.5\n",
            "line 1, column 5: expected a timestamp in whole milliseconds since 1970, found `1.5`",
        ),
        (
            Exposition,
            "a 1 2 3\n",
            "line 1, column 7: expected the end of the line, found `3`",
        ),
        (
            Exposition,
            "a 1 # {x=\"1\"} 1\n",
            "line 1, column 5: expected the end of the line (exemplars need OpenMetrics), found `# {x=\"1\"} 1`",
        ),
        (
            Exposition,
            "a 1\r\n",
            "line 1, column 3: expected a value such as 42, 0.25, 1e-3, +Inf or NaN, found `1\\r`",
        ),
        (
            Exposition,
            "# TYPE a meter\n",
            "line 1, column 10: expected one of counter, gauge, histogram, summary, untyped, found `meter`",
        ),
        (
            Exposition,
            "# TYPE a gauge\n# TYPE a gauge\n",
            "line 2, column 8: expected one TYPE line for each family, found `a gauge`",
        ),
        (
            Exposition,
            "# HELP a x\n# HELP a y\n",
            "line 2, column 8: expected one HELP line for each family, found `a y`",
        ),
        (
            OpenMetrics,
            "a 1\n",
            "line 2, column 1: expected `# EOF` as the last line of OpenMetrics, found the end of the line",
        ),
        (
            OpenMetrics,
            "a 1\n\n# EOF\n",
            "line 2, column 1: expected a sample or a `#` line; OpenMetrics has no blank lines, found the end of the line",
        ),
        (
            OpenMetrics,
            "# EOF\na 1\n",
            "line 2, column 1: expected nothing after `# EOF`, found `a 1`",
        ),
        (
            OpenMetrics,
            "a 1\nb 1\na{x=\"1\"} 1\n# EOF\n",
            "line 3, column 1: expected each family in one piece, not interleaved, found `a{x=\"1\"} 1`",
        ),
        (
            OpenMetrics,
            "a 1\n# TYPE a gauge\n# EOF\n",
            "line 2, column 8: expected HELP, TYPE and UNIT before the samples of their family, found `a gauge`",
        ),
        (
            OpenMetrics,
            "# TYPE a_total counter\n# EOF\n",
            "line 1, column 8: expected the counter's name without `_total`, which its samples add, found `a_total counter`",
        ),
        (
            OpenMetrics,
            "# TYPE a counter\na 1\n# EOF\n",
            "line 2, column 1: expected a sample of a counter: `a_total` or `a_created`, found `a 1`",
        ),
        (
            OpenMetrics,
            "a 1 x\n# EOF\n",
            "line 1, column 5: expected a timestamp in seconds since 1970, found `x`",
        ),
    ];
    for (format, text, message) in cases {
        let error = Scrape::parse_as(text, format).unwrap_err();
        assert_eq!(error.to_string(), message, "of {text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_where_they_stand() {
    let error = Scrape::from_slice(b"ok 1\n\xc3\xa9\xff 1\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 2: expected UTF-8 text, found the byte 0xff"
    );
}

#[test]
fn exposition_is_read_with_its_escapes_special_values_and_timestamps() {
    let text = "# an ordinary comment\n\
        # HELP a A \\\\ and a \\n and a \\x.\n\
        \t a { x = \"q\\\"b\\\\n\\nz\" , } +Inf -5\n\
        a{y=\"\"} nan\n\
        a{} -Inf 1520879607789";
    let scrape = Scrape::parse(text).unwrap();
    let family = scrape.family("a").unwrap();
    assert_eq!(family.help.as_deref(), Some("A \\ and a \n and a \\x."));
    let [first, second, third] = family.samples.as_slice() else {
        panic!("{family:#?}");
    };
    assert_eq!(first.labels.get("x"), Some("q\"b\\n\nz"));
    assert_eq!(first.value, f64::INFINITY);
    assert_eq!(first.timestamp.map(|t| t.as_millis()), Some(-5));
    assert!(second.value.is_nan(), "{second}");
    assert_eq!(second.labels.get("y"), Some(""));
    assert_eq!(third.value, f64::NEG_INFINITY);
    assert_eq!(
        third.timestamp.map(|t| t.as_seconds()),
        Some(1520879607.789)
    );
    assert_eq!((first.line, second.line, third.line), (3, 4, 5));
}

#[test]
fn openmetrics_is_read_with_units_exemplars_created_series_and_float_seconds() {
    let text = "# TYPE req_seconds histogram\n\
        # UNIT req_seconds seconds\n\
        # HELP req_seconds With a \\\"quote\\\".\n\
        req_seconds_bucket{le=\"0.5\"} 3 # {trace_id=\"4bf92f35\"} 0.31 1520879607.789\n\
        req_seconds_bucket{le=\"+Inf\"} 4 1520879610.5\n\
        req_seconds_sum 2.5\n\
        req_seconds_count 4\n\
        req_seconds_created 1520430000.123\n\
        # TYPE jobs counter\n\
        jobs_total 7 # {} 1\n\
        jobs_created 1520430000\n\
        # TYPE build info\n\
        build_info{version=\"1\"} 1\n\
        # TYPE mode stateset\n\
        mode{mode=\"ready\"} 1\n\
        # TYPE waiting gaugehistogram\n\
        waiting_bucket{le=\"+Inf\"} 2\n\
        waiting_gcount 2\n\
        waiting_gsum 3\n\
        # EOF\n";
    let scrape = Scrape::parse(text).unwrap();
    let kinds: Vec<Kind> = scrape.families.iter().map(|family| family.kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::Histogram,
            Kind::Counter,
            Kind::Info,
            Kind::StateSet,
            Kind::GaugeHistogram
        ]
    );
    let family = &scrape.families[0];
    assert_eq!(family.unit.as_deref(), Some("seconds"));
    assert_eq!(family.help.as_deref(), Some("With a \"quote\"."));
    let exemplar = family.samples[0].exemplar.as_ref().unwrap();
    assert_eq!(exemplar.labels.get("trace_id"), Some("4bf92f35"));
    assert_eq!(exemplar.value, 0.31);
    assert_eq!(
        exemplar.timestamp.map(|t| t.as_seconds()),
        Some(1520879607.789)
    );
    assert_eq!(
        family.samples[1].timestamp.map(|t| t.as_millis()),
        Some(1520879610500)
    );
    assert_eq!(scrape.histogram("req_seconds", &[]).unwrap().count, 4.0);
    assert_eq!(scrape.value("jobs_created", &[]), Some(1520430000.0));
}

#[test]
fn a_sample_goes_to_the_family_of_its_own_name_before_one_that_it_extends() {
    let text = "# TYPE x_count gauge\n# TYPE x histogram\nx_count 1\nx_sum 2\n";
    let scrape = Scrape::parse(text).unwrap();
    let sizes: Vec<(&str, usize)> = scrape
        .families
        .iter()
        .map(|family| (family.name.as_str(), family.samples.len()))
        .collect();
    assert_eq!(sizes, [("x_count", 1), ("x", 1)]);
}
