use super::*;
use crate::{Engine, Labels, Storage};

const NOW: i64 = 3_600_000;

/// An hour of a pool of two instances, a sample every 15 s.
fn storage() -> Storage {
    let mut storage = Storage::new();
    for step in 0..=240_i64 {
        let at = step * 15_000;
        for (instance, busy) in [("a", 3.0), ("b", 8.0)] {
            let labels = |name: &str| Labels::named(name, [("instance", instance)]);
            storage.append(labels("pool_busy"), at, busy).unwrap();
            storage.append(labels("pool_size"), at, 8.0).unwrap();
            storage
                .append(labels("tasks_total"), at, step as f64 * 150.0)
                .unwrap();
        }
    }
    storage
}

fn panel(inner: &str) -> String {
    format!(
        r#"{{"title": "Pool", "schemaVersion": 39, "templating": {{"list": [
            {{"type": "query", "name": "instance", "query": "label_values(pool_busy, instance)",
              "includeAll": true, "current": {{"value": ["$__all"]}}}},
            {{"type": "constant", "name": "limit", "query": "0.9"}}]}},
          "panels": [{{"id": 1, "title": "Busy", "gridPos": {{"x": 0, "y": 0, "w": 12, "h": 8}},
          {inner} }}]}}"#
    )
}

fn shown(inner: &str) -> Shown {
    let dashboard = Dashboard::parse(&panel(inner)).unwrap();
    assert_eq!(dashboard.problems(), [], "{inner}");
    let view = View::last_hour(NOW);
    dashboard
        .show(&Engine::default(), &storage(), &view)
        .remove(0)
}

const STEPS: &str = r#""thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": null},
    {"color": "orange", "value": 0.5}, {"color": "red", "value": 0.9}]}"#;

#[test]
fn a_stat_panel_has_a_reading_and_a_color_for_each_series() {
    let shown = shown(&format!(
        r#""type": "stat", "targets": [{{"refId": "A", "legendFormat": "pool {{{{instance}}}}",
            "expr": "pool_busy / pool_size"}}],
          "fieldConfig": {{"defaults": {{"unit": "percentunit", {STEPS}}}}}"#
    ));
    let read: Vec<(&str, &str, Option<Signal>)> = shown
        .readings
        .iter()
        .map(|reading| (&*reading.name, &*reading.text, reading.signal()))
        .collect();
    assert_eq!(
        read,
        [
            ("pool a", "37.5%", Some(Signal::Green)),
            ("pool b", "100%", Some(Signal::Red))
        ]
    );
    assert_eq!(shown.signal(), Some(Signal::Red));
}

#[test]
fn a_stat_without_color_and_a_palette_are_no_signal() {
    for inner in [
        format!(
            r#""type": "stat", "options": {{"colorMode": "none"}},
               "fieldConfig": {{"defaults": {{{STEPS}}}}}"#
        ),
        format!(
            r#""type": "stat",
               "fieldConfig": {{"defaults": {{"color": {{"mode": "palette-classic"}}, {STEPS}}}}}"#
        ),
        format!(r#""type": "timeseries", "fieldConfig": {{"defaults": {{{STEPS}}}}}"#),
    ] {
        let shown = shown(&format!(
            r#""targets": [{{"refId": "A", "expr": "max(pool_busy / pool_size)"}}], {inner}"#
        ));
        assert_eq!(
            (shown.value(), shown.signal()),
            (Some(1.0), None),
            "{inner}"
        );
    }
}

#[test]
fn thresholds_in_percent_lie_between_the_bounds_of_the_field() {
    let shown = shown(
        r#""type": "gauge", "targets": [{"refId": "A", "expr": "max(pool_busy)"}],
           "fieldConfig": {"defaults": {"min": 0, "max": 10, "thresholds": {"mode": "percentage",
           "steps": [{"color": "green", "value": null}, {"color": "red", "value": 80}]}}}"#,
    );
    assert_eq!(shown.signal(), Some(Signal::Red));
}

#[test]
fn variables_are_filled_in_and_all_is_every_value() {
    for (expression, expected) in [
        (r#"sum(pool_busy{instance=~\"$instance\"})"#, 11.0),
        (
            r#"count(pool_busy{instance=~\"${instance:regex}\"} > bool $limit)"#,
            2.0,
        ),
        (r"sum(rate(tasks_total[$__rate_interval]))", 20.0),
        (r"sum(increase(tasks_total[$__range]))", 72_000.0),
    ] {
        let shown = shown(&format!(
            r#""type": "stat", "targets": [{{"refId": "A", "expr": "{expression}"}}]"#
        ));
        let value = shown.value().unwrap_or_else(|| panic!("{shown:?}"));
        assert!((value - expected).abs() < 1e-6, "{expression}: {value}");
    }
}

#[test]
fn one_value_of_a_variable_can_be_chosen() {
    let json = panel(
        r#""type": "stat",
           "targets": [{"refId": "A", "expr": "sum(pool_busy{instance=~\"$instance\"})"}]"#,
    );
    let view = View::last_hour(NOW).choosing("instance", "a");
    let dashboard = Dashboard::parse(&json).unwrap();
    let shown = dashboard.show(&Engine::default(), &storage(), &view);
    assert_eq!(shown[0].value(), Some(3.0));
}

#[test]
fn mappings_replace_text_and_color_also_of_nothing() {
    let mapped = r#""type": "stat", "fieldConfig": {"defaults": {"mappings": [
        {"type": "value", "options": {"0": {"text": "down", "color": "red"}}},
        {"type": "range", "options": {"from": 1, "to": 9, "result": {"text": "up", "color": "green"}}},
        {"type": "special", "options": {"match": "null", "result": {"text": "lost", "color": "orange"}}}
    ]}}"#;
    for (expression, text, signal) in [
        ("max(pool_busy) * 0", "down", Signal::Red),
        ("max(pool_busy)", "up", Signal::Green),
        ("max(no_such_metric)", "lost", Signal::Yellow),
    ] {
        let shown = shown(&format!(
            r#"{mapped}, "targets": [{{"refId": "A", "expr": "{expression}"}}]"#
        ));
        assert_eq!(shown.readings[0].text, text);
        assert_eq!(shown.signal(), Some(signal), "{expression}");
    }
}

#[test]
fn calculations_reduce_what_is_in_view() {
    let shown = shown(
        r#""type": "stat", "options": {"reduceOptions": {"calcs": ["mean", "count"]}},
           "targets": [{"refId": "A", "expr": "sum(tasks_total)", "interval": ""}]"#,
    );
    let values: Vec<f64> = shown.readings.iter().filter_map(|r| r.value).collect();
    assert!((values[0] - 36_000.0).abs() < 200.0, "{values:?}");
    assert_eq!(shown.readings.len(), 2);
}

#[test]
fn nothing_and_another_source_are_told_apart() {
    let nothing = shown(r#""type": "stat", "targets": [{"refId": "A", "expr": "nothing"}]"#);
    assert!(nothing.readings.is_empty() && nothing.trouble.is_none());
    let logs = shown(
        r#""type": "logs", "datasource": {"type": "loki", "uid": "logs"},
           "targets": [{"refId": "A", "expr": "{app=\"api\"} |= \"error\""}]"#,
    );
    assert!(logs.trouble.unwrap().contains("loki"));
}

#[test]
fn what_grafana_would_not_show_as_meant_is_a_problem() {
    for (json, expected) in [
        (r#"{"panels": []}"#, "without a title"),
        (
            r#"{"title": "x", "panels": []}"#,
            "schemaVersion: it is missing",
        ),
        (
            r#"{"title": "x", "schemaVersion": 39, "panels": [{"type": "stat", "title": "a"}]}"#,
            "has no `gridPos`",
        ),
        (
            r#"{"title": "x", "schemaVersion": 39, "panels": [
                {"id": 1, "type": "text", "title": "a", "gridPos": {"x": 0, "y": 0, "w": 8, "h": 4}},
                {"id": 1, "type": "text", "title": "b", "gridPos": {"x": 6, "y": 2, "w": 8, "h": 4}}]}"#,
            "the id 1 of \"a\"",
        ),
        (
            r#"{"title": "x", "schemaVersion": 39, "panels": [
                {"id": 1, "type": "text", "title": "a", "gridPos": {"x": 0, "y": 0, "w": 8, "h": 4}},
                {"id": 2, "type": "text", "title": "b", "gridPos": {"x": 6, "y": 2, "w": 8, "h": 4}}]}"#,
            "\"b\" lies on \"a\"",
        ),
    ] {
        let problems = Dashboard::parse(json).unwrap().problems();
        assert!(
            problems
                .iter()
                .any(|problem| problem.to_string().contains(expected)),
            "{expected}: {problems:?}"
        );
    }
    for (inner, expected) in [
        (r#""type": "stat", "targets": []"#, "asks for nothing"),
        (
            r#""type": "stat", "targets": [{"refId": "A", "expr": "sum("}]"#,
            "cannot be read",
        ),
        (
            r#""type": "stat", "targets": [{"refId": "A", "expr": "x{a=\"$b\"}"}]"#,
            "no such variable",
        ),
        (
            r#""type": "stat", "targets": [{"refId": "A", "expr": "x"}], "fieldConfig": {"defaults":
               {"thresholds": {"steps": [{"color": "green", "value": null},
               {"color": "red", "value": 9}, {"color": "orange", "value": 5}]}}}"#,
            "do not ascend",
        ),
    ] {
        let problems = Dashboard::parse(&panel(inner)).unwrap().problems();
        assert!(
            problems
                .iter()
                .any(|problem| problem.to_string().contains(expected)),
            "{expected}: {problems:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_says_where_and_what_to_do() {
    for (json, expected) in [
        ("{", "it is not JSON"),
        (" \n", "the file is empty"),
        ("\u{feff}[]", "it is a list"),
        ("[]", "it should be an object"),
        (
            r#"{"panels": {}}"#,
            "panels: it is an object; it should be a list",
        ),
        (
            r#"{"panels": [{"gridPos": {"x": 0, "y": 0, "w": "wide", "h": 2}}]}"#,
            "panels[0].gridPos.w: it is the text \"wide\"",
        ),
        (
            r#"{"panels": [{"targets": [{"expr": ["a"]}]}]}"#,
            "panels[0].targets[0].expr: it is a list; it should be a text",
        ),
        (
            r#"{"panels": [{"options": {"reduceOptions": {"calcs": ["p99"]}}}]}"#,
            "`p99` is no calculation",
        ),
    ] {
        let error = Dashboard::parse(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn panels_of_rows_open_and_collapsed_are_found_line_by_line() {
    let dashboard = Dashboard::parse(
        r#"{"title": "x", "schemaVersion": 39, "panels": [
            {"type": "row", "title": "State", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
            {"type": "stat", "title": "b", "gridPos": {"x": 8, "y": 1, "w": 8, "h": 4}},
            {"type": "stat", "title": "a", "gridPos": {"x": 0, "y": 1, "w": 8, "h": 4}},
            {"type": "row", "title": "Detail", "collapsed": true, "panels": [
                {"type": "heatmap", "title": "c", "gridPos": {"x": 0, "y": 6, "w": 24, "h": 8}}]}]}"#,
    )
    .unwrap();
    let lines: Vec<Vec<&str>> = dashboard
        .lines()
        .iter()
        .map(|line| line.iter().map(|panel| &*panel.title).collect())
        .collect();
    assert_eq!(lines, [vec!["a", "b"], vec!["c"]]);
    let rows: Vec<Option<usize>> = dashboard.panels.iter().map(|panel| panel.row).collect();
    assert_eq!(rows, [Some(0), Some(0), Some(1)]);
    assert!(dashboard.rows[1].collapsed);
}

#[test]
fn overrides_change_what_a_series_means() {
    let shown = shown(
        r#""type": "stat", "targets": [
            {"refId": "A", "legendFormat": "busy", "expr": "max(pool_busy)"},
            {"refId": "B", "legendFormat": "size", "expr": "max(pool_size)"},
            {"refId": "C", "legendFormat": "free", "expr": "max(pool_size - pool_busy)"}],
           "fieldConfig": {"defaults": {"thresholds": {"steps": [{"color": "green", "value": null}]}},
             "overrides": [
               {"matcher": {"id": "byName", "options": "busy"}, "properties": [
                  {"id": "thresholds", "value": {"mode": "absolute", "steps": [
                     {"color": "green", "value": null}, {"color": "red", "value": 8}]}}]},
               {"matcher": {"id": "byRegexp", "options": "/^si/"}, "properties": [
                  {"id": "color", "value": {"mode": "fixed", "fixedColor": "blue"}}]},
               {"matcher": {"id": "byFrameRefID", "options": "C"}, "properties": [
                  {"id": "displayName", "value": "left"}, {"id": "unit", "value": "percent"},
                  {"id": "custom.width", "value": 80}]}]}"#,
    );
    let read: Vec<(&str, &str, Option<Signal>)> = shown
        .readings
        .iter()
        .map(|reading| (&*reading.name, &*reading.text, reading.signal()))
        .collect();
    assert_eq!(
        read,
        [
            ("busy", "8", Some(Signal::Red)),
            ("size", "8", None),
            ("left", "5%", Some(Signal::Green))
        ]
    );
}

#[test]
fn a_cell_or_a_line_is_colored_only_where_the_panel_says_so() {
    for (inner, signal) in [
        (
            r#""type": "table", "fieldConfig": {"defaults": {"#.to_owned(),
            None,
        ),
        (
            r#""type": "table", "fieldConfig": {"defaults": {"custom": {"cellOptions":
               {"type": "color-background"}}, "#
                .to_owned(),
            Some(Signal::Red),
        ),
        (
            r#""type": "timeseries", "fieldConfig": {"defaults": {"custom": {"thresholdsStyle":
               {"mode": "area"}}, "color": {"mode": "palette-classic"}, "#
                .to_owned(),
            Some(Signal::Red),
        ),
        (
            r#""type": "timeseries", "fieldConfig": {"defaults": {"custom": {"thresholdsStyle":
               {"mode": "off"}}, "#
                .to_owned(),
            None,
        ),
    ] {
        let shown = shown(&format!(
            r#"{inner} {STEPS}}}}}, "targets": [{{"refId": "A", "expr": "max(pool_busy / pool_size)"}}]"#
        ));
        assert_eq!(shown.signal(), signal, "{inner}");
    }
}

#[test]
fn many_moments_show_what_each_of_them_shows_alone() {
    let json = panel(
        r#""type": "stat", "timeFrom": "20m", "options": {"reduceOptions": {"calcs": ["mean", "min"]}},
           "fieldConfig": {"defaults": {"thresholds": {"mode": "percentage", "steps": [
             {"color": "green", "value": null}, {"color": "red", "value": 80}]}}},
           "targets": [
             {"refId": "A", "expr": "tasks_total"},
             {"refId": "B", "expr": "sum(rate(tasks_total[$__rate_interval])) * $__from"},
             {"refId": "C", "expr": "tasks_total - tasks_total @ end()"},
             {"refId": "D", "expr": "max(tasks_total)", "instant": true}]"#,
    );
    let dashboard = Dashboard::parse(&json).unwrap();
    let (engine, storage) = (Engine::default(), storage());
    let views: Vec<View> = [7, 600, 1_234, 3_600, 5_000]
        .map(|second| View::new(second * 1_000 - 900_000, second * 1_000))
        .into();
    let together = dashboard.watch(&engine, &storage, &views);
    for (view, shown) in views.iter().zip(together) {
        let alone = dashboard.show(&engine, &storage, view);
        assert_eq!(format!("{alone:?}"), format!("{shown:?}"), "{view:?}");
    }
}

#[test]
fn a_panel_stands_under_the_heading_above_it_on_the_grid() {
    let dashboard = Dashboard::parse(
        r#"{"title": "x", "schemaVersion": 39, "time": {"from": "now-3h", "to": "now"}, "panels": [
            {"type": "row", "title": "Detail", "gridPos": {"x": 0, "y": 5, "w": 24, "h": 1}},
            {"type": "row", "title": "State", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
            {"type": "stat", "title": "b", "gridPos": {"x": 0, "y": 6, "w": 8, "h": 4}},
            {"type": "stat", "title": "a", "gridPos": {"x": 0, "y": 1, "w": 8, "h": 4}}]}"#,
    )
    .unwrap();
    let rows: Vec<&str> = dashboard
        .panels
        .iter()
        .map(|panel| &*dashboard.rows[panel.row.unwrap()].title)
        .collect();
    assert_eq!(rows, ["Detail", "State"]);
    assert_eq!(dashboard.range, Some(std::time::Duration::from_hours(3)));
}

#[test]
fn what_grafana_itself_exports_is_no_problem() {
    let twelve = r#""type": "gauge", "fieldConfig": {"defaults": {"thresholds": {"mode": "absolute",
        "steps": [{"color": "green", "value": 0}, {"color": "red", "value": 0.9}]}}},
        "targets": [{"refId": "A", "expr": "vector(-1)"}]"#;
    let below = shown(twelve).readings[0].signal();
    assert_eq!(below, Some(Signal::Green), "the first step has no bound");

    let json = panel(r#""type": "stat", "targets": [{"refId": "A", "expr": "pool_busy"}]"#);
    let panels = Dashboard::parse(&json).unwrap().panels.len();
    for (wrapped, path) in [
        (format!("\u{feff}{json}"), "panels[0]"),
        (format!(r#"{{"dashboard": {json}}}"#), "dashboard.panels[0]"),
        (
            format!(r#"{{"kind": "Dashboard", "metadata": {{}}, "spec": {json}}}"#),
            "spec.panels[0]",
        ),
    ] {
        let dashboard = Dashboard::parse(&wrapped).unwrap();
        assert_eq!(dashboard.problems(), [], "{path}");
        assert_eq!(dashboard.panels.len(), panels, "{path}");
        assert_eq!(dashboard.panels[0].path, path);
    }
    let second = r#"{"kind": "Dashboard", "spec": {"title": "Pool", "elements": {}}}"#;
    let refused = Dashboard::parse(second).unwrap_err().to_string();
    assert!(refused.contains("schema version 2"), "{refused}");
}

#[test]
fn a_query_has_an_interval_of_its_own_where_it_states_one() {
    for (stated, expected) in [("", 150.0), ("2m", 1_200.0), ("$step", 150.0)] {
        let shown = shown(&format!(
            r#""type": "timeseries", "maxDataPoints": 240,
               "targets": [{{"refId": "A", "interval": "{stated}",
                 "expr": "max(increase(tasks_total[$__interval]))"}},
               {{"refId": "B", "expr": "vector($__interval_ms)"}}]"#
        ));
        let values: Vec<Option<f64>> = shown.readings.iter().map(|r| r.value).collect();
        let own = values.iter().flatten().find(|&&value| value != 15_000.0);
        // One sample in 15 s makes no increase.
        match own {
            Some(&own) => assert!((own - expected).abs() < 1.0, "{stated}: {values:?}"),
            None => assert_ne!(stated, "2m", "{values:?}"),
        }
        assert!(values.contains(&Some(15_000.0)), "{stated}: {values:?}");
    }
}

#[test]
fn a_heatmap_has_no_color_for_good_and_bad() {
    let json = panel(&format!(
        r#""type": "heatmap", "targets": [{{"refId": "A", "expr": "pool_busy"}}],
           "fieldConfig": {{"defaults": {{"color": {{"mode": "thresholds"}}, {STEPS}}}}}"#
    ));
    assert!(!Dashboard::parse(&json).unwrap().panels[0].colored);
}
