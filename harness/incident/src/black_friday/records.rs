//! What a night leaves behind: metrics as a scraper stored them, and what people and machines wrote.
//!
//! Every source keeps its own clock: Unix time in the metrics, UTC in Alertmanager and the pager,
//! New York in the chat, Frankfurt in the pipeline and at support. The sources follow one another
//! in the file, each in its own order, as exports do.

use std::fmt::Write as _;

use super::{
    AlertState, BOUNDS, DATABASE_CONNECTIONS, Detector, Minute, OTHER_CONNECTIONS, Response, Run,
    real, signed,
};
use crate::calendar::rfc3339;
use crate::chance::Chance;

/// Who writes in the events: the names that a blameless document does without.
pub const PEOPLE: [&str; 5] = [
    "Marco Vidal",
    "Ines Roth",
    "Tomasz Wolny",
    "Priya Nair",
    "Leon Haas",
];

const RELEASER: &str = PEOPLE[0];
const ON_CALL: &str = PEOPLE[1];
const DATABASE: &str = PEOPLE[2];
const MANAGER: &str = PEOPLE[3];
const SUPPORT: &str = PEOPLE[4];

/// Minutes east of UTC.
const UTC: i64 = 0;
const NEW_YORK: i64 = -5 * 60;
const FRANKFURT: i64 = 60;

/// One line of the events.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique in the file, for citing it.
    pub id: String,
    /// Unix time, in seconds.
    pub at: i64,
    /// Minutes by which the clock of the source is ahead of UTC.
    pub zone: i64,
    /// Further fields in the order of the line, `source` and `kind` first.
    pub fields: Vec<(&'static str, String)>,
}

impl Event {
    /// The text of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, text)| text.as_str())
    }
}

pub(super) fn lines(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        let _ = write!(
            text,
            "{{\"id\":{},\"time\":{}",
            quoted(&event.id),
            quoted(&rfc3339(event.at, event.zone))
        );
        for (name, value) in &event.fields {
            let _ = write!(text, ",\"{name}\":{}", quoted(value));
        }
        text.push_str("}\n");
    }
    text
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

/// Events of one source, numbered.
struct Source {
    name: &'static str,
    short: &'static str,
    zone: i64,
    lines: Vec<(i64, Vec<(&'static str, String)>)>,
}

impl Source {
    fn new(name: &'static str, short: &'static str, zone: i64) -> Self {
        Source {
            name,
            short,
            zone,
            lines: Vec::new(),
        }
    }

    fn add(&mut self, at: i64, kind: &str, fields: &[(&'static str, &str)]) {
        let mut all = vec![("source", self.name.to_owned()), ("kind", kind.to_owned())];
        all.extend(fields.iter().map(|&(name, text)| (name, text.to_owned())));
        self.lines.push((at, all));
    }

    fn finish(mut self) -> Vec<Event> {
        self.lines.sort_by_key(|(at, _)| *at);
        self.lines
            .into_iter()
            .enumerate()
            .map(|(nth, (at, fields))| Event {
                id: format!("{}-{}", self.short, nth + 1),
                at,
                zone: self.zone,
                fields,
            })
            .collect()
    }
}

pub(super) fn events(run: &Run) -> Vec<Event> {
    let mut chance = Chance::of(run.setup.seed ^ 0xE0E0);
    let begins = run.setup.begins;
    let opens = begins + 60 * signed(run.setup.sale_opens as u64 / 60);
    let ends = run.minutes.last().map_or(begins, |minute| minute.at);
    let mut alerts = Source::new("alertmanager", "am", UTC);
    let mut pager = Source::new("pager", "pg", UTC);
    let mut chat = Source::new("chat", "ch", NEW_YORK);
    let mut pipeline = Source::new("pipeline", "pl", FRANKFURT);
    let mut support = Source::new("support", "su", FRANKFURT);
    let release = format!("v{}", chance.whole(380, 440));
    let release = if run.setup.seed == super::Setup::canonical().seed {
        "v412".to_owned()
    } else {
        release
    };

    // What happens every night.
    let batch = begins + 60 * 12 + signed(chance.whole(0, 300));
    let batch_alert = [
        ("alert", "SettlementBatchLate"),
        ("severity", "page"),
        ("service", "billing"),
    ];
    alerts.add(batch, "firing", &batch_alert);
    alerts.add(batch + 1_090, "resolved", &batch_alert);
    let billing = [("service", "billing"), ("alert", "SettlementBatchLate")];
    pager.add(batch + 2, "notified", &billing);
    pager.add(
        batch + 98,
        "acknowledged",
        &[billing[0], billing[1], ("author", "billing on-call")],
    );
    pipeline.add(
        begins + 60 * 9 + 17,
        "applied",
        &[
            ("service", "search"),
            ("change", "C-4402"),
            ("text", "release v87"),
            ("author", SUPPORT),
        ],
    );
    let released = opens - 60 * 8 - signed(chance.whole(0, 40));
    pipeline.add(
        released,
        "applied",
        &[
            ("service", "payments"),
            ("change", "C-4411"),
            ("text", &format!("release {release}: receipts by e-mail")),
            ("author", RELEASER),
        ],
    );
    support.add(
        begins + 60 * 20 + 5,
        "ticket",
        &[
            ("service", "payments"),
            ("text", "my card was refused, the bank says it expired"),
            ("author", SUPPORT),
        ],
    );
    support.add(
        opens + 60 * 5 + 40,
        "ticket",
        &[
            ("service", "shop"),
            ("text", "which jackets are in the sale?"),
            ("author", SUPPORT),
        ],
    );

    // An alert that goes to a list which nobody reads at night.
    if let Some(minute) = run.minutes.iter().find(|m| m.in_use == m.max_conns) {
        let busy = [
            ("alert", "PaymentPoolBusy"),
            ("severity", "ticket"),
            ("service", "payments"),
        ];
        alerts.add(minute.at + 3, "firing", &busy);
        if let Some(idle) = run
            .minutes
            .iter()
            .find(|m| m.at > minute.at && m.in_use < m.max_conns)
        {
            alerts.add(idle.at + 3, "resolved", &busy);
        }
    }
    let slow_alert = [
        ("alert", "PaymentsSlow"),
        ("severity", "page"),
        ("service", "payments"),
    ];
    for &page in &run.pages {
        alerts.add(page, "firing", &slow_alert);
        if let Some(over) = run
            .minutes
            .iter()
            .find(|m| m.at > page && m.alert != AlertState::Firing)
        {
            alerts.add(over.at + 4, "resolved", &slow_alert);
        }
    }
    if let Some(ticket) = run.ticket {
        support.add(
            ticket,
            "ticket",
            &[
                ("service", "payments"),
                ("text", "the payment page has been spinning for ages"),
                ("author", SUPPORT),
            ],
        );
    }
    if let Some(response) = run.response {
        respond(
            run,
            &response,
            &release,
            &mut chance,
            &mut pager,
            &mut chat,
            &mut pipeline,
        );
    } else {
        chat.add(
            opens + 60 * 30,
            "message",
            &[
                ("text", "sale is open, graphs look fine"),
                ("author", ON_CALL),
            ],
        );
    }
    pipeline.add(
        ends - 60 * 11 - 13,
        "applied",
        &[
            ("service", "payments"),
            ("change", "C-4421"),
            ("text", "log level of receipts: info -> warn"),
            ("author", RELEASER),
        ],
    );
    [alerts, pager, chat, pipeline, support]
        .into_iter()
        .flat_map(Source::finish)
        .collect()
}

fn respond(
    run: &Run,
    response: &Response,
    release: &str,
    chance: &mut Chance,
    pager: &mut Source,
    chat: &mut Source,
    pipeline: &mut Source,
) {
    let &Response {
        detected,
        by,
        acknowledged,
        cause_identified,
        mitigated,
        effective,
    } = response;
    let max_conns = run.setup.pool.max_conns;
    let waiting = run
        .minutes
        .iter()
        .rfind(|m| m.at <= cause_identified)
        .map_or(0, |m| m.waiting);
    let payments = ("service", "payments");
    let reason = match by {
        Detector::Alert => "PaymentsSlow",
        Detector::User => "paged by support: payments spin",
    };
    pager.add(
        detected + 2,
        "notified",
        &[payments, ("alert", reason), ("author", "primary on-call")],
    );
    pager.add(
        acknowledged,
        "acknowledged",
        &[payments, ("alert", reason), ("author", ON_CALL)],
    );
    // The billing colleagues are up as well.
    pager.add(
        detected + 41,
        "acknowledged",
        &[
            ("service", "billing"),
            ("alert", "SettlementBatchLate"),
            ("author", "billing on-call"),
        ],
    );
    let message = |chat: &mut Source, at: i64, author: &str, text: &str| {
        chat.add(at, "message", &[("text", text), ("author", author)]);
    };
    message(
        chat,
        acknowledged + 55,
        ON_CALL,
        "on it. error rate is 0 %, but payments take seconds",
    );

    // Hypotheses that did not stand.
    let wrong = [
        (
            format!("release {release}"),
            format!("{release} is out and as many payments wait as before"),
        ),
        (
            "slow database".to_owned(),
            "a query takes 4 ms, as it did yesterday".to_owned(),
        ),
    ];
    let first = acknowledged + 100;
    let span = (cause_identified - first - 40) / signed(1 + 2 * run.setup.retractions as u64);
    for (nth, (cause, why)) in wrong.iter().take(run.setup.retractions).enumerate() {
        let nth = signed(nth as u64);
        let stated = first + span * (2 * nth + 1);
        let taken_back = first + span * (2 * nth + 2);
        chat.add(
            stated,
            "cause",
            &[payments, ("cause", cause), ("author", ON_CALL)],
        );
        if nth == 0 {
            pipeline.add(
                stated + span / 3,
                "rolled_back",
                &[payments, ("change", "C-4411"), ("author", ON_CALL)],
            );
        }
        chat.add(
            taken_back,
            "cause_retracted",
            &[
                payments,
                ("cause", cause),
                ("text", why),
                ("author", DATABASE),
            ],
        );
    }
    chat.add(
        cause_identified,
        "cause",
        &[
            payments,
            ("cause", "connection pool exhausted"),
            (
                "text",
                &format!("{max_conns} of {max_conns} connections in use, {waiting} waiting"),
            ),
            ("author", DATABASE),
        ],
    );
    if let Some((applied, rolled_back)) = run.attempt {
        let text = format!(
            "pool.max_conns {max_conns} -> {} on the fly",
            run.setup.mitigated_conns
        );
        pipeline.add(
            applied,
            "applied",
            &[
                payments,
                ("change", "C-4413"),
                ("text", &text),
                ("author", ON_CALL),
            ],
        );
        pipeline.add(
            rolled_back,
            "rolled_back",
            &[payments, ("change", "C-4413"), ("author", DATABASE)],
        );
    }
    message(
        chat,
        mitigated - 150,
        DATABASE,
        "the database has connections to spare. raise the pool, do not restart it",
    );
    let text = format!(
        "pool.max_conns {max_conns} -> {}",
        run.setup.mitigated_conns
    );
    pipeline.add(
        mitigated,
        "applied",
        &[
            payments,
            ("change", "C-4415"),
            ("text", &text),
            ("author", ON_CALL),
        ],
    );
    pipeline.add(
        mitigated + signed(chance.whole(35, 70)),
        "applied",
        &[
            ("service", "search"),
            ("change", "C-4416"),
            ("text", "release v88"),
            ("author", SUPPORT),
        ],
    );
    pipeline.add(
        effective,
        "switched",
        &[
            payments,
            ("change", "C-4415"),
            ("text", "all traffic on the new processes"),
        ],
    );
    // A second thought while the rollout is under way, taken back at once.
    if run.setup.retractions == 2 && effective - mitigated > 110 {
        pipeline.add(
            mitigated + 50,
            "applied",
            &[
                payments,
                ("change", "C-4418"),
                ("text", "flag off: gift wrap"),
                ("author", ON_CALL),
            ],
        );
        pipeline.add(
            mitigated + 95,
            "rolled_back",
            &[payments, ("change", "C-4418"), ("author", ON_CALL)],
        );
    }
    message(chat, effective + 115, ON_CALL, "p99 is back, watching");
    message(
        chat,
        effective + 1_260,
        MANAGER,
        &format!(
            "who waved {release} through before the sale? Marco? I will draft the post-mortem"
        ),
    );
    // Said again, later than it was found.
    chat.add(
        effective + 1_300,
        "cause",
        &[
            payments,
            ("cause", "connection pool exhausted"),
            ("text", "for the record"),
            ("author", ON_CALL),
        ],
    );
}

pub(super) fn metrics(run: &Run) -> String {
    let mut text = String::with_capacity(300_000);
    let minutes = &run.minutes;
    let setup = &run.setup;
    // The service has run for weeks.
    let before = 7_200_000_u64 + setup.seed % 1_000 * 321;

    family(
        &mut text,
        "payment_request_duration_seconds",
        "histogram",
        "From the request to the answer; payments that gave up waiting included.",
    );
    let mut buckets = [0_u64; BOUNDS.len() + 1];
    for (bucket, share) in buckets.iter_mut().zip([0.985, 0.0149, 0.0001]) {
        *bucket = (real(before) * share) as u64;
    }
    let mut sum = real(before) * 0.0401;
    for minute in minutes {
        if minute.restarted {
            buckets = [0; BOUNDS.len() + 1];
            sum = 0.0;
        }
        sum += minute.sum;
        let mut cumulative = 0;
        for (nth, (bucket, ended)) in buckets.iter_mut().zip(minute.buckets).enumerate() {
            *bucket += ended;
            cumulative += *bucket;
            let le = BOUNDS
                .get(nth)
                .map_or("+Inf".to_owned(), |le| format!("{le:?}"));
            let _ = writeln!(
                text,
                "payment_request_duration_seconds_bucket{{le=\"{le}\"}} {cumulative} {}",
                minute.at
            );
        }
        let _ = writeln!(
            text,
            "payment_request_duration_seconds_sum {sum:.3} {}\n\
             payment_request_duration_seconds_count {cumulative} {}",
            minute.at, minute.at
        );
    }

    family(
        &mut text,
        "payment_requests",
        "counter",
        "Answered payments by outcome.",
    );
    for (outcome, start) in [("ok", before - 2), ("timeout", 2)] {
        let mut total = start;
        for minute in minutes {
            let ended = match outcome {
                "ok" => minute.payments() - minute.timeouts,
                _ => minute.timeouts,
            };
            total = ended + if minute.restarted { 0 } else { total };
            let _ = writeln!(
                text,
                "payment_requests_total{{outcome=\"{outcome}\"}} {total} {}",
                minute.at
            );
        }
    }

    let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Minute) -> String| {
        family(&mut text, name, "gauge", help);
        for minute in minutes {
            let _ = writeln!(text, "{name} {} {}", of(minute), minute.at);
        }
    };
    gauge(
        "payment_pool_connections_max",
        "How many connections the pool may open.",
        &|m| m.max_conns.to_string(),
    );
    gauge(
        "payment_pool_connections_in_use",
        "Connections that a payment holds.",
        &|m| m.in_use.to_string(),
    );
    gauge(
        "payment_pool_waiting",
        "Payments that wait for a connection.",
        &|m| m.waiting.to_string(),
    );
    gauge(
        "payment_pool_acquire_timeout_seconds",
        "How long a payment waits for a connection before it gives up.",
        &|_| setup.pool.acquire_timeout.to_string(),
    );
    gauge(
        "payment_breaker_open",
        "1 while the breaker before the database is open; it counts payments that gave up.",
        &|_| "0".to_owned(),
    );
    gauge(
        "db_connections_max",
        "How many connections the database takes.",
        &|_| DATABASE_CONNECTIONS.to_string(),
    );
    gauge(
        "db_connections_of_others",
        "Connections that other services hold.",
        &|_| OTHER_CONNECTIONS.to_string(),
    );
    gauge(
        "db_query_mean_seconds",
        "Mean time of a query of the payment service within the last minute.",
        &|m| format!("{:.4}", 0.0040 + real(m.payments() % 7) * 0.00003),
    );
    gauge(
        "db_cpu_ratio",
        "Processors of the database that are busy.",
        &|m| format!("{:.3}", 0.08 + real(m.payments()) / 60.0 * 0.0022),
    );
    gauge(
        "shop_sessions_active",
        "Sessions in the shop, paying or not.",
        &|m| m.sessions_active.to_string(),
    );
    family(
        &mut text,
        "ALERTS",
        "gauge",
        "Alerts of the payment service.",
    );
    for (state, word) in [
        (AlertState::Pending, "pending"),
        (AlertState::Firing, "firing"),
    ] {
        for minute in minutes.iter().filter(|m| m.alert == state) {
            let _ = writeln!(
                text,
                "ALERTS{{alertname=\"PaymentsSlow\",alertstate=\"{word}\"}} 1 {}",
                minute.at
            );
        }
    }
    let mut counter = |name: &str, help: &str, start: u64, of: &dyn Fn(&Minute) -> u64| {
        family(&mut text, name, "counter", help);
        let mut total = start;
        for minute in minutes {
            total += of(minute);
            let _ = writeln!(text, "{name}_total {total} {}", minute.at);
        }
    };
    counter(
        "shop_sessions",
        "Sessions, counted at their first request by the edge.",
        before / 3,
        &|m| m.sessions,
    );
    counter(
        "shop_sessions_slow",
        "Sessions that met a payment over 0.5 s, counted once, at the first, by the edge.",
        before / 9_000,
        &|m| m.sessions_slow,
    );
    text.push_str("# EOF\n");
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
}
