//! 18.7.2: rules that wait, and routes that tell the right people once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::subject::{ROUTES, RULES};
use backends::{Alertmanager, Configuration, Prometheus, Source, Tool, Unavailable};
use drill::Clock;
use drill::alerts::{Alerting, Drill, Scenario, Span, Wanted, named};
use drill::submission::Submission;
use drill::worker_pools::{Hour, SATURATES_AFTER, about, scenario};
use kit::seed::Seed;
use promql::duration::format_duration;
use promql::rules::{AlertState, Episode, Rule, RuleFile};
use promql::{Dialect, Labels, Storage};
use serde_json::{Value, json};

const SEEDS: [u64; 2] = [27, 640];
const MINUTE: i64 = 60_000;

const SEVERITIES: [&str; 2] = ["critical", "warning"];
const RUNBOOK: &str = "runbook_url";
/// Where the brief wants messages to go, and the receivers of that name.
const ADDRESS: &str = "127.0.0.1:9095";
const RECEIVERS: [&str; 2] = ["tickets", "pager"];

fn submission() -> Submission {
    Submission::of(kit::lab_dir!())
}

/// The learner's rules and routes.
fn alerting() -> Alerting {
    kit::step("reading the learner's files");
    let routing = kit::or_symptom(submission().routes(ROUTES));
    kit::or_symptom(submission().alerts(RULES)).routed(routing)
}

fn played(alerting: &Alerting, scenario: &Scenario) -> Drill {
    let drill = alerting.play(&scenario.storage, scenario.within);
    kit::or_symptom(drill.map_err(|error| format!("{}: {error}", scenario.title)))
}

/// Plays an hour: what is due has to fire in time, and nothing else.
fn judged(alerting: &Alerting, hour: Hour, seed: Seed) -> (Scenario, Drill) {
    kit::step(format!("playing {hour:?}"));
    let scenario = scenario(hour, seed.0);
    let drill = played(alerting, &scenario);
    if let Some(complaint) = scenario.complaint(&drill) {
        kit::symptom(complaint);
    }
    (scenario, drill)
}

/// The receiver has to be told of a wanted alert within some minutes of the scenario's origin.
fn demand_told(
    scenario: &Scenario,
    drill: &Drill,
    receiver: &str,
    wanted: &Wanted,
    (from_ms, minutes): (i64, i64),
) {
    let within = Span::new(from_ms, from_ms + minutes * MINUTE);
    if drill.told(receiver, wanted, within).is_none() {
        kit::symptom(format!(
            "{}: `{receiver}` gets no message about {wanted} within {minutes} minutes\n{}",
            scenario.title,
            scenario.timeline(drill)
        ));
    }
}

/// Nobody but the receiver may be told of a wanted alert.
fn demand_told_to_nobody_else(scenario: &Scenario, drill: &Drill, receiver: &str, wanted: &Wanted) {
    for sent in drill.notifications() {
        if sent.receiver != receiver && sent.firing.iter().any(|of| wanted.matches(&of.labels)) {
            kit::symptom(format!(
                "{}: `{}` gets a message about {wanted}, which is for `{receiver}`\n{}",
                scenario.title,
                sent.receiver,
                scenario.timeline(drill)
            ));
        }
    }
}

fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && !text.contains(|c: char| c.is_whitespace() || "<>{}\"".contains(c))
    })
}

#[test]
fn every_alert_brings_its_runbook() {
    kit::check(|| {
        let alerting = alerting();
        for rule in alerting.rules().alerting() {
            let severity = rule.labels().iter().find(|(label, _)| label == "severity");
            let severity = severity.map(|(_, template)| template.to_string());
            let known = severity
                .as_deref()
                .is_some_and(|of| SEVERITIES.contains(&of));
            assert!(
                known,
                "alert {}: its label `severity` is {}, which is none of {}",
                rule.name(),
                severity.map_or("not there".to_owned(), |of| format!("\"{of}\"")),
                SEVERITIES.join(", ")
            );
            assert!(
                rule.annotation(RUNBOOK).is_some(),
                "alert {} has no annotation `{RUNBOOK}`: who gets it at night has to search",
                rule.name()
            );
        }
        for hour in [Hour::Saturated, Hour::Slow] {
            let scenario = scenario(hour, SEEDS[0]);
            for episode in played(&alerting, &scenario).fired(&Wanted::any()) {
                let annotations = episode.annotations();
                let link = annotations.value(RUNBOOK);
                assert!(
                    is_url(link),
                    "{}: the runbook is \"{link}\", which nobody can open",
                    named(episode.labels())
                );
            }
        }
    });
}

#[test]
fn spikes_are_silent() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&SEEDS, |seed| {
            for hour in [
                Hour::Quiet,
                Hour::Spike,
                Hour::TwoSpikes,
                Hour::Busy,
                Hour::SlowBriefly,
                Hour::OneSlow,
            ] {
                judged(&alerting, hour, seed);
            }
        });
    });
}

#[test]
fn sustained_saturation_becomes_a_ticket() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&SEEDS, |seed| {
            for hour in [Hour::Saturated, Hour::OneSaturated] {
                let (scenario, drill) = judged(&alerting, hour, seed);
                let warning = about("mail", "warning");
                let in_time = (scenario.origin_ms, 7);
                demand_told(&scenario, &drill, "tickets", &warning, in_time);
                demand_told_to_nobody_else(&scenario, &drill, "tickets", &warning);
            }
        });
    });
}

#[test]
fn sustained_latency_wakes_somebody() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&SEEDS, |seed| {
            let (scenario, drill) = judged(&alerting, Hour::Slow, seed);
            let critical = about("mail", "critical");
            demand_told(
                &scenario,
                &drill,
                "pager",
                &critical,
                (scenario.origin_ms, 13),
            );
            demand_told_to_nobody_else(&scenario, &drill, "pager", &critical);
        });
    });
}

#[test]
fn one_message_tells_of_all_instances() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&SEEDS, |seed| {
            for hour in [Hour::Saturated, Hour::BothSaturated] {
                let (scenario, drill) = judged(&alerting, hour, seed);
                for job in drill::worker_pools::JOBS {
                    let of_job: Vec<_> = drill
                        .notifications()
                        .iter()
                        .filter(|sent| sent.receiver == "tickets")
                        .filter(|sent| sent.firing.iter().any(|of| of.labels.value("job") == job))
                        .collect();
                    // The instances do not all fire at one and the same moment.
                    assert!(
                        of_job.len() <= 2,
                        "{}: `tickets` gets {} messages about the queues of {job}\n{}",
                        scenario.title,
                        of_job.len(),
                        scenario.timeline(&drill)
                    );
                    let mixed = of_job
                        .iter()
                        .find(|sent| sent.firing.iter().any(|of| of.labels.value("job") != job));
                    assert!(
                        mixed.is_none(),
                        "{}: one message to `tickets` is about {job} and another service\n{}",
                        scenario.title,
                        scenario.timeline(&drill)
                    );
                }
                let mail = about("mail", "warning");
                demand_told(&scenario, &drill, "tickets", &mail, (scenario.origin_ms, 7));
            }
        });
    });
}

#[test]
fn a_page_mutes_the_tickets_of_its_service() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&SEEDS, |seed| {
            let (scenario, drill) = judged(&alerting, Hour::SlowThenBothSaturated, seed);
            let later_ms = scenario.origin_ms + SATURATES_AFTER * 1_000;
            let critical = about("mail", "critical");
            demand_told(
                &scenario,
                &drill,
                "pager",
                &critical,
                (scenario.origin_ms, 13),
            );
            let others = about("thumbnails", "warning");
            demand_told(&scenario, &drill, "tickets", &others, (later_ms, 7));
            let own = about("mail", "warning");
            let while_slow = Span::new(later_ms, scenario.origin_ms + 25 * MINUTE);
            for receiver in RECEIVERS {
                if let Some((sent, _)) = drill.told(receiver, &own, while_slow) {
                    kit::symptom(format!(
                        "{}: at {} `{receiver}` is told of {own}, and `pager` knows of mail since \
                         before\n{}",
                        scenario.title,
                        Clock::from(scenario.origin_ms).time(sent.at_ms),
                        scenario.timeline(&drill)
                    ));
                }
            }
        });
    });
}

#[test]
fn prometheus_and_alertmanager_agree() {
    kit::check_within(Duration::from_secs(25), || {
        let alerting = alerting();
        kit::seed::each(&SEEDS[..1], |seed| {
            let scenario = scenario(Hour::SlowThenBothSaturated, seed.0);
            prometheus_loads(&alerting);
            promtool_agrees(&alerting, &scenario);
            alertmanager_agrees(&alerting, &played(&alerting, &scenario), &scenario);
        });
    });
}

/// The server, or the end of the check.
fn had<S>(server: &str, started: Result<S, Unavailable>) -> S {
    started.unwrap_or_else(|missing| {
        // What is there and does not start has read what it does not like.
        if missing.required() {
            kit::symptom(format!("could not {missing}"));
        }
        kit::not_run(
            format!("there is no {server}"),
            format!("could not {missing}"),
        )
    })
}

/// A Prometheus takes the rules as they are.
fn prometheus_loads(alerting: &Alerting) {
    kit::step("starting Prometheus with the rules");
    let main = format!("global: {{evaluation_interval: 15s}}\nrule_files: [{RULES}]\n");
    let configuration =
        Configuration::new(main).file(RULES, kit::or_symptom(submission().text(RULES)));
    let prometheus = had("Prometheus", Prometheus::start(configuration));
    if prometheus.source() == Source::Address {
        return;
    }
    let answer = prometheus
        .get("/api/v1/rules?type=alert")
        .unwrap_or_else(|error| kit::symptom(format!("Prometheus does not answer: {error}")));
    let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let groups = told["data"]["groups"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut theirs: Vec<(String, f64)> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
        .map(|rule| {
            let name = rule["name"].as_str().unwrap_or_default().to_owned();
            (name, rule["duration"].as_f64().unwrap_or(-1.0))
        })
        .collect();
    let mut ours: Vec<(String, f64)> = alerting
        .rules()
        .alerting()
        .map(|rule| (rule.name().to_owned(), rule.hold().as_secs_f64()))
        .collect();
    theirs.sort_by(|a, b| a.partial_cmp(b).expect("durations are numbers"));
    ours.sort_by(|a, b| a.partial_cmp(b).expect("durations are numbers"));
    assert!(
        theirs == ours,
        "Prometheus has loaded the alerts {theirs:?}, and {RULES} has {ours:?}"
    );
}

/// The samples of `mail` on a grid from 0 on: promtool takes no others, and not many.
fn on_a_grid(scenario: &Scenario, step_ms: i64) -> (Storage, Vec<Value>, i64) {
    let (from_ms, to_ms) = (
        scenario.origin_ms - 5 * MINUTE,
        scenario.origin_ms + 25 * MINUTE,
    );
    let mut storage = Storage::new();
    let mut input = Vec::new();
    for series in scenario.storage.series() {
        if series.labels().value("job") != "mail" {
            continue;
        }
        let mut values = Vec::new();
        for at_ms in (from_ms..=to_ms).step_by(usize::try_from(step_ms).expect("positive")) {
            let after = series.times_ms().partition_point(|&held| held <= at_ms);
            let value = series.values()[after.saturating_sub(1)];
            storage
                .append(series.labels().clone(), at_ms - from_ms, value)
                .expect("the grid is in order");
            values.push(value.to_string());
        }
        input.push(json!({"series": series.labels().to_string(), "values": values.join(" ")}));
    }
    (storage, input, to_ms - from_ms)
}

fn object(labels: &Labels) -> Value {
    labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The rules without annotations, in which a last digit may differ from one evaluation to the next
/// as sums of floats do, and without intervals of groups, which promtool does not know.
fn as_promtool_can_test(alerting: &Alerting) -> String {
    let labels = |pairs: Vec<(String, String)>| -> Value {
        pairs
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let rule = |rule: &Rule| match rule {
        Rule::Recording(of) => json!({
            "record": of.name(),
            "expr": of.query().text(),
            "labels": labels(of.labels().to_vec()),
        }),
        Rule::Alerting(of) => json!({
            "alert": of.name(),
            "expr": of.query().text(),
            "for": format_duration(of.hold()),
            "keep_firing_for": format_duration(of.keep_firing()),
            "labels": labels(
                of.labels()
                    .iter()
                    .map(|(name, template)| (name.clone(), template.to_string()))
                    .collect(),
            ),
        }),
    };
    let groups: Vec<Value> = alerting
        .rules()
        .groups()
        .iter()
        .map(|group| {
            let rules: Vec<Value> = group.rules().iter().map(rule).collect();
            json!({"name": group.name(), "limit": group.limit(), "rules": rules})
        })
        .collect();
    json!({ "groups": groups }).to_string()
}

/// Prometheus's own evaluation in virtual time says the same as the drill, minute by minute.
fn promtool_agrees(alerting: &Alerting, scenario: &Scenario) {
    kit::step("asking promtool");
    let Some(program) = Tool::Promtool.locate() else {
        kit::not_run("there is no promtool", "install the package prometheus");
    };
    let rules = as_promtool_can_test(alerting);
    let alerting = RuleFile::parse_as(&rules, dialect_of(&program))
        .map(Alerting::of)
        .unwrap_or_else(|error| kit::symptom(format!("could not read {RULES}: {error}")));
    let (storage, input, end_ms) = on_a_grid(scenario, 15_000);
    let drill = kit::or_symptom(alerting.drill(storage, Span::new(0, end_ms)));
    let names: BTreeSet<&str> = alerting
        .rules()
        .alerting()
        .map(|rule| rule.name())
        .collect();
    let mut tests = Vec::new();
    for name in names {
        for at_ms in (0..=end_ms).step_by(60_000) {
            let firing: Vec<Value> = drill
                .episodes()
                .iter()
                .filter(|of| of.alert() == name)
                .filter(|of| of.state_at(at_ms) == Some(AlertState::Firing))
                .map(|of| json!({"exp_labels": object(&of.labels().without(&["alertname"]))}))
                .collect();
            tests.push(json!({
                "eval_time": format!("{}s", at_ms / 1_000),
                "alertname": name,
                "exp_alerts": firing,
            }));
        }
    }
    let groups: Vec<&str> = alerting
        .rules()
        .groups()
        .iter()
        .map(|of| of.name())
        .collect();
    let test = json!({
        "rule_files": [RULES],
        "evaluation_interval": "15s",
        "group_eval_order": groups,
        "tests": [{"interval": "15s", "input_series": input, "alert_rule_test": tests}],
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a temporary file");
    };
    write(RULES, &rules);
    // JSON is YAML.
    write("test.yml", &test.to_string());
    let (success, output) = ran(&program, &["test", "rules", "test.yml"], folder.path());
    assert!(
        success,
        "promtool evaluates {RULES} differently from the drill:\n{output}"
    );
}

/// Windows of version 3 are open on the left, and on a grid every window begins at a sample.
fn dialect_of(promtool: &Path) -> Dialect {
    let (_, said) = ran(promtool, &["--version"], Path::new("."));
    if said.contains("version 2.") {
        Dialect::V2
    } else {
        Dialect::V3
    }
}

fn ran(program: &Path, arguments: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| kit::symptom(format!("could not start promtool: {error}")));
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), text.chars().take(2_000).collect())
}

/// A message that a webhook received: the path, and the labels of its alerts that fire.
type Message = (String, BTreeMap<Labels, Labels>);

/// Receives webhooks until the process ends.
fn webhook() -> (String, Receiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                if let Some(message) = received(stream) {
                    let _ = sender.send(message);
                }
            });
        }
    });
    (address, receiver)
}

/// Reads one request and answers it.
fn received(stream: TcpStream) -> Option<Message> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let alerts = body["alerts"].as_array()?;
    let firing = alerts.iter().filter(|alert| alert["status"] == "firing");
    let told = firing
        .map(|alert| {
            (
                labels_of(&alert["labels"]),
                labels_of(&alert["annotations"]),
            )
        })
        .collect();
    Some((path, told))
}

fn labels_of(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    Labels::new(pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned())))
}

/// A running Alertmanager sends what the drill says that it sends. The alerts of a moment of the
/// drill are posted as having begun long ago, so that no group waits.
fn alertmanager_agrees(alerting: &Alerting, drill: &Drill, scenario: &Scenario) {
    let text = kit::or_symptom(submission().text(ROUTES));
    assert!(
        text.contains(ADDRESS),
        "{ROUTES} sends nothing to {ADDRESS}"
    );
    kit::step("starting Alertmanager with the routes");
    let (address, messages) = webhook();
    let started = Alertmanager::start(text.replace(ADDRESS, &address));
    let alertmanager = had("Alertmanager", started);
    if alertmanager.source() == Source::Address {
        kit::not_run(
            "the Alertmanager of the environment keeps its own routes",
            "take its address out of the environment",
        );
    }
    let at_ms = scenario.origin_ms + SATURATES_AFTER * 1_000 + 8 * MINUTE;
    let fires = |wanted: &Wanted| -> Vec<&Episode> {
        drill
            .fired(wanted)
            .into_iter()
            .filter(|of| of.state_at(at_ms) == Some(AlertState::Firing))
            .collect()
    };
    let pages = fires(&Wanted::any().with("severity", "critical"));
    let tickets = fires(&Wanted::any().with("severity", "warning"));
    let others = about("thumbnails", "warning");
    if pages.is_empty() || !tickets.iter().any(|of| others.matches(of.labels())) {
        kit::symptom(format!(
            "{}: not both services are told of\n{}",
            scenario.title,
            scenario.timeline(drill)
        ));
    }

    let routing = alerting.routing().expect("the routes were read");
    for (alerts, receiver) in [(&pages, "pager"), (&tickets, "tickets")] {
        for of in alerts {
            let reached = routing.receivers_for(of.labels());
            assert!(
                reached == [receiver],
                "{} goes to {}, and should go to {receiver}",
                named(of.labels()),
                reached.join(", ")
            );
        }
    }

    let open: Vec<&Episode> = tickets
        .iter()
        .copied()
        .filter(|of| others.matches(of.labels()))
        .collect();
    // Alertmanager would send nothing, and waiting for nothing takes long.
    for (ticket, page) in open
        .iter()
        .flat_map(|of| pages.iter().map(move |by| (of, by)))
    {
        let rules = routing.inhibit_rules();
        assert!(
            !rules
                .iter()
                .any(|rule| rule.inhibits(page.labels(), ticket.labels())),
            "{} keeps back {}",
            named(page.labels()),
            named(ticket.labels())
        );
    }

    kit::step("posting a page to Alertmanager");
    post(&alertmanager, &pages);
    await_message(&messages, "/pager", &pages);
    kit::step("posting tickets to Alertmanager");
    post(&alertmanager, &tickets);
    await_message(&messages, "/tickets", &open);

    let answer = alertmanager
        .get("/api/v2/alerts")
        .unwrap_or_else(|error| kit::symptom(format!("Alertmanager does not answer: {error}")));
    let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let all: Vec<&Labels> = pages.iter().chain(&tickets).map(|of| of.labels()).collect();
    for alert in told.as_array().into_iter().flatten() {
        let labels = labels_of(&alert["labels"]);
        let is_kept_back = alert["status"]["inhibitedBy"]
            .as_array()
            .is_some_and(|by| !by.is_empty());
        let rules = routing.inhibit_rules();
        let should = rules
            .iter()
            .any(|rule| all.iter().any(|source| rule.inhibits(source, &labels)));
        assert!(
            is_kept_back == should,
            "Alertmanager {} {}, and the drill does not",
            if is_kept_back {
                "keeps back"
            } else {
                "tells of"
            },
            named(&labels)
        );
    }
}

fn post(alertmanager: &Alertmanager, alerts: &[&Episode]) {
    let body: Vec<Value> = alerts
        .iter()
        .map(|of| {
            json!({
                "labels": object(of.labels()),
                "annotations": object(&of.annotations()),
                "startsAt": "2025-01-01T00:00:00Z",
                "endsAt": "2100-01-01T00:00:00Z",
            })
        })
        .collect();
    let body = Value::Array(body).to_string();
    match alertmanager.post("/api/v2/alerts", "application/json", body.as_bytes()) {
        Ok(answer) if answer.is_success() => {}
        Ok(answer) => kit::symptom(format!("Alertmanager refuses the alerts: {}", answer.body)),
        Err(error) => kit::symptom(format!("Alertmanager does not answer: {error}")),
    }
}

/// Waits until messages have come to a path about all of these alerts, each with its runbook.
fn await_message(messages: &Receiver<Message>, path: &str, alerts: &[&Episode]) {
    let mut missing: BTreeSet<&Labels> = alerts.iter().map(|of| of.labels()).collect();
    while let Some(&first) = missing.first() {
        let Ok((came_to, told)) = messages.recv_timeout(Duration::from_secs(8)) else {
            kit::symptom(format!(
                "Alertmanager sends no message to {path} about {}",
                named(first)
            ));
        };
        for (labels, annotations) in told {
            let is_meant = alerts.iter().any(|of| *of.labels() == labels);
            assert!(
                !is_meant || came_to == path,
                "Alertmanager tells {came_to} of {}",
                named(&labels)
            );
            assert!(
                is_url(annotations.value(RUNBOOK)),
                "the message to {came_to} about {} has no runbook",
                named(&labels)
            );
            missing.remove(&labels);
        }
    }
}
