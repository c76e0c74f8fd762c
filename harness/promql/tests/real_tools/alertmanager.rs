//! Groups, receivers, inhibition and silences, judged by a running Alertmanager.
//!
//! Random configurations stand side by side in one: the label `case` leads each alert to its own
//! routes, and each inhibition rule asks for its equality. All alerts are posted at once, and what
//! the server's API says of them is compared. `NIGHTSHIFT_ALERTMANAGER_SEED=N` runs one alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use backends::{Alertmanager, Source};
use promql::Labels;
use promql::routing::{Post, Routing, Silence};
use serde_json::{Value, json};

use crate::tool::{Chance, say, seeds};

const CASES: std::ops::Range<u64> = 0..40;
const ALERTS: usize = 25;

const NAMES: [&str; 3] = ["severity", "team", "zone"];
const VALUES: [&str; 4] = ["critical", "warning", "api", "b"];
const PATTERNS: [&str; 4] = ["critical|warning", "a.i", ".+", "[ab]"];

fn matcher(chance: &mut Chance) -> String {
    let name = chance.pick(&NAMES);
    match chance.below(4) {
        0 => format!("{name}=\"{}\"", chance.pick(&VALUES)),
        1 => format!("{name}!=\"{}\"", chance.pick(&VALUES)),
        2 => format!("{name}=~\"{}\"", chance.pick(&PATTERNS)),
        _ => format!("{name}!~\"{}\"", chance.pick(&PATTERNS)),
    }
}

fn route(chance: &mut Chance, depth: usize, indent: usize, condition: &str, out: &mut String) {
    let pad = " ".repeat(indent);
    let _ = writeln!(
        out,
        "{pad}- receiver: r{}\n{pad}  matchers: ['{condition}']",
        chance.below(5)
    );
    match chance.below(4) {
        0 => {}
        1 => {
            let _ = writeln!(out, "{pad}  group_by: ['...']");
        }
        _ => {
            let _ = writeln!(out, "{pad}  group_by: [{}]", chance.pick(&NAMES));
        }
    }
    if depth < 3 && chance.below(3) == 0 {
        let _ = writeln!(out, "{pad}  continue: true");
    }
    if depth == 0 {
        return;
    }
    let _ = writeln!(out, "{pad}  routes:");
    for _ in 0..1 + chance.below(3) {
        let condition = matcher(chance);
        route(chance, depth - 1, indent + 2, &condition, out);
    }
}

/// The routes, the inhibition rules and the alerts of one case.
fn case(seed: u64, routes: &mut String, rules: &mut String, alerts: &mut Vec<Labels>) {
    let mut chance = Chance::new(seed);
    route(&mut chance, 3, 2, &format!("case=\"{seed}\""), routes);
    for _ in 0..1 + chance.below(2) {
        let (source, target) = (matcher(&mut chance), matcher(&mut chance));
        let _ = writeln!(
            rules,
            "- source_matchers: ['{source}', 'case=\"{seed}\"']\n  target_matchers: ['{target}']\n  \
             equal: [case, {}]",
            chance.pick(&NAMES)
        );
    }
    let mut distinct = BTreeSet::new();
    for _ in 0..ALERTS {
        let mut pairs = vec![
            ("alertname".to_owned(), "A".to_owned()),
            ("case".to_owned(), seed.to_string()),
        ];
        for name in NAMES {
            if chance.below(4) > 0 {
                pairs.push((name.to_owned(), chance.pick(&VALUES).to_owned()));
            }
        }
        distinct.insert(Labels::new(pairs));
    }
    alerts.extend(distinct);
}

fn labels_of(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    Labels::new(pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned())))
}

/// How many groups there are of a receiver, labels and alerts.
type Groups = BTreeMap<(String, Labels, Vec<Labels>), usize>;

fn groups_of(told: &Value) -> Groups {
    let mut groups = Groups::new();
    for group in told.as_array().into_iter().flatten() {
        let mut members: Vec<Labels> = group["alerts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|alert| labels_of(&alert["labels"]))
            .collect();
        members.sort();
        let receiver = group["receiver"]["name"].as_str().unwrap_or("").to_owned();
        let key = (receiver, labels_of(&group["labels"]), members);
        *groups.entry(key).or_insert(0) += 1;
    }
    groups
}

/// What is said of an alert.
#[derive(Debug, PartialEq)]
struct Said {
    receivers: BTreeSet<String>,
    inhibited: bool,
    silenced: bool,
}

fn said_of(told: &Value) -> BTreeMap<Labels, Said> {
    let alerts = told.as_array().into_iter().flatten();
    alerts
        .map(|alert| {
            let is = |what: &str| {
                let by = alert["status"][what].as_array();
                by.is_some_and(|by| !by.is_empty())
            };
            let receivers = alert["receivers"].as_array().into_iter().flatten();
            let said = Said {
                receivers: receivers
                    .filter_map(|receiver| receiver["name"].as_str().map(str::to_owned))
                    .collect(),
                inhibited: is("inhibitedBy"),
                silenced: is("silencedBy"),
            };
            (labels_of(&alert["labels"]), said)
        })
        .collect()
}

/// How often the server is asked: it works off what was posted in the background.
const PATIENCE: usize = 1_000;

/// That the server comes to say the same.
#[track_caller]
fn agree<K: Ord + Debug, V: PartialEq + Debug>(
    ours: &BTreeMap<K, V>,
    ask: impl Fn() -> BTreeMap<K, V>,
    configuration: &str,
) {
    let mut theirs = ask();
    for _ in 0..PATIENCE {
        if theirs == *ours {
            return;
        }
        theirs = ask();
    }
    let differ: Vec<_> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|key| ours.get(key) != theirs.get(key))
        .take(3)
        .map(|key| {
            format!(
                "{key:?}: ours {:?}, theirs {:?}",
                ours.get(key),
                theirs.get(key)
            )
        })
        .collect();
    panic!("{}\n{configuration}", differ.join("\n"));
}

/// A server of ours with this configuration, or nothing with a sentence on the screen.
fn started(configuration: &str) -> Option<Alertmanager> {
    match Alertmanager::start(configuration) {
        Ok(server) if server.source() == Source::Binary => Some(server),
        Ok(server) => {
            say(&format!(
                "not run: {} keeps its own routes or cannot reach this test",
                server.url()
            ));
            None
        }
        Err(unavailable) if unavailable.required() => panic!("could not {unavailable}"),
        Err(unavailable) => {
            say(&format!("not run: could not {unavailable}"));
            None
        }
    }
}

#[test]
fn groups_receivers_inhibition_and_silences_are_those_of_alertmanager() {
    let mut text = String::new();
    let mut rules = String::new();
    let mut alerts = Vec::new();
    for seed in seeds("NIGHTSHIFT_ALERTMANAGER_SEED", CASES) {
        case(seed, &mut text, &mut rules, &mut alerts);
    }
    let text = format!(
        "route:\n  receiver: r0\n  group_wait: 1h\n  routes:\n{text}inhibit_rules:\n{rules}receivers:\n\
         {}",
        (0..5)
            .map(|index| format!("- name: r{index}\n"))
            .collect::<String>()
    );
    let routing = Routing::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let Some(server) = started(&text) else {
        return;
    };

    let body: Vec<Value> = alerts
        .iter()
        .map(|labels| json!({"labels": labels.iter().collect::<BTreeMap<_, _>>()}))
        .collect();
    let post = |path: &str, body: &Value| {
        let answer = server
            .post(path, "application/json", body.to_string().as_bytes())
            .unwrap();
        assert!(answer.is_success(), "{path}: {}", answer.body);
    };
    let get = |path: &str| -> Value {
        let answer = server.get(path).unwrap();
        serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    };
    post(
        "/api/v2/silences",
        &json!({
            "matchers": [
                {"name": "zone", "value": "a.*|b", "isRegex": true, "isEqual": true},
                {"name": "team", "value": "api", "isRegex": false, "isEqual": false}
            ],
            "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z",
            "createdBy": "nightshift", "comment": "a test"
        }),
    );
    let silence = Silence::new("zone=~\"a.*|b\",team!=api", 0, i64::MAX).unwrap();
    post("/api/v2/alerts", &Value::Array(body));

    let ours: BTreeMap<Labels, Said> = alerts
        .iter()
        .map(|labels| {
            let said = Said {
                receivers: routing
                    .receivers_for(labels)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                inhibited: routing
                    .inhibit_rules()
                    .iter()
                    .any(|rule| alerts.iter().any(|source| rule.inhibits(source, labels))),
                silenced: silence.mutes(labels, 1),
            };
            (labels.clone(), said)
        })
        .collect();
    agree(&ours, || said_of(&get("/api/v2/alerts")), &text);
    let inhibited = ours.values().filter(|said| said.inhibited).count();
    let silenced = ours.values().filter(|said| said.silenced).count();
    assert!(inhibited > 0 && silenced > 0 && inhibited < alerts.len());

    // A group is a receiver, its labels, and its alerts; two routes may make the same.
    let mut by_route: BTreeMap<_, Vec<Labels>> = BTreeMap::new();
    for labels in &alerts {
        for route in routing.routes_for(labels) {
            let place = std::ptr::from_ref(route) as usize;
            let key = (
                place,
                route.receiver().to_owned(),
                route.group_labels(labels),
            );
            by_route.entry(key).or_default().push(labels.clone());
        }
    }
    let mut ours = Groups::new();
    for ((_, receiver, labels), mut members) in by_route {
        members.sort();
        *ours.entry((receiver, labels, members)).or_insert(0) += 1;
    }
    agree(&ours, || groups_of(&get("/api/v2/alerts/groups")), &text);
    println!(
        "{} alerts in {} groups, {inhibited} inhibited and {silenced} silenced, as Alertmanager has them",
        alerts.len(),
        ours.len()
    );
}

/// Answers one request and gives its body.
fn one_request(listener: &TcpListener) -> Value {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader
        .get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_webhook_receives_the_body_that_the_simulation_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "route: {{receiver: team.a, group_by: [alertname], group_wait: 1s}}\n\
         receivers: [{{name: team.a, webhook_configs: [{{url: 'http://{}/', max_alerts: 4}}]}}]\n",
        listener.local_addr().unwrap()
    );
    let Some(server) = started(&text) else {
        return;
    };
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || sender.send(one_request(&listener)));
    let annotations = Labels::new([("summary", "it \"hurts\"\nmuch"), ("runbook_url", "r")]);
    let alerts: Vec<Labels> = [
        [("job", "b"), ("instance", "1"), ("severity", "page")],
        [("job", "a"), ("instance", "2"), ("severity", "page")],
        [("job", "a"), ("instance", "1"), ("severity", "page")],
        [("zone", "z"), ("shard", "é\""), ("severity", "page")],
        [("zone", "y"), ("shard", ""), ("severity", "page")],
    ]
    .into_iter()
    .map(|pairs| Labels::new(pairs.into_iter().chain([("alertname", "Full {pool}")])))
    .collect();
    let object = |labels: &Labels| json!(labels.iter().collect::<BTreeMap<_, _>>());
    let body: Vec<Value> = alerts
        .iter()
        .map(|labels| json!({"labels": object(labels), "annotations": object(&annotations)}))
        .collect();
    let answer = server
        .post(
            "/api/v2/alerts",
            "application/json",
            Value::Array(body).to_string().as_bytes(),
        )
        .unwrap();
    assert!(answer.is_success(), "{}", answer.body);
    let mut theirs = received
        .recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|_| panic!("no notification: {}", server.log()));

    let posts: Vec<Post> = alerts
        .iter()
        .map(|labels| Post {
            at_ms: 0,
            labels: labels.clone(),
            annotations: annotations.clone(),
            starts_ms: None,
            ends_ms: None,
        })
        .collect();
    let routing = Routing::parse(&text).unwrap();
    let simulation = routing.simulate(&posts, &[], 1_000).unwrap();
    let url = theirs["externalURL"].as_str().unwrap().to_owned();
    let mut ours = simulation.notifications[0].webhook_body(&url);
    for body in [&mut ours, &mut theirs] {
        for alert in body["alerts"].as_array_mut().unwrap() {
            alert["startsAt"] = Value::Null;
        }
    }
    assert_eq!(ours, theirs);
    assert_eq!(ours["truncatedAlerts"], 1);
}
