//! Stories of rules: when alerts pend, fire and end, what is recorded, and who hears of it.

use std::time::Duration;

use promql::routing::Routing;
use promql::rules::{AlertState, EvaluateError, Evaluation, RuleFile, Settings};
use promql::{Labels, Storage, is_stale};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn rules(text: &str) -> RuleFile {
    RuleFile::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A series with a sample every 15 seconds; `None` is no sample.
fn put(storage: &mut Storage, labels: &Labels, until_ms: i64, value: impl Fn(i64) -> Option<f64>) {
    let mut was_there = false;
    for at_ms in (0..=until_ms).step_by(15_000) {
        match value(at_ms) {
            Some(value) => storage.append(labels.clone(), at_ms, value).unwrap(),
            None if was_there => storage.mark_stale(labels.clone(), at_ms).unwrap(),
            None => {}
        }
        was_there = value(at_ms).is_some();
    }
}

fn evaluate(file: &RuleFile, storage: &mut Storage, until_ms: i64) -> Evaluation {
    file.evaluate(
        storage,
        &Settings::new(0, until_ms, Duration::from_secs(15)),
    )
    .unwrap()
}

fn pool() -> Labels {
    Labels::named("pool_queue_size", [("pool", "mail")])
}

const SATURATED: &str = "
groups:
- name: pool
  rules:
  - alert: PoolSaturated
    expr: pool_queue_size > 500
    for: 2m
    labels: {severity: warning}
    annotations:
      summary: '{{ $value }} tasks wait in {{ $labels.pool }}'
      runbook_url: https://runbooks.example/pool-saturated
";

#[test]
fn a_spike_shorter_than_for_never_fires_and_a_lasting_one_does() {
    let file = rules(SATURATED);
    let mut storage = Storage::new();
    let high = |at_ms: i64| {
        let spike = (5 * MINUTE..5 * MINUTE + 105_000).contains(&at_ms);
        let lasting = (20 * MINUTE..30 * MINUTE).contains(&at_ms);
        Some(if spike {
            900.0
        } else if lasting {
            700.0
        } else {
            20.0
        })
    };
    put(&mut storage, &pool(), HOUR, high);
    let timeline = evaluate(&file, &mut storage, HOUR).timeline;
    let changes: Vec<_> = timeline
        .changes()
        .into_iter()
        .map(|change| (change.at_ms, change.state))
        .collect();
    assert_eq!(
        changes,
        [
            (5 * MINUTE, AlertState::Pending),
            (5 * MINUTE + 105_000, AlertState::Dropped),
            (20 * MINUTE, AlertState::Pending),
            (22 * MINUTE, AlertState::Firing),
            (30 * MINUTE, AlertState::Resolved),
        ]
    );
    let episode = timeline.fired("PoolSaturated").next().unwrap();
    assert_eq!(
        episode.labels(),
        &Labels::new([
            ("alertname", "PoolSaturated"),
            ("pool", "mail"),
            ("severity", "warning")
        ])
    );
    assert_eq!(
        episode.annotations(),
        Labels::new([
            ("summary", "700 tasks wait in mail"),
            ("runbook_url", "https://runbooks.example/pool-saturated")
        ])
    );
    assert_eq!(
        timeline.active_at(21 * MINUTE)[0].state,
        AlertState::Pending
    );
    assert!(timeline.active_at(30 * MINUTE).is_empty());
}

#[test]
fn the_series_of_alerts_tell_their_states_and_since_when() {
    let file = rules(SATURATED);
    let mut storage = Storage::new();
    put(&mut storage, &pool(), 10 * MINUTE, |at_ms| {
        Some(if (MINUTE..6 * MINUTE).contains(&at_ms) {
            900.0
        } else {
            0.0
        })
    });
    evaluate(&file, &mut storage, 10 * MINUTE);
    let of = |name: &str, state: &str| {
        let labels = [
            ("alertname", "PoolSaturated"),
            ("pool", "mail"),
            ("severity", "warning"),
            ("alertstate", state),
        ];
        let series = storage.get(&Labels::named(name, labels)).unwrap();
        let values: Vec<_> = series
            .times_ms()
            .iter()
            .copied()
            .zip(series.values().iter().copied())
            .collect();
        values
    };
    let pending = of("ALERTS", "pending");
    assert_eq!(pending[0], (MINUTE, 1.0));
    let (ended_ms, end) = pending[pending.len() - 1];
    assert!(ended_ms == 3 * MINUTE && is_stale(end));
    let firing = of("ALERTS", "firing");
    assert_eq!(firing[0], (3 * MINUTE, 1.0));
    let (ended_ms, end) = firing[firing.len() - 1];
    assert!(ended_ms == 6 * MINUTE && is_stale(end));
    assert_eq!(of("ALERTS_FOR_STATE", "")[0], (MINUTE, 60.0));
}

#[test]
fn keep_firing_for_bridges_gaps_and_ends_when_it_has_passed() {
    let file =
        rules("groups: [{name: g, rules: [{alert: Down, expr: up == 0, keep_firing_for: 3m}]}]");
    let mut storage = Storage::new();
    let up = Labels::named("up", [("job", "api")]);
    put(&mut storage, &up, 20 * MINUTE, |at_ms| {
        let minute = at_ms / MINUTE;
        Some(if matches!(minute, 2 | 4) { 0.0 } else { 1.0 })
    });
    let timeline = evaluate(&file, &mut storage, 20 * MINUTE).timeline;
    assert_eq!(timeline.episodes().len(), 1);
    let episode = &timeline.episodes()[0];
    assert_eq!(episode.firing_ms(), Some(2 * MINUTE));
    assert_eq!(episode.ended_ms(), Some(5 * MINUTE + 3 * MINUTE));
}

#[test]
fn later_rules_see_what_earlier_ones_recorded_at_the_same_moment_and_earlier_ones_do_not() {
    let first = "{record: 'job:queue:sum', expr: sum by (pool) (pool_queue_size)}";
    let second = "{record: 'job:queue:double', expr: 'job:queue:sum * 2'}";
    for (order, expected) in [([first, second], 10), ([second, first], 9)] {
        let [one, two] = order;
        let file = rules(&format!("groups: [{{name: g, rules: [{one}, {two}]}}]"));
        let mut storage = Storage::new();
        put(&mut storage, &pool(), 135_000, |at_ms| Some(at_ms as f64));
        let evaluation = evaluate(&file, &mut storage, 135_000);
        assert!(evaluation.failures.is_empty());
        let double = storage
            .get(&Labels::named("job:queue:double", [("pool", "mail")]))
            .unwrap();
        assert_eq!(double.values().len(), expected);
        let last = if expected == 10 { 135_000.0 } else { 120_000.0 };
        assert_eq!(double.values().last(), Some(&(2.0 * last)));
    }
}

#[test]
fn a_recorded_series_ends_when_its_source_does() {
    let file = rules("groups: [{name: g, rules: [{record: r, expr: pool_queue_size + 1}]}]");
    let mut storage = Storage::new();
    put(&mut storage, &pool(), 5 * MINUTE, |at_ms| {
        (at_ms < 2 * MINUTE).then_some(1.0)
    });
    evaluate(&file, &mut storage, 5 * MINUTE);
    let recorded = storage
        .get(&Labels::named("r", [("pool", "mail")]))
        .unwrap();
    assert_eq!(recorded.times_ms().last(), Some(&(2 * MINUTE)));
    assert!(is_stale(*recorded.values().last().unwrap()));
    assert_eq!(recorded.values().len(), 9);
}

#[test]
fn groups_keep_their_own_interval() {
    let file = rules(
        "groups: [{name: slow, interval: 1m, rules: [{record: r, expr: vector(1)}]}, \
         {name: usual, rules: [{record: s, expr: vector(1)}]}]",
    );
    let mut storage = Storage::new();
    evaluate(&file, &mut storage, 10 * MINUTE);
    let count = |name: &str| {
        let no_labels: [(&str, &str); 0] = [];
        storage
            .get(&Labels::named(name, no_labels))
            .unwrap()
            .values()
            .len()
    };
    assert_eq!((count("r"), count("s")), (11, 41));
}

#[test]
fn a_group_of_prometheus_3_may_look_back_and_label_all_its_rules() {
    let text = "groups:\n- name: g\n  query_offset: 1m\n  labels: {team: core, tier: '{{ $labels.pool }}'}\n  \
                rules:\n  - {record: r, expr: pool_queue_size, labels: {team: mine}}\n  \
                - {alert: High, expr: pool_queue_size > 0}\n";
    assert!(RuleFile::parse_as(text, promql::Dialect::V2).is_err());
    let file = rules(text);
    for forced in ["", "  - {record: loop, expr: loop}\n"] {
        let file = if forced.is_empty() {
            file.clone()
        } else {
            rules(&format!("{text}{forced}"))
        };
        let mut storage = Storage::new();
        put(&mut storage, &pool(), 5 * MINUTE, |at_ms| {
            (at_ms < 3 * MINUTE).then_some(at_ms as f64)
        });
        let timeline = evaluate(&file, &mut storage, 5 * MINUTE).timeline;
        let pairs = [
            ("pool", "mail"),
            ("team", "mine"),
            ("tier", "{{ $labels.pool }}"),
        ];
        let recorded = storage.get(&Labels::named("r", pairs)).unwrap();
        assert_eq!(recorded.times_ms()[0], MINUTE);
        assert_eq!(recorded.values()[4], MINUTE as f64);
        let [episode] = timeline.episodes() else {
            panic!("{:?}", timeline.changes())
        };
        assert_eq!(episode.active_ms(), MINUTE + 15_000);
        assert_eq!(episode.ended_ms(), Some(4 * MINUTE));
        assert_eq!(
            (
                episode.labels().value("team"),
                episode.labels().value("tier")
            ),
            ("core", "mail")
        );
    }
}

#[test]
fn a_rule_that_fails_is_told_once_with_its_stretch_and_changes_nothing() {
    let file = rules(
        "groups: [{name: g, rules: [{alert: Same, expr: pool_queue_size > 0, labels: {pool: same}}]}]",
    );
    let mut storage = Storage::new();
    put(&mut storage, &pool(), 10 * MINUTE, |_| Some(1.0));
    let other = Labels::named("pool_queue_size", [("pool", "web")]);
    put(&mut storage, &other, 10 * MINUTE, |at_ms| {
        (at_ms >= 5 * MINUTE).then_some(1.0)
    });
    let evaluation = evaluate(&file, &mut storage, 10 * MINUTE);
    let [failure] = evaluation.failures.as_slice() else {
        panic!("{:?}", evaluation.failures);
    };
    assert_eq!((failure.from_ms, failure.to_ms), (5 * MINUTE, 10 * MINUTE));
    assert_eq!(failure.count, 21);
    assert!(
        failure
            .to_string()
            .contains("keep a label that tells them apart")
    );
    // The alert from before is as it was.
    assert_eq!(evaluation.timeline.active_at(9 * MINUTE).len(), 1);
}

#[test]
fn more_alerts_than_the_limit_drop_them_all() {
    let file =
        rules("groups: [{name: g, limit: 1, rules: [{alert: A, expr: pool_queue_size > 0}]}]");
    let mut storage = Storage::new();
    put(&mut storage, &pool(), 2 * MINUTE, |_| Some(1.0));
    let other = Labels::named("pool_queue_size", [("pool", "web")]);
    put(&mut storage, &other, 2 * MINUTE, |at_ms| {
        (at_ms == MINUTE).then_some(1.0)
    });
    let evaluation = evaluate(&file, &mut storage, 2 * MINUTE);
    assert_eq!(evaluation.failures.len(), 1);
    assert!(evaluation.failures[0].reason.contains("limit of 1"));
    let ended: Vec<_> = evaluation
        .timeline
        .episodes()
        .iter()
        .map(|episode| (episode.active_ms(), episode.ended_ms()))
        .collect();
    assert_eq!(
        ended,
        [
            (0, Some(MINUTE)),
            (MINUTE, Some(MINUTE)),
            (MINUTE + 15_000, None)
        ]
    );
}

#[test]
fn what_nobody_would_wait_for_is_refused() {
    let file = rules("groups: [{name: g, interval: 1ms, rules: [{record: r, expr: vector(1)}]}]");
    let error = file
        .evaluate(
            &mut Storage::new(),
            &Settings::new(0, 24 * HOUR, Duration::from_secs(15)),
        )
        .unwrap_err();
    assert!(matches!(error, EvaluateError::TooMany { rules: 1, .. }));
    assert!(error.to_string().contains("every 1ms"), "{error}");
}

#[test]
fn every_problem_of_a_file_is_told_with_its_place_and_its_remedy() {
    let error = RuleFile::parse(
        "groups:
- name: pool
  rules:
  - alert: PoolSaturated
    expr: sum(rate(tasks_total[5m])
    for: 120
    labels:
      severity: warning
    annotation:
      summary: x
  - alert: Slow
    expr: up
    annotations:
      summary: '{{ $labels.pool }} has {{ humanise $value }}'
",
    )
    .unwrap_err()
    .to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    for (line, parts) in lines.iter().zip([
        [
            "line 5, column 11: groups[0].rules[0].expr: ",
            "parse error",
        ],
        ["line 6, column 10: groups[0].rules[0].for: ", "`120s`"],
        [
            "line 9, column 5: groups[0].rules[0]: ",
            "did you mean `annotations`?",
        ],
        [
            "line 14, column 16: groups[0].rules[1].annotations.summary: ",
            "did you mean `humanize`?",
        ],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[test]
fn from_a_full_pool_to_one_message_for_the_pager() {
    let file = rules(
        "
groups:
- name: pool
  rules:
  - alert: PoolSaturated
    expr: pool_queue_size > 500
    for: 2m
    labels: {severity: warning, service: mail}
  - alert: PoolDown
    expr: pool_workers == 0
    for: 1m
    labels: {severity: critical, service: mail}
    annotations: {runbook_url: 'https://runbooks.example/pool-down'}
",
    );
    let routing = Routing::parse(
        "
route:
  receiver: chat
  group_by: [service]
  group_wait: 30s
  routes:
  - receiver: pager
    matchers: ['severity=\"critical\"']
inhibit_rules:
- source_matchers: ['severity=\"critical\"']
  target_matchers: ['severity=\"warning\"']
  equal: [service]
receivers:
- {name: chat, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: pager, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
",
    )
    .unwrap();
    let mut storage = Storage::new();
    let down = |at_ms: i64| (10 * MINUTE..20 * MINUTE).contains(&at_ms);
    put(&mut storage, &pool(), HOUR, |at_ms| {
        Some(if down(at_ms) { 900.0 } else { 3.0 })
    });
    let workers = Labels::named("pool_workers", [("pool", "mail")]);
    put(&mut storage, &workers, HOUR, |at_ms| {
        Some(if down(at_ms) { 0.0 } else { 8.0 })
    });
    let mut settings = Settings::new(0, HOUR, Duration::from_secs(15));
    settings.external_labels = Labels::new([("region", "eu"), ("service", "other")]);
    let evaluation = file.evaluate(&mut storage, &settings).unwrap();
    let posts = evaluation.timeline.posts();
    assert!(posts.iter().all(|post| post.labels.value("region") == "eu"));
    assert!(
        posts
            .iter()
            .all(|post| post.labels.value("service") == "mail")
    );

    let simulation = routing.simulate(&posts, &[], HOUR).unwrap();
    let told: Vec<_> = simulation
        .notifications
        .iter()
        .map(|notification| {
            (
                notification.at_ms,
                notification.receiver.as_str(),
                notification.is_firing(),
            )
        })
        .collect();
    // The warning is inhibited as long as the pool is down, and both end at the same moment.
    assert_eq!(
        told,
        [
            (11 * MINUTE + 30_000, "pager", true),
            (21 * MINUTE + 30_000, "pager", false)
        ]
    );
    let first = &simulation.notifications[0];
    assert_eq!(first.firing[0].starts_ms, 11 * MINUTE);
    assert_eq!(
        first.firing[0].annotations.value("runbook_url"),
        "https://runbooks.example/pool-down"
    );
    assert!(!simulation.suppressed.is_empty());
}

#[test]
fn burn_rates_over_two_windows_tell_a_fast_burn_from_a_blip_over_a_month() {
    let file = rules(
        "
groups:
- name: slo
  rules:
  - record: job:errors:ratio_rate5m
    expr: sum(rate(errors_total[5m])) / sum(rate(requests_total[5m]))
  - record: job:errors:ratio_rate1h
    expr: sum(rate(errors_total[1h])) / sum(rate(requests_total[1h]))
  - alert: FastBurn
    expr: job:errors:ratio_rate1h > 14.4 * 0.001 and job:errors:ratio_rate5m > 14.4 * 0.001
    labels: {severity: critical}
",
    );
    const DAY: i64 = 24 * HOUR;
    let mut storage = Storage::new();
    let (mut requests, mut errors) = (0.0, 0.0);
    for at_ms in (0..=30 * DAY).step_by(MINUTE as usize) {
        let blip = (10 * DAY..10 * DAY + 2 * MINUTE).contains(&at_ms);
        let outage = (20 * DAY..20 * DAY + 2 * HOUR).contains(&at_ms);
        requests += 6000.0;
        errors += if blip {
            30.0
        } else if outage {
            300.0
        } else {
            1.0
        };
        let no_labels: [(&str, &str); 0] = [];
        storage
            .append(Labels::named("requests_total", no_labels), at_ms, requests)
            .unwrap();
        storage
            .append(Labels::named("errors_total", no_labels), at_ms, errors)
            .unwrap();
    }
    let settings = Settings::new(0, 30 * DAY, Duration::from_secs(60));
    let timeline = file.evaluate(&mut storage, &settings).unwrap().timeline;
    let [episode] = timeline.episodes() else {
        panic!("{:?}", timeline.changes());
    };
    // Five percent of requests fail: the hour's ratio passes 1.44 percent after 17 minutes or so.
    let after = episode.firing_ms().unwrap() - 20 * DAY;
    assert!((15 * MINUTE..20 * MINUTE).contains(&after), "{after}");
    // The short window lets the alert end soon after the outage.
    let ended = episode.ended_ms().unwrap() - (20 * DAY + 2 * HOUR);
    assert!((0..6 * MINUTE).contains(&ended), "{ended}");
}

proptest! {
    #[test]
    fn no_rule_file_makes_the_reader_panic(
        text in "(groups|name|rules|alert|record|expr|for|labels|annotations|up|\\{\\{|\\}\\}|[-:{}\\[\\],'\"&*!|> \\n\\t0-9a-z$]){0,60}"
    ) {
        if let Ok(file) = RuleFile::parse(&text) {
            let _ = evaluate(&file, &mut Storage::new(), MINUTE);
        }
    }
}
