//! Rule groups made from seeds, judged by Prometheus's own `promtool test rules`.
//!
//! What this crate computes is written down as the expectation of a test file, for many moments, and
//! one start of `promtool` judges the files of all seeds. `NIGHTSHIFT_RULES_SEED=N` runs one alone.

use std::fmt::Write as _;
use std::time::Duration;

use promql::rules::{AlertState, Evaluation, RuleFile, Settings};
use promql::{Dialect, Engine, Labels, METRIC_NAME, Query, Storage, Value};

use crate::tool::{Chance, RealTool, seeds};

const SEEDS: std::ops::Range<u64> = 0..40;

/// How long a test goes on, and how often rules are evaluated.
const MINUTES: i64 = 20;
const INTERVAL_MS: i64 = 30_000;

/// A text as YAML in double quotes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Series {
    labels: Labels,
    /// One for each interval; `None` is no sample.
    values: Vec<Option<f64>>,
}

fn series(chance: &mut Chance) -> Vec<Series> {
    let samples = usize::try_from(MINUTES * 60_000 / INTERVAL_MS).unwrap() + 1;
    let mut all = Vec::new();
    for (name, counts) in [("queue", false), ("limit", false), ("requests_total", true)] {
        for job in ["api", "mail"] {
            for instance in ["a:80", "b:80"] {
                if chance.below(5) == 0 {
                    continue;
                }
                let mut value = chance.below(20) as f64;
                let mut values = Vec::new();
                let gone = chance.below(samples * 2);
                for at in 0..samples {
                    if counts {
                        value += chance.below(8) as f64;
                        if chance.below(30) == 0 {
                            value = 0.0;
                        }
                    } else if chance.below(4) == 0 {
                        value = chance.below(20) as f64 * 0.5;
                    }
                    let missing = chance.below(12) == 0 || (gone..gone + 14).contains(&at);
                    values.push((!missing).then_some(value));
                }
                all.push(Series {
                    labels: Labels::named(name, [("job", job), ("instance", instance)]),
                    values,
                });
            }
        }
    }
    all
}

const SOURCES: [&str; 14] = [
    "queue",
    "queue{job=\"api\"}",
    "sum by (job) (queue)",
    "max without (instance) (limit)",
    "rate(requests_total[2m])",
    "increase(requests_total{job=~\"a.*\"}[90s])",
    "avg_over_time(queue[1m])",
    "queue - on (job, instance) limit",
    "count(queue)",
    "vector(4)",
    "vector(time() % 300)",
    "queue offset 1m",
    "queue unless limit",
    "max_over_time(sum by (job) (limit)[3m:30s])",
];

const CONDITIONS: [&str; 6] = ["> 5", "< 3", ">= 2", "!= 0", "", "> bool 4"];

fn expression(chance: &mut Chance, names: &[String]) -> String {
    let reads_a_rule = !names.is_empty() && chance.below(3) == 0;
    if reads_a_rule {
        let name = &names[chance.below(names.len())];
        return match chance.below(4) {
            0 => format!("{name} * 2"),
            1 => format!("max_over_time({name}[1m])"),
            2 => format!("count({name}) or vector(0)"),
            _ => format!("{name} offset 30s"),
        };
    }
    match chance.below(12) {
        0 => "ALERTS{alertstate=\"firing\"}".to_owned(),
        1 => "count by (alertname) (ALERTS)".to_owned(),
        2 => "absent(queue{job=\"mail\"})".to_owned(),
        _ => chance.pick(&SOURCES).to_owned(),
    }
}

const LABEL_TEXTS: [&str; 6] = [
    "page",
    "{{ $labels.job }}-team",
    "{{ if gt $value 6.0 }}high{{ else }}low{{ end }}",
    "",
    "{{ $labels.instance | toUpper }}",
    "{{ $externalLabels.region }}x",
];

const ANNOTATION_TEXTS: [&str; 8] = [
    "{{ $value }} on {{ $labels.job }}",
    "{{ humanize $value }} {{ $value | humanizeDuration }}",
    "{{ printf \"%.3f of %s\" $value $labels.instance }}",
    "{{ with query \"count(queue)\" }}{{ . | first | value }}{{ else }}none{{ end }}",
    "{{ range query \"queue\" | sortByLabel \"instance\" | sortByLabel \"job\" }}{{ .Labels.job }}{{ .Labels.instance }}={{ .Value }} {{ end }}",
    "https://runbooks.example/{{ $labels.alertname }}",
    "{{ humanizePercentage $value }}{{ reReplaceAll \":.*\" \"\" $labels.instance }}",
    "plain",
];

fn rules(chance: &mut Chance) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut out = String::from("groups:\n");
    for group in 0..1 + chance.below(2) {
        let _ = writeln!(out, "- name: group{group}");
        if chance.below(25) == 0 {
            let _ = writeln!(out, "  limit: {}", 1 + chance.below(3));
        }
        out.push_str("  rules:\n");
        for rule in 0..1 + chance.below(5) {
            if chance.below(2) == 0 {
                let name = format!("group{group}:rule{rule}");
                // Now and then a rule reads what it or a later rule records.
                let ahead = [name.clone(), "group1:rule0".to_owned()];
                let readable = if chance.below(8) == 0 {
                    &ahead[..]
                } else {
                    &names
                };
                let expr = expression(chance, readable);
                let _ = writeln!(out, "  - record: {name}\n    expr: {}", quoted(&expr));
                if chance.below(6) == 0 {
                    let _ = writeln!(
                        out,
                        "    labels: {{source: rule, job: {}}}",
                        chance.pick(&["set", "\"\""])
                    );
                }
                names.push(name);
                continue;
            }
            let expr = format!(
                "{} {}",
                expression(chance, &names),
                chance.pick(&CONDITIONS)
            );
            let _ = writeln!(
                out,
                "  - alert: Alert{group}x{rule}\n    expr: {}",
                quoted(expr.trim())
            );
            for field in ["for", "keep_firing_for"] {
                if chance.below(2) == 0 {
                    let _ = writeln!(
                        out,
                        "    {field}: {}",
                        chance.pick(&["1m", "45s", "2m30s", "0s"])
                    );
                }
            }
            for (field, texts) in [
                ("labels", &LABEL_TEXTS[..]),
                ("annotations", &ANNOTATION_TEXTS[..]),
            ] {
                if chance.below(3) == 0 {
                    continue;
                }
                let _ = writeln!(out, "    {field}:");
                for index in 0..1 + chance.below(3) {
                    let _ = writeln!(out, "      {field}{index}: {}", quoted(chance.pick(texts)));
                }
            }
        }
    }
    out
}

fn stored(series: &[Series]) -> Storage {
    let mut storage = Storage::new();
    for one in series {
        for (at_ms, value) in (0..).step_by(INTERVAL_MS as usize).zip(&one.values) {
            if let Some(value) = value {
                storage.append(one.labels.clone(), at_ms, *value).unwrap();
            }
        }
    }
    storage
}

fn settings() -> Settings {
    let interval = Duration::from_millis(INTERVAL_MS.unsigned_abs());
    let mut settings = Settings::new(0, MINUTES * 60_000, interval);
    settings.external_labels = Labels::new([("region", "eu")]);
    settings
}

/// The test file: the series, and what we say of every alert and recorded series.
fn test_file(
    seed: u64,
    series: &[Series],
    file: &RuleFile,
    evaluation: &Evaluation,
    storage: &Storage,
    dialect: Dialect,
) -> String {
    let mut out = format!(
        "rule_files: [rules{seed}.yml]\nevaluation_interval: {}s\ngroup_eval_order: [group0, group1]\n\
         tests:\n- interval: {}s\n  external_labels: {{region: eu}}\n  input_series:\n",
        INTERVAL_MS / 1000,
        INTERVAL_MS / 1000,
    );
    if file.groups().len() == 1 {
        out = out.replace(", group1", "");
    }
    for one in series {
        let values: Vec<String> = one
            .values
            .iter()
            .map(|value| value.map_or("_".to_owned(), |value| value.to_string()))
            .collect();
        let _ = writeln!(
            out,
            "  - series: {}\n    values: '{}'",
            quoted(&one.labels.to_string()),
            values.join(" ")
        );
    }
    out.push_str("  alert_rule_test:\n");
    let moments: Vec<i64> = (0..=MINUTES * 60).step_by(45).collect();
    for rule in file.alerting() {
        for &second in &moments {
            let _ = writeln!(
                out,
                "  - eval_time: {second}s\n    alertname: {}",
                rule.name()
            );
            let last_evaluation = second * 1000 / INTERVAL_MS * INTERVAL_MS;
            let firing: Vec<_> = evaluation
                .timeline
                .active_at(last_evaluation)
                .into_iter()
                .filter(|alert| {
                    alert.state == AlertState::Firing
                        && alert.labels.value("alertname") == rule.name()
                })
                .collect();
            if firing.is_empty() {
                out.push_str("    exp_alerts: []\n");
                continue;
            }
            out.push_str("    exp_alerts:\n");
            for alert in firing {
                let pairs = |labels: &Labels| {
                    let pairs: Vec<String> = labels
                        .iter()
                        .map(|(name, value)| format!("{name}: {}", quoted(value)))
                        .collect();
                    format!("{{{}}}", pairs.join(", "))
                };
                // An annotation that is empty is there for promtool, and is none here.
                let annotations = Labels::new(
                    alert
                        .annotations
                        .iter()
                        .map(|(n, v)| (n.to_owned(), v.to_owned())),
                );
                let _ = writeln!(
                    out,
                    "    - exp_labels: {}\n      exp_annotations: {}",
                    pairs(&alert.labels.without(&["alertname"])),
                    pairs(&annotations)
                );
            }
        }
    }
    out.push_str("  promql_expr_test:\n");
    let recorded = file.recording().map(|rule| rule.name().to_owned());
    let queries: Vec<String> = recorded
        .chain(["ALERTS".to_owned(), "ALERTS_FOR_STATE".to_owned()])
        .collect();
    let engine = Engine::new(dialect);
    for text in queries {
        let query = Query::parse_as(&text, dialect).unwrap();
        for second in (0..=MINUTES * 60).step_by(150) {
            let answer = engine.instant(storage, &query, second * 1000).unwrap();
            let Value::Vector(samples) = answer.value else {
                panic!("{text} is no vector");
            };
            let _ = writeln!(
                out,
                "  - expr: '{text}'\n    eval_time: {second}s\n    exp_samples:"
            );
            for sample in samples {
                let _ = writeln!(
                    out,
                    "    - labels: {}\n      value: {}",
                    quoted(&sample.labels.to_string()),
                    number(sample.value)
                );
            }
        }
    }
    out
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => ".inf".to_owned(),
        f64::NEG_INFINITY => "-.inf".to_owned(),
        value => value.to_string(),
    }
}

#[test]
fn alerts_and_recorded_series_of_random_groups_are_those_of_promtool() {
    let Some(promtool) = RealTool::find("promtool", "the package prometheus") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["test".to_owned(), "rules".to_owned()];
    let (mut judged, mut failing, mut episodes, mut alike) = (0, 0, 0, 0);
    for seed in seeds("NIGHTSHIFT_RULES_SEED", SEEDS) {
        let mut chance = Chance::new(seed);
        let series = series(&mut chance);
        let text = rules(&mut chance);
        let file = RuleFile::parse_as(&text, promtool.dialect())
            .unwrap_or_else(|error| panic!("seed {seed}: refused: {error}\n{text}"));
        let mut storage = stored(&series);
        let evaluation = file.evaluate(&mut storage, &settings()).unwrap();
        // A rule that fails is an error of the test to promtool, whatever is expected.
        if !evaluation.failures.is_empty() {
            failing += 1;
            continue;
        }
        episodes += evaluation.timeline.episodes().len();
        let expectation = test_file(
            seed,
            &series,
            &file,
            &evaluation,
            &storage,
            promtool.dialect(),
        );
        alike += expectation.matches("eval_time").count();
        std::fs::write(folder.path().join(format!("rules{seed}.yml")), text).unwrap();
        std::fs::write(folder.path().join(format!("test{seed}.yml")), expectation).unwrap();
        arguments.push(format!("test{seed}.yml"));
        judged += 1;
    }
    assert!(judged > 0, "every case failed to evaluate");
    let answer = promtool.run(&arguments, folder.path());
    assert!(
        answer.success,
        "promtool disagrees; run one seed by NIGHTSHIFT_RULES_SEED=N\n{}\n{}",
        answer.stdout.chars().take(6000).collect::<String>(),
        answer.stderr.chars().take(12000).collect::<String>()
    );
    println!(
        "{judged} files with {episodes} episodes and {alike} expectations agree with promtool; \
         {failing} have rules that fail and were not judged"
    );
}

#[test]
fn evaluating_rule_by_rule_gives_the_same_as_moment_by_moment() {
    // A group that reads what itself records makes the evaluation go moment by moment.
    let loops = "- name: loop\n  rules:\n  - {record: loop, expr: loop}\n";
    for seed in seeds("NIGHTSHIFT_RULES_SEED", 1000..1020) {
        let mut chance = Chance::new(seed);
        let series = series(&mut chance);
        let text = rules(&mut chance);
        let outcome = |text: &str| {
            let mut storage = stored(&series);
            let evaluation = RuleFile::parse(text)
                .unwrap()
                .evaluate(&mut storage, &settings())
                .unwrap();
            let mut held: Vec<String> = storage
                .series()
                .iter()
                .map(|one| format!("{} {:?} {:?}", one.labels(), one.times_ms(), one.values()))
                .collect();
            held.sort();
            let changes = evaluation.timeline.changes();
            (held, format!("{changes:?}"), evaluation.failures)
        };
        assert_eq!(
            outcome(&text),
            outcome(&format!("{text}{loops}")),
            "seed {seed}\n{text}"
        );
    }
}

#[test]
fn rules_that_fail_here_fail_in_promtool() {
    let Some(promtool) = RealTool::find("promtool", "the package prometheus") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (index, rule) in [
        "record: r\n    expr: queue\n    labels: {instance: same, job: same}",
        "alert: A\n    expr: queue\n    labels: {instance: same, job: same}",
        "record: r\n    expr: queue * on (job) limit",
        "record: r\n    expr: requests_total[5m]",
        "record: r\n    expr: '\"text\"'",
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("groups:\n- name: group0\n  rules:\n  - {rule}\n");
        let file = RuleFile::parse_as(&text, promtool.dialect()).unwrap();
        let mut storage = Storage::new();
        let mut inputs = String::new();
        for name in ["queue", "limit", "requests_total"] {
            for instance in ["a", "b"] {
                let labels = Labels::named(name, [("job", "api"), ("instance", instance)]);
                let _ = writeln!(
                    inputs,
                    "  - series: {}\n    values: '1 1'",
                    quoted(&labels.to_string())
                );
                storage.append(labels.clone(), 0, 1.0).unwrap();
                storage.append(labels, INTERVAL_MS, 1.0).unwrap();
            }
        }
        let interval = Duration::from_secs(30);
        let evaluation = file
            .evaluate(&mut storage, &Settings::new(0, INTERVAL_MS, interval))
            .unwrap();
        assert_eq!(
            evaluation.failures.len(),
            1,
            "{text}: {:?}",
            evaluation.failures
        );
        assert_eq!(evaluation.failures[0].count, 2, "{text}");
        let test = format!(
            "rule_files: [rules{index}.yml]\nevaluation_interval: 30s\ntests:\n- interval: 30s\n  \
             input_series:\n{inputs}  promql_expr_test:\n  - {{expr: vector(1), eval_time: 30s, \
             exp_samples: [{{labels: '{{}}', value: 1}}]}}\n"
        );
        std::fs::write(folder.path().join(format!("rules{index}.yml")), &text).unwrap();
        std::fs::write(folder.path().join("test.yml"), test).unwrap();
        let answer = promtool.run(
            &["test".to_owned(), "rules".to_owned(), "test.yml".to_owned()],
            folder.path(),
        );
        assert!(!answer.success, "{text}\n{}", answer.stdout);
    }
}

/// Rule files of the verdicts that version 3 loads: it takes names of any letters.
const LOAD_IN_VERSION_3: [&str; 3] = [
    "a record of no name",
    "a label of no name",
    "an annotation of no name",
];

/// A rule file and whether it loads, unless version 3 says otherwise.
const VERDICTS: [(&str, &str, bool); 34] = [
    ("nothing", "", true),
    ("no groups", "groups: []\n", true),
    ("an empty group", "groups: [{name: a}]\n", true),
    ("a group without a name", "groups: [{rules: []}]\n", false),
    ("a group twice", "groups: [{name: a}, {name: a}]\n", false),
    ("an unknown field", "groups: [{name: a, rule: []}]\n", false),
    (
        "an unknown field of a rule",
        "groups: [{name: a, rules: [{alert: A, expr: up, severity: x}]}]\n",
        false,
    ),
    (
        "a recording rule",
        "groups: [{name: a, interval: 1m, limit: 3, rules: [{record: 'a:b', expr: up}]}]\n",
        true,
    ),
    (
        "both kinds",
        "groups: [{name: a, rules: [{record: b, alert: c, expr: up}]}]\n",
        false,
    ),
    (
        "neither kind",
        "groups: [{name: a, rules: [{expr: up}]}]\n",
        false,
    ),
    (
        "no expression",
        "groups: [{name: a, rules: [{record: b}]}]\n",
        false,
    ),
    (
        "a broken expression",
        "groups: [{name: a, rules: [{record: b, expr: 'sum('}]}]\n",
        false,
    ),
    (
        "a record of no name",
        "groups: [{name: a, rules: [{record: 'a-b', expr: up}]}]\n",
        false,
    ),
    (
        "a record that is a selector",
        "groups: [{name: a, rules: [{record: 'a{b=\"c\"}', expr: up}]}]\n",
        false,
    ),
    (
        "a record with for",
        "groups: [{name: a, rules: [{record: b, expr: up, for: 1m}]}]\n",
        false,
    ),
    (
        "a record with annotations",
        "groups: [{name: a, rules: [{record: b, expr: up, annotations: {a: b}}]}]\n",
        false,
    ),
    (
        "a record with keep_firing_for",
        "groups: [{name: a, rules: [{record: b, expr: up, keep_firing_for: 1m}]}]\n",
        false,
    ),
    (
        "an alert with everything",
        "groups: [{name: a, rules: [{alert: 'A b', expr: up == 0, for: 1h30m, keep_firing_for: 5m, labels: {severity: 1}, annotations: {summary: '{{ $value }}'}}]}]\n",
        true,
    ),
    (
        "for without a unit",
        "groups: [{name: a, rules: [{alert: A, expr: up, for: 300}]}]\n",
        false,
    ),
    (
        "for of zero",
        "groups: [{name: a, rules: [{alert: A, expr: up, for: 0}]}]\n",
        true,
    ),
    (
        "for with a fraction",
        "groups: [{name: a, rules: [{alert: A, expr: up, for: 1.5m}]}]\n",
        false,
    ),
    (
        "an empty label",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {severity: }}]}]\n",
        true,
    ),
    (
        "a label of no name",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {'a-b': c}}]}]\n",
        false,
    ),
    (
        "the metric's name as a label",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {__name__: c}}]}]\n",
        false,
    ),
    (
        "an annotation of no name",
        "groups: [{name: a, rules: [{alert: A, expr: up, annotations: {'a-b': c}}]}]\n",
        false,
    ),
    (
        "a template of an unknown variable",
        "groups: [{name: a, rules: [{alert: A, expr: up, annotations: {a: '{{ $label.x }}'}}]}]\n",
        false,
    ),
    (
        "a template of an unknown function",
        "groups: [{name: a, rules: [{alert: A, expr: up, annotations: {a: '{{ humanise 1 }}'}}]}]\n",
        false,
    ),
    (
        "a template without an end",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {a: '{{ if $value }}x'}}]}]\n",
        false,
    ),
    (
        "a template that will fail later",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {a: '{{ if gt $value 5 }}x{{ end }}'}}]}]\n",
        true,
    ),
    (
        "a template with an operator",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {a: '{{ if $value > 5 }}x{{ end }}'}}]}]\n",
        false,
    ),
    (
        "a template that is not quoted",
        "groups:\n- name: a\n  rules:\n  - alert: A\n    expr: up\n    annotations:\n      a: {{ $value }}\n",
        false,
    ),
    (
        "labels as a list",
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: [a]}]}]\n",
        false,
    ),
    (
        "rules as a mapping",
        "groups: [{name: a, rules: {alert: A, expr: up}}]\n",
        false,
    ),
    ("a tab", "groups:\n\t- name: a\n", false),
];

#[test]
fn what_loads_here_loads_in_prometheus_and_what_does_not_does_not() {
    let promtool = RealTool::find("promtool", "the package prometheus");
    let folder = tempfile::tempdir().unwrap();
    for (name, text, loads) in VERDICTS {
        let dialect = promtool.as_ref().map_or(Dialect::V2, RealTool::dialect);
        let loads = loads || (dialect == Dialect::V3 && LOAD_IN_VERSION_3.contains(&name));
        let ours = RuleFile::parse_as(text, dialect);
        assert_eq!(ours.is_ok(), loads, "{name}: {:?}", ours.err());
        if let Some(promtool) = &promtool {
            std::fs::write(folder.path().join("rules.yml"), text).unwrap();
            let answer = promtool.run(
                &[
                    "check".to_owned(),
                    "rules".to_owned(),
                    "rules.yml".to_owned(),
                ],
                folder.path(),
            );
            assert_eq!(
                answer.success, loads,
                "{name}: {}{}",
                answer.stdout, answer.stderr
            );
        }
    }
}

/// Templates, of which each fills in or fails as Prometheus's does.
const TEMPLATES: [&str; 44] = [
    "{{ $value }}|{{ .Value }}|{{ $labels }}|{{ $labels.nope }}|{{ .Labels.job }}",
    "{{ humanize $value }} {{ humanize 0.00123 }} {{ humanize 1e30 }} {{ humanize 0 }} {{ humanize -5.5 }}",
    "{{ humanize1024 $value }} {{ humanize1024 1048576 }} {{ humanize1024 0.5 }} {{ humanize1024 1e30 }}",
    "{{ humanizeDuration 0 }} {{ humanizeDuration 0.0012 }} {{ humanizeDuration 59.9999 }} {{ humanizeDuration 3661 }} {{ humanizeDuration -90061 }} {{ humanizeDuration \"7\" }}",
    "{{ humanizePercentage 0.1234567 }} {{ humanizePercentage $value }} {{ humanizePercentage 1 }}",
    "{{ humanizeTimestamp 0 }} {{ humanizeTimestamp 1700000000.25 }} {{ humanizeTimestamp -1.5 }} {{ humanizeTimestamp 1e9 }}",
    "{{ humanizeTimestamp 1e300 }}",
    "{{ printf \"%d|%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c\" 42 42 42 42 42 255 255 8 5 97 }}",
    "{{ printf \"%v|%g|%f|%.2f|%8.3f|%-8.1f|%08.2f|%+.1f|%e|%.3e|%.3g|%G\" 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1234.5678 1e-7 }}",
    "{{ printf \"%s|%q|%10s|%-10s|%.2s|%x|%v\" \"abc\" \"a\\\"b\" \"abc\" \"abc\" \"abc\" \"abc\" \"abc\" }}",
    "{{ printf \"%t|%v|%%|%5t\" true false true }}",
    "{{ printf \"%d\" $value }} {{ printf \"%s\" 5 }} {{ printf \"%d\" }} {{ printf \"x\" 1 \"y\" }} {{ printf \"%z\" 3 }} {{ printf \"%\" }}",
    "{{ print 1 2 \"a\" \"b\" 3 4.5 true }} {{ println 1 \"a\" }}|",
    "{{ title \"a bc-de f_g\" }} {{ toUpper \"äb\" }} {{ toLower \"ÄB\" }}",
    "{{ reReplaceAll \"(a)(b)\" \"$2-${1}x\" \"abab\" }} {{ match \"^a.c$\" \"abc\" }} {{ match \"b\" \"abc\" }}",
    "{{ query \"queue\" | len }} {{ query \"nope\" | len }} {{ range query \"queue\" | sortByLabel \"job\" }}{{ .Labels.job }}={{ .Value }};{{ end }}",
    "{{ with query \"queue{job='api'}\" }}{{ . | first | value }} {{ . | first | label \"job\" }}{{ end }}",
    "{{ range $i, $s := query \"queue\" | sortByLabel \"job\" }}{{ $i }}{{ $s.Labels.job }}{{ end }}",
    "{{ range $k, $v := $labels }}{{ $k }}:{{ $v }} {{ end }}{{ range query \"nope\" }}x{{ else }}none{{ end }}",
    "{{ range query \"queue\" }}{{ if eq .Labels.job \"api\" }}{{ continue }}{{ end }}{{ .Labels.job }}{{ break }}{{ end }}",
    "{{ if gt $value 5.0 }}a{{ else if lt $value 1.0 }}b{{ else }}c{{ end }}{{ if and true (gt 2 1) }}d{{ end }}",
    "{{ eq 1 2 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt \"b\" \"a\" }} {{ ge 1.5 1.5 }} {{ not 0 }} {{ and 1 0 2 }} {{ or 0 \"\" 3 }}",
    "{{ $x := 1 }}{{ $x }}{{ $x = 2 }}{{ $x }}{{ if true }}{{ $x = 3 }}{{ $y := 4 }}{{ $y }}{{ end }}{{ $x }}",
    "a {{- 1 -}} b {{ 2 }} c {{- /* gone */ -}} d {{/* kept */}} e",
    "{{ 0x1F }} {{ 'a' }} {{ 1_000 }} {{ 1e3 }} {{ .5 }} {{ -3 }} {{ +3 }} {{ `raw\\n` }} {{ \"\\u00e9\\t\" }}",
    "{{ len \"abc\" }} {{ len $labels }} {{ index $labels \"job\" }} {{ index \"abc\" 1 }} {{ slice \"hello\" 1 3 }}",
    "{{ html \"<a href='x'>&\\\"\" }} {{ urlquery \"a b&c=d/é\" }} {{ js \"it's <b>\\\"\" }}",
    "{{ stripPort \"host:80\" }} {{ stripPort \"host\" }} {{ stripPort \"[::1]:80\" }} {{ stripDomain \"a.b.c:80\" }} {{ stripDomain \"10.0.0.1:80\" }}",
    "{{ graphLink \"up == 0\" }} {{ tableLink \"sum(x)\" }} {{ safeHtml \"<b>\" }} {{ parseDuration \"1h30m\" }}",
    "{{ $labels.job | printf \"%s-%s\" \"q\" | toUpper }} {{ (query \"queue\" | len) | printf \"%03d\" }}",
    "{{ (index (query \"queue\" | sortByLabel \"job\") 0).Labels.job }}",
    "{{ true }} {{ with $labels.job }}{{ . }}{{ end }}{{ with $labels.nope }}x{{ else }}y{{ end }}",
    "{{ if gt $value 5 }}x{{ end }}",
    "{{ title $value }}",
    "{{ title }}",
    "{{ .Nope }}",
    "{{ $labels.job.x }}",
    "{{ query \"nope\" | first }}",
    "{{ $value 3 }}",
    "{{ range $value }}{{ end }}",
    "{{ nil }}",
    "{{ humanize \"x\" }}",
    "{{ index $labels 1 }}",
    "{{ slice \"abc\" 2 1 }}",
];

#[test]
fn templates_fill_in_as_prometheus_fills_them_in() {
    let Some(promtool) = RealTool::find("promtool", "the package prometheus") else {
        return;
    };
    let mut rules = String::from(
        "groups:\n- name: group0\n  rules:\n  - alert: A\n    expr: queue{job=\"api\"}\n    annotations:\n",
    );
    for (index, template) in TEMPLATES.iter().enumerate() {
        let _ = writeln!(rules, "      a{index}: {}", quoted(template));
    }
    let file =
        RuleFile::parse_as(&rules, promtool.dialect()).unwrap_or_else(|error| panic!("{error}"));
    let mut storage = Storage::new();
    for (job, value) in [("api", 1_234_567.5), ("mail", 2.0)] {
        storage
            .append(Labels::named("queue", [("job", job)]), 0, value)
            .unwrap();
    }
    let evaluation = file
        .evaluate(&mut storage, &Settings::new(0, 0, Duration::from_secs(60)))
        .unwrap();
    let ours = evaluation.timeline.episodes()[0].annotations_at(0);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yml"), &rules).unwrap();
    // Nothing is expected, so that promtool prints what it got.
    std::fs::write(
        folder.path().join("test.yml"),
        "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n  \
         - {series: 'queue{job=\"api\"}', values: '1234567.5'}\n  \
         - {series: 'queue{job=\"mail\"}', values: '2'}\n  \
         alert_rule_test:\n  - {eval_time: 0s, alertname: A, exp_alerts: []}\n",
    )
    .unwrap();
    let answer = promtool.run(
        &["test".to_owned(), "rules".to_owned(), "test.yml".to_owned()],
        folder.path(),
    );
    let theirs = format!("{}{}", answer.stdout, answer.stderr);
    assert!(theirs.contains("a0="), "{theirs}");
    let mut wrong = Vec::new();
    for (index, template) in TEMPLATES.iter().enumerate() {
        let name = format!("a{index}");
        let value = ours.value(&name);
        let printed = if value.starts_with("<error expanding template") {
            format!("{name}=\"<error expanding template")
        } else {
            // As Go's `%q`, which keeps letters of any language.
            let mut quoted = String::new();
            for c in value.chars() {
                match c {
                    '"' | '\\' => quoted.extend(['\\', c]),
                    '\n' => quoted.push_str("\\n"),
                    '\t' => quoted.push_str("\\t"),
                    c => quoted.push(c),
                }
            }
            format!("{name}=\"{quoted}\"")
        };
        if !theirs.contains(&printed) {
            let from = theirs.find(&format!("{name}=\"")).unwrap_or(0);
            let theirs: String = theirs[from..].chars().take(300).collect();
            wrong.push(format!("{template}\n  ours   {printed}\n  theirs {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_name_of_a_metric_is_a_label_of_recorded_series() {
    let file =
        RuleFile::parse("groups: [{name: g, rules: [{record: a, expr: up, labels: {x: y}}]}]")
            .unwrap();
    let mut storage = Storage::new();
    storage
        .append(Labels::named("up", [("job", "api")]), 0, 1.0)
        .unwrap();
    file.evaluate(&mut storage, &Settings::new(0, 0, Duration::from_secs(60)))
        .unwrap();
    let recorded = Labels::named("a", [("job", "api"), ("x", "y")]);
    assert_eq!(recorded.value(METRIC_NAME), "a");
    assert_eq!(storage.get(&recorded).unwrap().values(), [1.0]);
}
