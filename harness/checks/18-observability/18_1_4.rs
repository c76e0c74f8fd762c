//! 18.1.4: at most eight metrics for fifty thousand connections, and the queries that use them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::subject::{self, SocketMetrics, Sweep};
use incident::sockets::{Fleet, Setup, Truth, What, simulate};
use kit::answers::Answers;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, Registry, TextEncoder};
use promql::lint::Rule;
use promql::{Engine, Labels, Query, Storage, Value};
use telemetry::metrics::{Kind, Scrape, lint};

const SEEDS: [u64; 2] = [6, 31];
/// The most metrics, and the most series of one server.
const METRICS: usize = 8;
const SERIES: usize = 40;
/// Seconds from one scrape to the next, and from one sweep to the next.
const SCRAPE: u64 = 15;
const SWEEP: u64 = 30;
const MICROS: u64 = 1_000_000;
/// Seconds of an evening; rates are of the last minute of it.
const EVENING: u32 = 120;
const MINUTE: u64 = 60;
const MINUTE_BEFORE: u64 = EVENING as u64 - MINUTE;
/// A crowd is there from the beginning, writes and leaves: after the last scrape before that minute,
/// and before it.
const CROWD: u32 = 60;
const CROWD_LEAVES: u64 = 50;
/// Messages of each of the crowd, in each direction.
const FAREWELLS: u32 = 4;
/// In that minute, one newcomer each so many seconds comes and stays.
const NEWCOMER_EACH: u64 = 2;

const QUESTIONS: [&str; 7] = [
    "active",
    "opened_per_second",
    "closed_per_second",
    "received_per_second",
    "sent_per_second",
    "idle_over_an_hour",
    "descriptors_used",
];

#[test]
fn eight_metrics_are_enough() {
    kit::check(|| {
        let server = Server::start(&fleet(100, 1, 0), "10.0.7.11:9100");
        let scrape = server.scraped();
        let names: Vec<&str> = scrape.families.iter().map(|f| &*f.name).collect();
        assert!(
            names.len() <= METRICS,
            "a scrape has {} metrics, and somebody has to find the right one at night: {}",
            names.len(),
            names.join(", ")
        );
        if let Some(finding) = lint(&server.text()).first() {
            kit::symptom(format!(
                "the scrape is not as Prometheus wants it: {finding}"
            ));
        }
        let kinds = scrape.families.iter();
        let context = kinds.fold(promql::lint::Context::default(), |context, family| {
            context.with_kind(&family.name, family.kind)
        });
        for question in QUESTIONS {
            let findings = promql::lint(&query(question), &context);
            if let Some(finding) = findings.iter().find(|of| of.rule == Rule::RateOfGauge) {
                kit::symptom(format!(
                    "`{question}` and the type of its metric do not agree: {}",
                    finding.message
                ));
            }
        }
    });
}

#[test]
fn series_do_not_grow_with_the_connections() {
    kit::check(|| {
        let series = |connections| -> usize {
            let setup = fleet(connections, 3, 20);
            let mut server = Server::start(&setup, "10.0.7.11:9100");
            server.run_to_the_end(|_, _| {});
            server.scraped().iter().count()
        };
        let (few, many) = (series(200), series(2_000));
        assert!(
            few == many && many <= SERIES,
            "after 20 s with 200 connections a scrape has {few} series, and {many} with 2,000; \
             {SERIES} may be needed, and there will be 50,000 connections"
        );
        let all = series(50_000);
        assert!(
            all == few,
            "with 50,000 connections a scrape has {all} series, and {few} with 200"
        );
    });
}

#[test]
fn open_connections_are_counted() {
    kit::check(|| {
        let query = query("active");
        for_each_evening(&[&query], |evening| {
            let truth = evening.sum(|now| now.truth.active);
            evening.expect(&query, truth, 0.0, "connections are open on two servers");
        });
    });
}

#[test]
fn churn_is_told_in_both_directions() {
    kit::check(|| {
        let (opened, closed) = (query("opened_per_second"), query("closed_per_second"));
        for_each_evening(&[&opened, &closed], |evening| {
            evening.expect_rate(
                &opened,
                |truth| truth.opened,
                "connections a second are opened",
            );
            evening.expect_rate(
                &closed,
                |truth| truth.closed,
                "connections a second are closed",
            );
        });
    });
}

#[test]
fn messages_are_told_in_both_directions() {
    kit::check(|| {
        let (received, sent) = (query("received_per_second"), query("sent_per_second"));
        for_each_evening(&[&received, &sent], |evening| {
            evening.expect_rate(
                &received,
                |truth| truth.received,
                "messages a second come in",
            );
            evening.expect_rate(&sent, |truth| truth.sent, "messages a second go out");
        });
    });
}

#[test]
fn silent_connections_are_counted() {
    kit::check(|| {
        let query = query("idle_over_an_hour");
        for_each_evening(&[&query], |evening| {
            let truth = evening.sum(|now| now.idle);
            evening.expect(
                &query,
                truth,
                0.01,
                "connections have been silent for over an hour at the last sweep",
            );
        });
    });
}

#[test]
fn descriptors_of_the_worst_server_are_told() {
    kit::check(|| {
        let query = query("descriptors_used");
        for_each_evening(&[&query], |evening| {
            let shares = evening
                .servers
                .iter()
                .map(|now| now.descriptors as f64 / f64::from(now.max_descriptors));
            let truth = shares.fold(0.0, f64::max);
            let told: Vec<String> = (evening.servers.iter())
                .map(|now| format!("{} of {}", now.descriptors, now.max_descriptors))
                .collect();
            let what = format!("is the worst share of descriptors: {}", told.join(" and "));
            evening.expect(&query, truth, 0.01, &what);
        });
    });
}

#[test]
fn each_metric_answers_a_question() {
    kit::check(|| {
        let server = Server::start(&fleet(100, 1, 0), "10.0.7.11:9100");
        let used: BTreeSet<String> = QUESTIONS
            .iter()
            .flat_map(|question| {
                let query = query(question);
                let names = query.metric_names().into_iter();
                names.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let scrape = server.scraped();
        for family in &scrape.families {
            let named = |name: &str| used.contains(name);
            let of_histogram = matches!(family.kind, Kind::Histogram | Kind::Summary)
                && ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| named(&format!("{}{end}", family.name)));
            assert!(
                named(&family.name) || of_histogram,
                "`{}` is exposed, and none of the queries in {} asks for it",
                family.name,
                subject::QUERIES
            );
        }
        for name in &used {
            assert!(
                scrape.samples(name).next().is_some(),
                "a query in {} asks for `{name}`, which is not in a scrape",
                subject::QUERIES
            );
        }
    });
}

/// A fleet of so many connections, for so many seconds.
fn fleet(connections: u32, seed: u64, seconds: u32) -> Setup {
    Setup {
        connections,
        dead: connections / 40,
        duration: f64::from(seconds),
        ..Setup::drawn(seed)
    }
}

/// The learner's metrics, in a server.
struct Server {
    fleet: Fleet,
    /// How many of the crowd are there.
    crowd: u32,
    /// How many have come that are not of the fleet, and stay.
    newcomers: u32,
    metrics: SocketMetrics,
    registry: Registry,
    instance: &'static str,
}

impl Server {
    fn start(setup: &Setup, instance: &'static str) -> Self {
        let registry = Registry::new();
        let metrics = SocketMetrics::register(&registry)
            .unwrap_or_else(|error| kit::symptom(format!("an empty registry gives {error}")));
        let server = Server {
            fleet: simulate(setup),
            crowd: 0,
            newcomers: 0,
            metrics,
            registry,
            instance,
        };
        for connection in 0..setup.connections + setup.dead {
            server.metrics.opened(connection);
        }
        server.sweep();
        server
    }

    fn with_crowd(mut self) -> Self {
        self.crowd = CROWD;
        for nth in 0..CROWD {
            self.metrics.opened(u32::MAX - nth);
        }
        self
    }

    /// What is so on the server. The crowd is gone before any rate begins.
    fn truth(&self) -> Truth {
        let guests = u64::from(self.crowd + self.newcomers);
        let mut truth = self.fleet.truth();
        truth.active += guests;
        truth.opened += guests;
        truth.descriptors += guests;
        truth
    }

    /// So that a minute is not like the one before it, and that more come in it than go.
    fn guests(&mut self, second: u64) {
        if second == CROWD_LEAVES {
            for guest in (0..self.crowd).map(|nth| u32::MAX - nth) {
                for _ in 0..FAREWELLS {
                    self.metrics.received(guest);
                    self.metrics.sent(guest);
                }
                self.metrics.closed(guest);
            }
            self.crowd = 0;
        }
        if second > MINUTE_BEFORE && second.is_multiple_of(NEWCOMER_EACH) {
            self.metrics.opened(u32::MAX - CROWD - self.newcomers);
            self.newcomers += 1;
        }
    }

    /// Lets the fleet run to its end; `at_scrape` is called with the second of each scrape.
    fn run_to_the_end(&mut self, mut at_scrape: impl FnMut(&Self, u64)) {
        let seconds = self.fleet.setup().duration as u64;
        let mut next = 1;
        let mut due = |server: &mut Self, until: u64, next: &mut u64| {
            while *next <= seconds && *next * MICROS <= until {
                server.guests(*next);
                if next.is_multiple_of(SWEEP) {
                    server.sweep();
                }
                if next.is_multiple_of(SCRAPE) {
                    at_scrape(server, *next);
                }
                *next += 1;
            }
        };
        while let Some(event) = self.fleet.next() {
            // What was due before the event has seen the world without it.
            due(self, event.at_micros.saturating_sub(1), &mut next);
            match event.what {
                What::Opened => self.metrics.opened(event.connection),
                What::Closed => self.metrics.closed(event.connection),
                What::Received => self.metrics.received(event.connection),
                What::Sent => self.metrics.sent(event.connection),
            }
        }
        due(self, u64::MAX, &mut next);
    }

    /// Finds the connections in the order in which they were heard of last.
    fn sweep(&self) {
        let of_fleet = self.fleet.idle_seconds();
        let mut idle: Vec<Duration> = of_fleet
            .map(|(_, seconds)| Duration::from_secs_f64(seconds))
            .collect();
        let guests = self.crowd + self.newcomers;
        idle.extend((0..guests).map(|_| Duration::from_secs(1)));
        idle.sort_unstable();
        self.metrics.sweep(&Sweep {
            idle: &idle,
            open_descriptors: self.truth().descriptors,
            max_descriptors: u64::from(self.fleet.setup().max_descriptors),
        });
    }

    fn text(&self) -> String {
        text(&self.registry.gather())
    }

    fn scraped(&self) -> Scrape {
        read(&self.text())
    }

    fn scraped_for(&self, asked: &[&Asked]) -> Scrape {
        let mut families = self.registry.gather();
        families.retain(|family| {
            asked.iter().any(|asked| {
                let read = |end| asked.query.may_read(&format!("{}{end}", family.name()));
                ["", "_bucket", "_sum", "_count"].into_iter().any(read)
            })
        });
        read(&text(&families))
    }
}

fn text(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(families, &mut text)
        .unwrap_or_else(|error| kit::symptom(format!("the registry cannot be gathered: {error}")));
    String::from_utf8(text).expect("the encoder writes UTF-8")
}

fn read(text: &str) -> Scrape {
    Scrape::parse(text)
        .unwrap_or_else(|error| kit::symptom(format!("the scrape cannot be read: {error}")))
}

/// What is so on one server at the end.
struct Now {
    truth: Truth,
    /// A minute before, and at the first scrape after that.
    before: Truth,
    first_scraped: Truth,
    idle: u64,
    descriptors: u64,
    max_descriptors: u32,
}

/// Two minutes of two servers, as Prometheus has scraped them.
struct Evening {
    storage: Storage,
    servers: Vec<Now>,
    ends_ms: i64,
}

/// Evenings, for these queries: of each scrape they hold what one of them may read.
fn for_each_evening(asked: &[&Asked], mut judge: impl FnMut(&Evening)) {
    kit::seed::each(&SEEDS, |seed| {
        // Lives, gaps and limits are scaled down with the number of connections, so that a minute
        // has enough churn to be told, and that metrics with a series for each connection are told
        // soon.
        let size = |connections: u32, max_descriptors: u32, nth: u64| Setup {
            max_descriptors,
            life: 80.0,
            chatty_gap: 6.0,
            ..fleet(connections, seed.derive(nth).0, EVENING)
        };
        let setups = [size(300, 1_024, 0), size(130, 320, 1)];
        let mut storage = Storage::new();
        let mut servers = Vec::new();
        for (setup, instance) in setups.iter().zip(["10.0.7.11:9100", "10.0.7.12:9100"]) {
            kit::step(format!(
                "serving {} connections for two minutes",
                setup.connections
            ));
            let mut server = Server::start(setup, instance).with_crowd();
            let (mut before, mut first_scraped) = (Truth::default(), Truth::default());
            let mut swept = (0, 0);
            server.run_to_the_end(|server, second| {
                if second == MINUTE_BEFORE {
                    before = server.truth();
                }
                if second == MINUTE_BEFORE + SCRAPE {
                    first_scraped = server.truth();
                }
                if second.is_multiple_of(SWEEP) {
                    let idle = server.fleet.idle_longer_than(3_600.0) as u64;
                    swept = (idle, server.truth().descriptors);
                }
                // Nothing older is asked for, with an offset of a minute.
                if second + SCRAPE < MINUTE_BEFORE {
                    return;
                }
                for sample in server.scraped_for(asked).iter() {
                    let labels = (sample.labels.iter())
                        .chain([("job", "sockets"), ("instance", server.instance)])
                        .map(|(name, value)| (name.to_owned(), value.to_owned()));
                    let labels = Labels::named(&sample.name, labels);
                    let at_ms = i64::try_from(second).expect("minutes") * 1_000;
                    storage
                        .append(labels, at_ms, sample.value)
                        .expect("scrapes are in order");
                }
            });
            servers.push(Now {
                truth: server.truth(),
                before,
                first_scraped,
                idle: swept.0,
                descriptors: swept.1,
                max_descriptors: setup.max_descriptors,
            });
        }
        judge(&Evening {
            storage,
            servers,
            ends_ms: i64::from(EVENING) * 1_000,
        });
    });
}

impl Evening {
    fn sum(&self, of: impl Fn(&Now) -> u64) -> f64 {
        self.servers.iter().map(of).sum::<u64>() as f64
    }

    /// A minute of four scrapes holds three distances: a query that knows the fourth by an offset
    /// and one that takes the three for the whole minute are both right.
    fn expect_rate(&self, query: &Asked, of: impl Fn(&Truth) -> u64, what: &str) {
        let since = |then: fn(&Now) -> &Truth, seconds: u64| {
            self.sum(|now| of(&now.truth) - of(then(now))) / seconds as f64
        };
        let minute = since(|now| &now.before, MINUTE);
        let scraped = since(|now| &now.first_scraped, MINUTE - SCRAPE);
        let found = self.answer(query);
        assert!(
            [minute, scraped]
                .iter()
                .any(|truth| (found - truth).abs() <= 0.06 * truth),
            "{} {what}; `{}` says {}",
            shown(minute),
            query.question,
            shown(found)
        );
    }

    fn expect(&self, query: &Asked, truth: f64, margin: f64, what: &str) {
        let found = self.answer(query);
        assert!(
            (found - truth).abs() <= margin * truth,
            "{} {what}; `{}` says {}",
            shown(truth),
            query.question,
            shown(found)
        );
    }

    fn answer(&self, query: &Asked) -> f64 {
        let question = query.question;
        let answer = Engine::default()
            .instant(&self.storage, &query.query, self.ends_ms)
            .unwrap_or_else(|error| kit::symptom(format!("`{question}`: {error}")));
        match &answer.value {
            Value::Scalar(point) => point.value,
            Value::Vector(samples) => match samples.as_slice() {
                [one] if one.labels.is_empty() => one.value,
                samples => kit::symptom(format!(
                    "`{question}` gives {} samples, where one without labels was asked for: {}",
                    samples.len(),
                    samples
                        .iter()
                        .take(3)
                        .map(|of| of.labels.to_string())
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
            },
            other => kit::symptom(format!("`{question}` gives a {}", other.value_type())),
        }
    }
}

fn shown(value: f64) -> String {
    match value.fract() {
        0.0 => format!("{value}"),
        _ => format!("{value:.4}"),
    }
}

/// One of the learner's queries.
struct Asked {
    question: &'static str,
    query: Query,
}

impl std::ops::Deref for Asked {
    type Target = Query;

    fn deref(&self) -> &Query {
        &self.query
    }
}

fn query(question: &'static str) -> Asked {
    let file = kit::lab_dir!().join(subject::QUERIES);
    let answers = Answers::read(&file).unwrap_or_else(|error| kit::symptom(error.to_string()));
    let text = answers.text(&format!("queries.{question}"));
    let query = Query::parse(&text).unwrap_or_else(|diagnostic| {
        kit::symptom(format!(
            "`{question}` cannot be evaluated\n{}",
            diagnostic.render()
        ))
    });
    Asked { question, query }
}
