//! Stories of notifications, and what holds for every timeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use promql::Labels;
use promql::routing::{
    Firing, Notification, Post, Routing, Silence, SilenceError, Simulation, Suppression,
};
use proptest::prelude::*;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

fn routing(text: &str) -> Routing {
    Routing::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn episode(labels: &[(&str, &str)], from_ms: i64, to_ms: Option<i64>) -> Firing {
    Firing {
        labels: Labels::new(labels.iter().copied()),
        annotations: Labels::new([("summary", "s")]),
        from_ms,
        to_ms,
    }
}

fn posts(episodes: &[Firing], until_ms: i64) -> Vec<Post> {
    episodes
        .iter()
        .flat_map(|episode| episode.posts(Duration::from_secs(15), until_ms))
        .collect()
}

/// Time in seconds, receiver, and how many fire and are resolved.
fn told(simulation: &Simulation) -> Vec<(i64, &str, usize, usize)> {
    simulation
        .notifications
        .iter()
        .map(|notification| {
            (
                notification.at_ms / SECOND,
                notification.receiver.as_str(),
                notification.firing.len(),
                notification.resolved.len(),
            )
        })
        .collect()
}

const PLAIN: &str = "
route:
  receiver: team
  group_by: [alertname]
receivers:
- name: team
  webhook_configs: [{url: 'http://127.0.0.1:9/'}]
";

#[test]
fn a_group_waits_then_tells_of_changes_at_its_interval_and_of_the_end() {
    let routing = routing(PLAIN);
    let posts = posts(
        &[
            episode(
                &[("alertname", "Full"), ("pool", "a")],
                0,
                Some(20 * MINUTE),
            ),
            episode(
                &[("alertname", "Full"), ("pool", "b")],
                10 * SECOND,
                Some(7 * MINUTE),
            ),
            episode(
                &[("alertname", "Full"), ("pool", "c")],
                40 * SECOND,
                Some(20 * MINUTE),
            ),
        ],
        HOUR,
    );
    let simulation = routing.simulate(&posts, &[], HOUR).unwrap();
    assert_eq!(
        told(&simulation),
        [
            // Two within the wait; the third at the next interval; `b` ends after seven minutes.
            (30, "team", 2, 0),
            (330, "team", 3, 0),
            (630, "team", 2, 1),
            // Prometheus still posts the end of `b`, so the last message holds it too.
            (1230, "team", 0, 3),
        ]
    );
    let first = &simulation.notifications[0];
    assert_eq!(first.group_key, "{}:{alertname=\"Full\"}");
    assert_eq!(first.group_labels, Labels::new([("alertname", "Full")]));
    assert_eq!(
        simulation.notifications[2].resolved[0].ends_ms,
        Some(7 * MINUTE + 10 * SECOND)
    );
}

#[test]
fn an_unchanged_group_is_repeated_after_the_repeat_interval() {
    let routing = routing(&PLAIN.replace("group_by", "repeat_interval: 1h\n  group_by"));
    let posts = posts(&[episode(&[("alertname", "Down")], 0, None)], 4 * HOUR);
    let simulation = routing.simulate(&posts, &[], 4 * HOUR).unwrap();
    assert_eq!(
        told(&simulation),
        [
            (30, "team", 1, 0),
            (30 + 3600, "team", 1, 0),
            (30 + 2 * 3600, "team", 1, 0),
            (30 + 3 * 3600, "team", 1, 0)
        ]
    );
}

#[test]
fn an_alert_shorter_than_the_wait_is_never_told() {
    let routing = routing(PLAIN);
    let posts = posts(
        &[episode(&[("alertname", "Blip")], 0, Some(15 * SECOND))],
        HOUR,
    );
    assert!(
        routing
            .simulate(&posts, &[], HOUR)
            .unwrap()
            .notifications
            .is_empty()
    );
}

#[test]
fn an_alert_that_is_no_longer_posted_resolves_by_its_own_end() {
    let routing = routing(PLAIN);
    let post = Post {
        at_ms: 0,
        labels: Labels::new([("alertname", "Down")]),
        annotations: Labels::empty(),
        starts_ms: Some(0),
        ends_ms: None,
    };
    // Without an end of its own it is `resolve_timeout`, five minutes; the flush at 5:30 tells.
    assert_eq!(
        told(&routing.simulate(&[post], &[], HOUR).unwrap()),
        [(30, "team", 1, 0), (330, "team", 0, 1)]
    );
}

#[test]
fn a_route_that_goes_on_tells_both_receivers_and_resolved_is_kept_from_those_who_do_not_want_it() {
    let routing = routing(
        "
route:
  receiver: log
  group_wait: 10s
  routes:
  - matchers: ['severity=\"critical\"']
    receiver: pager
    continue: true
  - receiver: chat
    match_re: {severity: critical|warning}
receivers:
- {name: log, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: pager, webhook_configs: [{url: 'http://127.0.0.1:9/'}, {url: 'http://127.0.0.1:8/', send_resolved: false}]}
- {name: chat, slack_configs: [{channel: ops, api_url: 'http://127.0.0.1:9/'}]}
",
    );
    let posts = posts(
        &[
            episode(
                &[("alertname", "A"), ("severity", "critical")],
                0,
                Some(3 * MINUTE),
            ),
            episode(
                &[("alertname", "B"), ("severity", "info")],
                0,
                Some(3 * MINUTE),
            ),
        ],
        HOUR,
    );
    assert_eq!(
        told(&routing.simulate(&posts, &[], HOUR).unwrap()),
        [
            (10, "pager", 1, 0),
            (10, "pager", 1, 0),
            (10, "chat", 1, 0),
            (10, "log", 1, 0),
            (310, "pager", 0, 1),
            (310, "log", 0, 1),
        ]
    );
}

#[test]
fn an_inhibited_alert_is_kept_back_until_its_inhibitor_ends() {
    let routing = routing(&format!(
        "{PLAIN}inhibit_rules:\n- source_matchers: ['severity=\"critical\"']\n  \
         target_matchers: ['severity=\"warning\"']\n  equal: [service]\n"
    ));
    let posts = posts(
        &[
            episode(
                &[
                    ("alertname", "Down"),
                    ("severity", "critical"),
                    ("service", "db"),
                ],
                0,
                Some(8 * MINUTE),
            ),
            episode(
                &[
                    ("alertname", "Slow"),
                    ("severity", "warning"),
                    ("service", "db"),
                ],
                0,
                Some(HOUR),
            ),
            episode(
                &[
                    ("alertname", "Slow"),
                    ("severity", "warning"),
                    ("service", "web"),
                ],
                0,
                Some(HOUR),
            ),
        ],
        2 * HOUR,
    );
    let simulation = routing.simulate(&posts, &[], 20 * MINUTE).unwrap();
    assert_eq!(
        told(&simulation),
        [
            (30, "team", 1, 0),
            (30, "team", 1, 0),
            (630, "team", 0, 1),
            (630, "team", 2, 0)
        ]
    );
    let kept_back: Vec<_> = simulation
        .suppressed
        .iter()
        .map(|suppressed| {
            (
                suppressed.at_ms / SECOND,
                suppressed.labels.value("service"),
            )
        })
        .collect();
    assert_eq!(kept_back, [(30, "db"), (330, "db")]);
    assert!(matches!(
        &simulation.suppressed[0].by,
        Suppression::Inhibited { by } if by.value("alertname") == "Down"
    ));
}

#[test]
fn an_alert_that_passes_both_sides_of_a_rule_does_not_inhibit_itself() {
    let routing = routing(&format!(
        "{PLAIN}inhibit_rules:\n- source_matchers: ['alertname=~\"Down|Slow\"']\n  \
         target_matchers: ['alertname=\"Down\"']\n"
    ));
    let down = episode(&[("alertname", "Down")], 0, None);
    let slow = episode(&[("alertname", "Slow")], 0, None);
    let alone = routing
        .simulate(&posts(std::slice::from_ref(&down), MINUTE), &[], MINUTE)
        .unwrap();
    assert_eq!(told(&alone), [(30, "team", 1, 0)]);
    let both = routing
        .simulate(&posts(&[down, slow], MINUTE), &[], MINUTE)
        .unwrap();
    assert_eq!(both.notifications.len(), 1);
    assert_eq!(
        both.notifications[0].group_labels.value("alertname"),
        "Slow"
    );
}

#[test]
fn silences_and_time_intervals_hold_notifications_back() {
    let routing = routing(
        "
route:
  receiver: team
  routes:
  - matchers: [team=batch]
    receiver: team
    mute_time_intervals: [night]
  - matchers: [team=office]
    receiver: team
    active_time_intervals: [day]
receivers:
- {name: team, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
time_intervals:
- {name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}
- {name: day, time_intervals: [{times: [{start_time: '06:00', end_time: '24:00'}]}]}
",
    );
    let at_three = 3 * HOUR;
    for (team, expected) in [("batch", 6 * HOUR), ("office", 6 * HOUR)] {
        let posts = posts(
            &[episode(
                &[("alertname", "A"), ("team", team)],
                at_three,
                None,
            )],
            7 * HOUR,
        );
        let simulation = routing.simulate(&posts, &[], 7 * HOUR).unwrap();
        assert_eq!(simulation.notifications.len(), 1, "{team}");
        // The first flush at or after six.
        assert_eq!(
            simulation.notifications[0].at_ms,
            expected + 30 * SECOND,
            "{team}"
        );
        assert_eq!(simulation.suppressed.len(), 36, "{team}");
    }
    let silence = Silence::new("alertname=~\"A|B\"", at_three, at_three + 12 * MINUTE).unwrap();
    let posts = posts(&[episode(&[("alertname", "A")], at_three, None)], 4 * HOUR);
    let simulation = routing.simulate(&posts, &[silence], 4 * HOUR).unwrap();
    assert_eq!(
        simulation.notifications[0].at_ms,
        at_three + 15 * MINUTE + 30 * SECOND
    );
    assert_eq!(
        Silence::new("alertname=~\".*\"", 0, 1).unwrap_err(),
        SilenceError::MatchesEverything
    );
}

#[test]
fn a_group_that_became_empty_waits_again_for_its_next_alert() {
    let routing = routing(PLAIN);
    let posts = posts(
        &[
            episode(&[("alertname", "A")], 0, Some(2 * MINUTE)),
            episode(&[("alertname", "A")], 25 * MINUTE, Some(40 * MINUTE)),
        ],
        30 * MINUTE,
    );
    assert_eq!(
        told(&routing.simulate(&posts, &[], 30 * MINUTE).unwrap()),
        // Resolved at the flush of 5:30; Prometheus repeats the end until 17:00, which makes the
        // group anew and empties it again.
        [
            (30, "team", 1, 0),
            (330, "team", 0, 1),
            (25 * 60 + 30, "team", 1, 0)
        ]
    );
}

#[test]
fn what_nobody_would_wait_for_is_refused() {
    let routing = routing(&PLAIN.replace("group_by", "group_interval: 1ms\n  group_by"));
    let posts = posts(&[episode(&[("alertname", "A")], 0, None)], 3 * HOUR);
    let error = routing
        .simulate(&posts, &[], 3 * HOUR)
        .unwrap_err()
        .to_string();
    assert!(error.contains("every 1ms"), "{error}");
}

#[test]
fn without_resolved_messages_an_alert_that_comes_again_in_a_firing_group_is_no_news() {
    let comes_again = [
        episode(&[("alertname", "A"), ("shard", "1")], 0, None),
        episode(&[("alertname", "A"), ("shard", "2")], 0, Some(2 * MINUTE)),
        episode(&[("alertname", "A"), ("shard", "2")], 30 * MINUTE, None),
    ];
    let posts = posts(&comes_again, HOUR);
    let with = routing(PLAIN).simulate(&posts, &[], HOUR).unwrap();
    assert_eq!(
        told(&with),
        [
            (30, "team", 2, 0),
            (330, "team", 1, 1),
            (1830, "team", 2, 0)
        ]
    );
    let silent_on_ends = PLAIN.replace("9/'", "9/', send_resolved: false");
    let without = routing(&silent_on_ends)
        .simulate(&posts, &[], HOUR)
        .unwrap();
    assert_eq!(told(&without), [(30, "team", 2, 0)]);
}

fn post(at_s: i64, starts_s: Option<i64>, ends_s: Option<i64>) -> Post {
    Post {
        at_ms: at_s * SECOND,
        labels: Labels::new([("alertname", "A")]),
        annotations: Labels::empty(),
        starts_ms: starts_s.map(|starts_s| starts_s * SECOND),
        ends_ms: ends_s.map(|ends_s| ends_s * SECOND),
    }
}

#[test]
fn an_empty_group_keeps_its_rhythm_until_it_is_swept_away() {
    let routing = routing(&PLAIN.replace("group_by", "group_wait: 20s\n  group_by"));
    // Emptied by the flush of 320 s; groups are swept at 330 s.
    for (again_s, told_s) in [(325, 620), (330, 620), (331, 351)] {
        let posts = [
            post(0, Some(0), Some(600)),
            post(310, Some(0), Some(310)),
            post(again_s, Some(again_s), Some(again_s + 900)),
        ];
        let simulation = routing.simulate(&posts, &[], 700 * SECOND).unwrap();
        assert_eq!(
            told(&simulation),
            [
                (20, "team", 1, 0),
                (320, "team", 0, 1),
                (told_s, "team", 1, 0)
            ],
            "again at {again_s} s"
        );
    }
}

#[test]
fn posts_of_one_alert_that_overlap_become_one_alert() {
    let routing = routing(PLAIN);
    let alert_told = |posts: &[Post], nth: usize| {
        let simulation = routing.simulate(posts, &[], 20 * MINUTE).unwrap();
        let notification = simulation.notifications[nth].clone();
        let alert = notification
            .firing
            .into_iter()
            .chain(notification.resolved)
            .next()
            .unwrap();
        (
            alert.starts_ms / SECOND,
            alert.ends_ms.map(|ends_ms| ends_ms / SECOND),
        )
    };
    // The earliest start is kept.
    let restarted = [post(0, Some(-50), Some(600)), post(15, Some(10), Some(700))];
    assert_eq!(alert_told(&restarted, 0), (-50, None));
    // An end that somebody stated outlasts a shorter one, and a mere timeout does not.
    let stated = [post(0, Some(0), Some(600)), post(15, Some(0), Some(400))];
    assert_eq!(alert_told(&stated, 1), (0, Some(600)));
    let timed_out = [post(0, Some(0), None), post(15, Some(0), Some(100))];
    assert_eq!(alert_told(&timed_out, 1), (0, Some(100)));
    // Both have ended: the later end counts.
    let ended = [
        post(0, Some(0), Some(400)),
        post(310, Some(0), Some(300)),
        post(320, Some(0), Some(290)),
    ];
    assert_eq!(alert_told(&ended, 1), (0, Some(300)));
}

#[test]
fn what_was_notified_is_forgotten_after_twice_the_repeat_interval() {
    let routing = routing(&PLAIN.replace("group_by", "repeat_interval: 20m\n  group_by"));
    // Silenced after the first notification, and ended a minute before the silence does.
    for (silent_min, expected) in [
        (15, &[(30, "team", 1, 0), (930, "team", 0, 1)][..]),
        (50, &[(30, "team", 1, 0)][..]),
    ] {
        let silence = Silence::new("alertname=A", MINUTE, silent_min * MINUTE).unwrap();
        let ends_ms = (silent_min - 1) * MINUTE;
        let posts = posts(&[episode(&[("alertname", "A")], 0, Some(ends_ms))], HOUR);
        let simulation = routing.simulate(&posts, &[silence], HOUR).unwrap();
        assert_eq!(
            told(&simulation),
            expected,
            "silent for {silent_min} minutes"
        );
    }
}

const RULES: &str = "
route:
  receiver: all
  group_by: [alertname]
  group_wait: 20s
  group_interval: 2m
  repeat_interval: 30m
  routes:
  - {receiver: pager, matchers: ['severity=\"critical\"'], group_by: [service]}
  - {receiver: quiet, matchers: ['severity=\"info\"'], group_by: ['...']}
receivers:
- {name: all, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: pager, webhook_configs: [{url: 'http://127.0.0.1:9/', send_resolved: false}]}
- {name: quiet, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
inhibit_rules:
- source_matchers: ['severity=\"critical\"']
  target_matchers: ['severity=~\"warning|info\"']
  equal: [service]
";

fn any_episode() -> impl Strategy<Value = Firing> {
    (
        prop::sample::select(vec!["Down", "Slow", "Full"]),
        prop::sample::select(vec!["critical", "warning", "info"]),
        prop::sample::select(vec!["api", "db"]),
        0..240_i64,
        prop::option::of(1..240_i64),
    )
        .prop_map(|(name, severity, service, from, length)| {
            let from_ms = from * 15 * SECOND;
            episode(
                &[
                    ("alertname", name),
                    ("severity", severity),
                    ("service", service),
                ],
                from_ms,
                length.map(|length| from_ms + length * 15 * SECOND),
            )
        })
}

/// Episodes of which no two of one label set overlap or touch: Prometheus has one alert of each.
fn any_timeline() -> impl Strategy<Value = Vec<Firing>> {
    prop::collection::vec(any_episode(), 1..10).prop_map(|mut episodes| {
        episodes.sort_by_key(|episode| episode.from_ms);
        let mut kept: Vec<Firing> = Vec::new();
        for episode in episodes {
            let free = kept
                .iter()
                .filter(|earlier| earlier.labels == episode.labels)
                .all(|earlier| {
                    earlier
                        .to_ms
                        .is_some_and(|to| to + 16 * MINUTE < episode.from_ms)
                });
            if free {
                kept.push(episode);
            }
        }
        kept
    })
}

fn fires(episodes: &[Firing], labels: &Labels, at_ms: i64) -> bool {
    episodes.iter().any(|episode| {
        episode.labels == *labels
            && episode.from_ms <= at_ms
            && episode.to_ms.is_none_or(|to_ms| at_ms < to_ms)
    })
}

fn by_group(notifications: &[Notification]) -> BTreeMap<(&str, &str), Vec<&Notification>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for notification in notifications {
        groups
            .entry((
                notification.receiver.as_str(),
                notification.group_key.as_str(),
            ))
            .or_default()
            .push(notification);
    }
    groups
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_timeline_notifications_are_true_spaced_and_news(episodes in any_timeline()) {
        let routing = routing(RULES);
        let until_ms = 3 * HOUR;
        let posts = posts(&episodes, until_ms);
        let simulation = routing.simulate(&posts, &[], until_ms).unwrap();
        prop_assert_eq!(&simulation, &routing.simulate(&posts, &[], until_ms).unwrap());

        for notification in &simulation.notifications {
            prop_assert!(!notification.firing.is_empty() || !notification.resolved.is_empty());
            let group_labels: Vec<&str> =
                notification.group_labels.iter().map(|(name, _)| name).collect();
            for alert in notification.firing.iter().chain(&notification.resolved) {
                // What is said is so, and it was sent where it belongs.
                let now = fires(&episodes, &alert.labels, notification.at_ms);
                prop_assert_eq!(now, alert.ends_ms.is_none(), "{:?}", notification);
                prop_assert_eq!(
                    routing.receivers_for(&alert.labels),
                    vec![notification.receiver.as_str()]
                );
                prop_assert_eq!(&alert.labels.only(&group_labels), &notification.group_labels);
                // Nobody is told of an alert while another inhibits it.
                let inhibited = routing.inhibit_rules().iter().any(|rule| {
                    episodes.iter().any(|other| {
                        fires(&episodes, &other.labels, notification.at_ms)
                            && rule.inhibits(&other.labels, &alert.labels)
                    })
                });
                prop_assert!(!inhibited, "{:?}", notification);
            }
            if notification.receiver == "pager" {
                prop_assert!(notification.resolved.is_empty() && notification.is_firing());
            }
        }

        for ((_, key), notifications) in by_group(&simulation.notifications) {
            for pair in notifications.windows(2) {
                let (before, after) = (pair[0], pair[1]);
                let apart = after.at_ms - before.at_ms;
                let told = |notification: &Notification| -> BTreeSet<Labels> {
                    notification.firing.iter().map(|alert| alert.labels.clone()).collect()
                };
                // Closer than the interval only if all had ended and the group began anew.
                let anew = after.firing.iter().all(|alert| alert.starts_ms > before.at_ms);
                prop_assert!(apart >= 2 * MINUTE || anew, "{key}: {before:?} {after:?}");
                // Without news only after the repeat interval.
                let news = told(before) != told(after) || !after.resolved.is_empty() || anew;
                prop_assert!(news || apart >= 30 * MINUTE, "{key}: {before:?} {after:?}");
            }
        }

        // There are neither silences nor time intervals: only inhibition keeps anything back.
        for suppressed in &simulation.suppressed {
            prop_assert!(matches!(suppressed.by, Suppression::Inhibited { .. }), "{:?}", suppressed);
        }
    }

    #[test]
    fn every_lasting_alert_that_nothing_mutes_is_told(episodes in any_timeline()) {
        let routing = routing(RULES);
        let until_ms = 3 * HOUR;
        let simulation = routing.simulate(&posts(&episodes, until_ms), &[], until_ms).unwrap();
        for episode in &episodes {
            // Whatever the phase of its group, wait and interval have passed once.
            let lasts = episode.to_ms.unwrap_or(until_ms) - episode.from_ms > 3 * MINUTE
                && episode.from_ms + 3 * MINUTE < until_ms;
            let inhibitable = episode.labels.value("severity") != "critical";
            // The pager is not told of ends, so an alert that comes again may be no news.
            let again = episodes
                .iter()
                .any(|other| other.labels == episode.labels && other.from_ms < episode.from_ms);
            if !lasts || inhibitable || again {
                continue;
            }
            let told = simulation.notifications.iter().any(|notification| {
                notification.at_ms >= episode.from_ms
                    && notification.at_ms <= episode.from_ms + 3 * MINUTE
                    && notification.firing.iter().any(|alert| alert.labels == episode.labels)
            });
            prop_assert!(told, "{episode:?}: {:?}", told_of(&simulation));
        }
    }
}

proptest! {
    #[test]
    fn no_configuration_makes_the_reader_panic(
        text in "(route|receiver|receivers|routes|matchers|group_by|continue|time_intervals|name|times|[-:{}\\[\\],'\"&*!|> \\n\\t0-9a-z=~<]){0,60}"
    ) {
        if let Ok(routing) = Routing::parse(&text) {
            let _ = routing.receivers_for(&Labels::new([("alertname", "A")]));
        }
    }
}

fn told_of(simulation: &Simulation) -> Vec<(i64, String)> {
    simulation
        .notifications
        .iter()
        .map(|notification| (notification.at_ms / SECOND, notification.group_key.clone()))
        .collect()
}
