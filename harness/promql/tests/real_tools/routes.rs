//! Routing trees made from seeds, judged by Alertmanager's own `amtool`.
//!
//! One configuration holds many random trees side by side, each below a route of its own, and
//! `amtool config routes test` tells the receivers of one label set a start (some 10 ms). A failure
//! prints the seed; `NIGHTSHIFT_ROUTES_SEED=N` runs that one alone.

use std::fmt::Write as _;

use promql::Labels;
use promql::routing::Routing;

use crate::tool::{Chance, RealTool, seeds};

const SEEDS: std::ops::Range<u64> = 0..12;
const LABEL_SETS: usize = 12;

const NAMES: [&str; 4] = ["severity", "team", "service", "zone"];
const VALUES: [&str; 5] = ["critical", "warning", "api", "db-1", ""];
const PATTERNS: [&str; 6] = [
    "critical|warning",
    "db.*",
    "a.i",
    ".+",
    ".*",
    "[a-d]{2,3}-?\\\\d?",
];

fn route(chance: &mut Chance, depth: usize, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    let _ = writeln!(out, "{pad}- receiver: r{}", chance.below(6));
    let name = chance.pick(&NAMES);
    match chance.below(6) {
        0 => {
            let _ = writeln!(
                out,
                "{pad}  match: {{{name}: \"{}\"}}",
                chance.pick(&VALUES)
            );
        }
        1 => {
            let _ = writeln!(
                out,
                "{pad}  match_re: {{{name}: \"{}\"}}",
                chance.pick(&PATTERNS)
            );
        }
        2 => {}
        _ => {
            let _ = writeln!(out, "{pad}  matchers:");
            for _ in 0..1 + chance.below(2) {
                let name = chance.pick(&NAMES);
                let (operator, value) = match chance.below(4) {
                    0 => ("=", chance.pick(&VALUES)),
                    1 => ("!=", chance.pick(&VALUES)),
                    2 => ("=~", chance.pick(&PATTERNS)),
                    _ => ("!~", chance.pick(&PATTERNS)),
                };
                let quote = if chance.below(3) == 0 && !value.is_empty() && !value.contains('{') {
                    ""
                } else {
                    "\""
                };
                let _ = writeln!(out, "{pad}  - '{name}{operator}{quote}{value}{quote}'");
            }
        }
    }
    if chance.below(3) == 0 {
        let _ = writeln!(out, "{pad}  continue: true");
    }
    let below = if depth == 0 { 0 } else { chance.below(4) };
    if below > 0 {
        let _ = writeln!(out, "{pad}  routes:");
        for _ in 0..below {
            route(chance, depth - 1, indent + 2, out);
        }
    }
}

fn configuration(chance: &mut Chance) -> String {
    let mut out = String::from("route:\n  receiver: r0\n  routes:\n");
    for _ in 0..2 + chance.below(4) {
        route(chance, 3, 2, &mut out);
    }
    out.push_str("receivers:\n");
    for index in 0..6 {
        let _ = writeln!(out, "- name: r{index}");
    }
    out
}

#[test]
fn receivers_of_random_trees_are_those_that_amtool_names() {
    let Some(amtool) = RealTool::find("amtool", "the package prometheus-alertmanager") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for seed in seeds("NIGHTSHIFT_ROUTES_SEED", SEEDS) {
        let mut chance = Chance::new(seed);
        let text = configuration(&mut chance);
        let file = folder.path().join(format!("{seed}.yml"));
        std::fs::write(&file, &text).unwrap();
        let routing = Routing::parse(&text)
            .unwrap_or_else(|error| panic!("seed {seed}: refused: {error}\n{text}"));
        for _ in 0..LABEL_SETS {
            let mut pairs: Vec<(String, String)> = vec![("alertname".into(), "A".into())];
            for name in NAMES {
                if chance.below(3) > 0 {
                    pairs.push((name.into(), chance.pick(&VALUES).into()));
                }
            }
            let arguments: Vec<String> = ["config", "routes", "test"]
                .into_iter()
                .map(str::to_owned)
                .chain([format!("--config.file={}", file.display())])
                .chain(
                    pairs
                        .iter()
                        .map(|(name, value)| format!("{name}=\"{value}\"")),
                )
                .collect();
            let answer = amtool.run(&arguments, folder.path());
            let theirs = answer.stdout.trim().to_owned();
            let ours = routing.receivers_for(&Labels::new(pairs.clone())).join(",");
            assert_eq!(
                ours, theirs,
                "seed {seed} (NIGHTSHIFT_ROUTES_SEED={seed}): labels {pairs:?}; ours left, \
                 amtool's right ({})\n{text}",
                answer.stderr
            );
            compared += 1;
        }
    }
    println!("{compared} label sets routed as amtool routes them");
}

/// A configuration and whether it loads.
const VERDICTS: [(&str, &str, bool); 40] = [
    (
        "the least",
        "route: {receiver: a}\nreceivers: [{name: a}]\n",
        true,
    ),
    ("no route", "receivers: [{name: a}]\n", false),
    (
        "no receiver of the root",
        "route: {group_by: [x]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "unknown receiver",
        "route: {receiver: b}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "unknown receiver below",
        "route: {receiver: a, routes: [{receiver: b}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "unknown field",
        "route: {receiver: a, group_waits: 1s}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "root with matchers",
        "route: {receiver: a, matchers: [a=b]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "root that goes on",
        "route: {receiver: a, continue: true}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "receiver twice",
        "route: {receiver: a}\nreceivers: [{name: a}, {name: a}]\n",
        false,
    ),
    (
        "receiver without a name",
        "route: {receiver: a}\nreceivers: [{name: a}, {}]\n",
        false,
    ),
    (
        "interval of zero",
        "route: {receiver: a, group_interval: 0s}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "wait of zero",
        "route: {receiver: a, group_wait: 0s}\nreceivers: [{name: a}]\n",
        true,
    ),
    (
        "wait without a unit",
        "route: {receiver: a, group_wait: 30}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "wait of nothing",
        "route: {receiver: a, group_wait: }\nreceivers: [{name: a}]\n",
        true,
    ),
    (
        "group_by as text",
        "route: {receiver: a, group_by: x}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "group_by all",
        "route: {receiver: a, group_by: ['...']}\nreceivers: [{name: a}]\n",
        true,
    ),
    (
        "group_by all and more",
        "route: {receiver: a, group_by: ['...', x]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "group_by twice",
        "route: {receiver: a, group_by: [x, x]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "group_by of no name",
        "route: {receiver: a, group_by: [x-y]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "matchers as text",
        "route: {receiver: a, routes: [{matchers: 'a=b'}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "matcher without operator",
        "route: {receiver: a, routes: [{matchers: ['a']}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "matcher of no name",
        "route: {receiver: a, routes: [{matchers: ['a-b=c']}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "two matchers in one text",
        "route: {receiver: a, routes: [{matchers: ['{a=b, c=~\"d|e\"}']}]}\nreceivers: [{name: a}]\n",
        true,
    ),
    (
        "matcher with a stray quote",
        "route: {receiver: a, routes: [{matchers: ['a=\"b']}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "expression that does not compile",
        "route: {receiver: a, routes: [{match_re: {a: '('}}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "webhook without a URL",
        "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{send_resolved: true}]}]\n",
        false,
    ),
    (
        "webhook with half a URL",
        "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: 'pager'}]}]\n",
        false,
    ),
    (
        "webhook",
        "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: 'http://127.0.0.1:1/', max_alerts: 3}]}]\n",
        true,
    ),
    (
        "webhook with a field of another",
        "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: 'http://127.0.0.1:1/', channel: x}]}]\n",
        false,
    ),
    (
        "Slack without an address",
        "route: {receiver: a}\nreceivers: [{name: a, slack_configs: [{channel: x}]}]\n",
        false,
    ),
    (
        "Slack",
        "global: {slack_api_url: 'http://127.0.0.1:1/'}\nroute: {receiver: a}\nreceivers: [{name: a, slack_configs: [{channel: x, title: t, text: u}]}]\n",
        true,
    ),
    (
        "e-mail without a sender",
        "global: {smtp_smarthost: 'h:25'}\nroute: {receiver: a}\nreceivers: [{name: a, email_configs: [{to: x}]}]\n",
        false,
    ),
    (
        "e-mail",
        "global: {smtp_smarthost: 'h:25', smtp_from: f}\nroute: {receiver: a}\nreceivers: [{name: a, email_configs: [{to: x}]}]\n",
        true,
    ),
    (
        "PagerDuty without a key",
        "route: {receiver: a}\nreceivers: [{name: a, pagerduty_configs: [{severity: x}]}]\n",
        false,
    ),
    (
        "inhibition of old and new syntax",
        "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules: [{source_match: {a: b}, target_match_re: {c: d.*}, equal: [e]}, {source_matchers: ['a=b'], target_matchers: ['c=d']}]\n",
        true,
    ),
    (
        "inhibition equal in text",
        "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules: [{equal: e}]\n",
        false,
    ),
    (
        "unknown time interval",
        "route: {receiver: a, routes: [{mute_time_intervals: [n]}]}\nreceivers: [{name: a}]\n",
        false,
    ),
    (
        "time interval of the root",
        "route: {receiver: a, mute_time_intervals: [n]}\nreceivers: [{name: a}]\ntime_intervals: [{name: n, time_intervals: []}]\n",
        false,
    ),
    (
        "time interval",
        "route: {receiver: a, routes: [{active_time_intervals: [n]}]}\nreceivers: [{name: a}]\ntime_intervals: [{name: n, time_intervals: [{weekdays: ['monday:friday'], days_of_month: ['1:5', '-3:-1'], months: [may, '6'], times: [{start_time: '09:00', end_time: '24:00'}], location: Europe/Madrid}]}]\n",
        true,
    ),
    (
        "days that end first",
        "route: {receiver: a}\nreceivers: [{name: a}]\ntime_intervals: [{name: n, time_intervals: [{days_of_month: ['20:-15']}]}]\n",
        false,
    ),
];

#[test]
fn what_loads_here_loads_in_alertmanager_and_what_does_not_does_not() {
    let amtool = RealTool::find("amtool", "the package prometheus-alertmanager");
    let folder = tempfile::tempdir().unwrap();
    for (name, text, loads) in VERDICTS {
        let ours = Routing::parse(text);
        assert_eq!(ours.is_ok(), loads, "{name}: {:?}", ours.err());
        if let Some(amtool) = &amtool {
            let file = folder.path().join("alertmanager.yml");
            std::fs::write(&file, text).unwrap();
            let answer = amtool.run(
                &["check-config".to_owned(), file.display().to_string()],
                folder.path(),
            );
            assert_eq!(answer.success, loads, "{name}: {}", answer.stdout);
        }
    }
}
