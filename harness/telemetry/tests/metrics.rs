//! The scrapes of both formats, read, compared, printed and found fault with.

use proptest::prelude::*;
use telemetry::metrics::{
    Exemplar, Family, Finding, Format, HistogramError, Kind, Labels, MetricName, Rule, Sample,
    Scrape, Series, Timestamp, lint,
};

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

#[test]
fn the_worker_pool_scrape_has_one_fault_a_gauge_that_ends_with_total() {
    let findings = lint(WORKER_POOL);
    let shown: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(
        shown,
        [
            "line 10: total-on-other-kind: `worker_pool_workers_total` is a gauge; only counters end \
          with `_total`"
        ]
    );
}

#[test]
fn lint_finds_each_fault_where_it_stands_and_no_other() {
    use Rule::*;
    let cases: &[(&str, &[(Rule, usize)])] = &[
        (
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n",
            &[],
        ),
        ("a{\n", &[(Syntax, 1)]),
        ("# HELP a A.\na 1\n", &[(TypeMissing, 2)]),
        (
            "# HELP a A.\na 1\n# TYPE a gauge\n",
            &[(TypeAfterSamples, 3)],
        ),
        ("# TYPE a gauge\na 1\n", &[(HelpMissing, 1)]),
        (
            "# HELP a A.\n# TYPE a counter\na 1\n",
            &[(CounterWithoutTotal, 2)],
        ),
        (
            "# HELP a_count A.\n# TYPE a_count gauge\na_count 1\n",
            &[(ReservedSuffix, 2)],
        ),
        (
            "# HELP a A.\n# TYPE a gauge\na{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n",
            &[(DuplicateSeries, 4)],
        ),
        (
            "# HELP a A.\n# TYPE a gauge\n# HELP b B.\n# TYPE b gauge\na{x=\"1\"} 1\nb 1\na{x=\"2\"} 1\n",
            &[(Interleaved, 7)],
        ),
        (
            "# HELP a_total A.\n# TYPE a_total counter\na_total -1\n",
            &[(NotACount, 3)],
        ),
        (
            "# HELP a_ms A.\n# TYPE a_ms gauge\na_ms 1\n",
            &[(BaseUnit, 2)],
        ),
        (
            "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n",
            &[(HistogramIncoherent, 3)],
        ),
        (
            "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
            &[(HistogramIncoherent, 4)],
        ),
        (
            "# HELP h H.\n# TYPE h histogram\nh_sum 1\nh_count 1\n",
            &[(HistogramIncoherent, 3)],
        ),
        (
            "# HELP a A.\n# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n",
            &[(UnitNotInName, 2)],
        ),
        (
            "# HELP a A.\n# TYPE a gauge\na 1 # {} 1\n# EOF\n",
            &[(ExemplarMisplaced, 3)],
        ),
    ];
    for (text, expected) in cases {
        let findings = lint(text);
        let got: Vec<(Rule, usize)> = findings.iter().map(|f| (f.rule, f.line)).collect();
        assert_eq!(got, *expected, "of\n{text}\n{findings:#?}");
    }
}

#[test]
fn a_delta_holds_increases_and_tells_of_restarts_and_of_series_that_come_and_go() {
    let header = "# TYPE jobs_total counter\n# TYPE depth gauge\n# TYPE s summary\n";
    let earlier = Scrape::parse(&format!(
        "{header}jobs_total{{w=\"a\"}} 10\njobs_total{{w=\"b\"}} 50\njobs_total{{w=\"gone\"}} 1\n\
         depth 4\ns{{quantile=\"0.5\"}} 3\ns_sum 9\ns_count 3\n"
    ))
    .unwrap();
    let later = Scrape::parse(&format!(
        "{header}jobs_total{{w=\"a\"}} 12.5\njobs_total{{w=\"b\"}} 7\njobs_total{{w=\"new\"}} 3\n\
         depth 9\ns{{quantile=\"0.5\"}} 4\ns_sum 8\ns_count 5\n"
    ))
    .unwrap();
    let delta = later.delta(&earlier);
    let shown: Vec<String> = delta.increases.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "jobs_total{w=\"a\"} 2.5",
            "jobs_total{w=\"b\"} 7",
            "s_sum -1",
            "s_count 2"
        ]
    );
    let names =
        |series: &[Series]| -> Vec<String> { series.iter().map(Series::to_string).collect() };
    assert_eq!(names(&delta.resets), ["jobs_total{w=\"b\"}"]);
    assert_eq!(names(&delta.appeared), ["jobs_total{w=\"new\"}"]);
    assert_eq!(names(&delta.vanished), ["jobs_total{w=\"gone\"}"]);
}

#[test]
fn the_delta_of_a_histogram_is_a_histogram_also_across_a_restart() {
    let scrape = |narrow: u32, wide: u32, all: u32, sum: f64| {
        Scrape::parse(&format!(
            "# TYPE h histogram\nh_bucket{{le=\"1\"}} {narrow}\nh_bucket{{le=\"2\"}} {wide}\n\
             h_bucket{{le=\"+Inf\"}} {all}\nh_sum {sum}\nh_count {all}\n"
        ))
        .unwrap()
    };
    let grown = scrape(5, 9, 12, 30.0).delta(&scrape(4, 7, 9, 20.0));
    let histogram = grown.increases.histogram("h", &[]).unwrap();
    let counts: Vec<f64> = histogram.buckets.iter().map(|b| b.cumulative).collect();
    assert_eq!((counts, histogram.sum), (vec![1.0, 2.0, 3.0], 10.0));

    // Bucket by bucket this would be 3, 1 and 1: only the narrowest went down.
    let restarted = scrape(3, 9, 9, 11.0).delta(&scrape(8, 8, 8, 10.0));
    let histogram = restarted.increases.histogram("h", &[]).unwrap();
    let counts: Vec<f64> = histogram.buckets.iter().map(|b| b.cumulative).collect();
    assert_eq!((counts, histogram.sum), (vec![3.0, 9.0, 9.0], 11.0));
    assert_eq!(restarted.resets.len(), 5);
}

#[test]
fn a_later_created_time_tells_of_a_restart_that_the_value_hides() {
    let at = |created: u32, value: u32| {
        let text = format!("# TYPE a counter\na_total {value}\na_created {created}\n# EOF\n");
        Scrape::parse(&text).unwrap()
    };
    assert_eq!(
        at(1, 9).delta(&at(1, 4)).increases.value("a_total", &[]),
        Some(5.0)
    );
    assert_eq!(
        at(2, 9).delta(&at(1, 4)).increases.value("a_total", &[]),
        Some(9.0)
    );
}

#[test]
fn one_scrape_is_printed_as_each_format_names_it() {
    let mut jobs = Family::counter("jobs_total", "Jobs \\ \"done\"\nsince start").unwrap();
    jobs.push(&[("b", "x\"y"), ("a", "1")], 3.0).unwrap();
    let mut took = Family::histogram("took_seconds", "How long").unwrap();
    took.push_histogram(
        &pool()
            .histogram("worker_pool_task_duration_seconds", &[])
            .unwrap(),
    )
    .unwrap();
    took.samples.drain(1..8);
    let scrape: Scrape = [jobs, took].into_iter().collect();
    assert_eq!(
        scrape.to_string(),
        "# HELP jobs_total Jobs \\\\ \"done\"\\nsince start\n\
         # TYPE jobs_total counter\n\
         jobs_total{a=\"1\",b=\"x\\\"y\"} 3\n\
         # HELP took_seconds How long\n\
         # TYPE took_seconds histogram\n\
         took_seconds_bucket{le=\"0.01\"} 89234\n\
         took_seconds_bucket{le=\"+Inf\"} 144322\n\
         took_seconds_sum 8934.2\n\
         took_seconds_count 144322\n"
    );
    assert_eq!(
        scrape.to_openmetrics(),
        "# HELP jobs Jobs \\\\ \\\"done\\\"\\nsince start\n\
         # TYPE jobs counter\n\
         jobs_total{a=\"1\",b=\"x\\\"y\"} 3\n\
         # HELP took_seconds How long\n\
         # TYPE took_seconds histogram\n\
         took_seconds_bucket{le=\"0.01\"} 89234\n\
         took_seconds_bucket{le=\"+Inf\"} 144322\n\
         took_seconds_sum 8934.2\n\
         took_seconds_count 144322\n\
         # EOF\n"
    );
}

#[test]
fn openmetrics_that_exposition_cannot_say_is_still_readable_there() {
    let text = "# TYPE jobs counter\njobs_total 7 # {id=\"x\"} 1\njobs_created 5\n\
                # TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n";
    let printed = Scrape::parse(text).unwrap().to_exposition();
    assert_eq!(
        printed,
        "# TYPE jobs_total counter\njobs_total 7\n# TYPE jobs_created gauge\njobs_created 5\n\
         # TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n"
    );
    assert!(Scrape::parse(&printed).is_ok());
}

#[test]
fn a_counter_that_openmetrics_cannot_name_becomes_unknown_there() {
    let text =
        "# TYPE x gauge\nx 1\n# TYPE x_total counter\nx_total 2\n# TYPE odd counter\nodd 3\n";
    let printed = Scrape::parse(text).unwrap().to_openmetrics();
    let again = Scrape::parse(&printed).unwrap_or_else(|error| panic!("{error} in\n{printed}"));
    let kinds: Vec<(&str, Kind)> = again
        .families
        .iter()
        .map(|f| (f.name.as_str(), f.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("x", Kind::Gauge),
            ("x_total", Kind::Unknown),
            ("odd", Kind::Unknown)
        ]
    );
}

/// Text that gets far into the grammar more often than arbitrary text does.
fn nearly_exposition() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[abx]{1,2}(_total|_sum|_count|_bucket|_created|)(\\{([xy]=\"[a\\\\n\"]{0,3}\",?)?(le=\"(1|[+]Inf)\")?\\})? (1|-0|2[.]5|NaN|[+]Inf|1e300)( [0-9]{1,3}([.]5)?)?( # \\{[xy]=\"1\"\\} 2)?",
        "# (TYPE|HELP|UNIT) [abx]{1,2}(_total)? (counter|gauge|histogram|summary|untyped|unknown|info|stateset|s[\\\\n\"]{0,3})",
        "[ #a]{0,3}",
    ];
    (proptest::collection::vec(line, 0..12), any::<bool>()).prop_map(|(lines, eof)| {
        let mut text = lines.join("\n");
        text.push_str(if eof { "\n# EOF\n" } else { "\n" });
        text
    })
}

/// Values, labels and help texts of all shapes under names that do not clash.
fn scrapes(format: Format) -> impl Strategy<Value = Scrape> {
    let pairs = proptest::collection::btree_map("[a-d]", any::<String>(), 0..3);
    let labels = pairs.prop_map(|pairs| Labels::new(pairs).unwrap());
    let exposition = format == Format::Exposition;
    let millis = -1_000_000_000_000_000i64..1_000_000_000_000_000;
    let timestamp = if exposition {
        millis.prop_map(Timestamp::from_millis).boxed()
    } else {
        (-1e12f64..1e12).prop_map(Timestamp::from_seconds).boxed()
    };
    let timestamp = prop_oneof![Just(None), timestamp];
    let value = proptest::num::f64::ANY;
    let exemplar = (labels.clone(), value, timestamp.clone(), any::<bool>()).prop_map(
        move |(labels, value, timestamp, present)| {
            let mut exemplar = Exemplar::new(labels, value);
            exemplar.timestamp = timestamp;
            (present && !exposition).then_some(exemplar)
        },
    );
    let point = (labels, value, timestamp, exemplar, any::<usize>());
    let points = proptest::collection::vec(point, 0..4);
    let kinds = if exposition {
        vec![
            Kind::Counter,
            Kind::Gauge,
            Kind::Histogram,
            Kind::Summary,
            Kind::Unknown,
        ]
    } else {
        vec![
            Kind::Counter,
            Kind::Gauge,
            Kind::Histogram,
            Kind::Summary,
            Kind::Unknown,
            Kind::Info,
            Kind::StateSet,
            Kind::GaugeHistogram,
        ]
    };
    let help = proptest::option::of(any::<String>());
    let family = (proptest::sample::select(kinds), help, points);
    proptest::collection::vec(family, 0..5).prop_map(move |families| {
        let families = families
            .into_iter()
            .enumerate()
            .map(|(nth, (kind, help, points))| {
                let base = format!("m{nth}");
                let suffixes: &[&str] = match (kind, exposition) {
                    (Kind::Counter, true) => &["_total"],
                    (Kind::Counter, false) => &["_total", "_created"],
                    (Kind::Histogram, true) => &["_bucket", "_sum", "_count"],
                    (Kind::Histogram, false) => &["_bucket", "_sum", "_count", "_created"],
                    (Kind::Summary, _) => &["", "_sum", "_count"],
                    (Kind::Info, _) => &["_info"],
                    (Kind::GaugeHistogram, _) => &["_bucket", "_gsum", "_gcount"],
                    _ => &[""],
                };
                let own = if kind == Kind::Counter && exposition {
                    "_total"
                } else {
                    ""
                };
                let name = MetricName::new(&format!("{base}{own}")).unwrap();
                let mut family = Family::new(name, kind);
                // Exposition skips blanks before the help text, so none can be kept there.
                family.help = help.map(|help| help.trim_start_matches([' ', '\t']).to_owned());
                for (labels, value, timestamp, exemplar, pick) in points {
                    let suffix = suffixes[pick % suffixes.len()];
                    let name = MetricName::new(&format!("{base}{suffix}")).unwrap();
                    let mut sample = Sample::new(name, labels, value);
                    sample.timestamp = timestamp;
                    sample.exemplar = exemplar;
                    family.samples.push(sample);
                }
                family
            });
        families.collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Scrape::from_slice(&bytes);
        let _ = lint(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn whatever_is_read_prints_to_an_equal_scrape_and_never_panics(text in nearly_exposition()) {
        let _ = lint(&text);
        for format in [Format::Exposition, Format::OpenMetrics] {
            let Ok(scrape) = Scrape::parse_as(&text, format) else { continue };
            let (own, other, other_format) = match format {
                Format::Exposition => (scrape.to_exposition(), scrape.to_openmetrics(), Format::OpenMetrics),
                Format::OpenMetrics => (scrape.to_openmetrics(), scrape.to_exposition(), Format::Exposition),
            };
            prop_assert_eq!(Scrape::parse_as(&own, format), Ok(scrape.clone()), "{}", own);
            let _ = (Scrape::parse_as(&other, other_format), scrape.delta(&scrape));
        }
    }
}

proptest! {
    // Each case holds several scrapes' worth of arbitrary text.
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_scrape_survives_exposition(scrape in scrapes(Format::Exposition)) {
        let text = scrape.to_exposition();
        prop_assert_eq!(Scrape::parse_as(&text, Format::Exposition), Ok(scrape.clone()), "{}", text);
    }

    #[test]
    fn any_scrape_survives_openmetrics(scrape in scrapes(Format::OpenMetrics)) {
        let text = scrape.to_openmetrics();
        prop_assert_eq!(Scrape::parse(&text), Ok(scrape.clone()), "{}", text);
    }
}
