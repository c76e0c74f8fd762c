//! A payment service on the night of a sale: a pool of database connections, those who watch over
//! it, and the records that both leave behind.
//!
//! Users pay, think for a while, and pay again: a closed loop, so that a slow service slows its own
//! traffic. Each payment holds one connection of the pool for a moment; whoever finds none free
//! waits in one queue. In the sale there are several times as many users, and a payment holds its
//! connection longer, because baskets are larger. The state advances in ticks of a tenth of a
//! second. By the response-time law a queue that has settled holds `users - capacity * think time`
//! payments, each of which waits `queue / capacity` seconds (Lazowska and others, "Quantitative
//! System Performance", 1984, chapter 3).
//!
//! Around the service there are an alert with a `for`, a page, a person who acknowledges, finds the
//! cause and changes the pool, and a rollout that takes its time. A change to any of these is a
//! [`Lever`], and the night can be replayed with it. Not for judging a post-mortem: this module
//! knows what happened, and a checker decides what a document is worth.

mod records;

use std::collections::VecDeque;

use crate::chance::Chance;

pub use records::{Event, PEOPLE};

/// A payment that takes longer than this many seconds is slow.
pub const OBJECTIVE_SECONDS: f64 = 0.5;
/// A minute breaks the objective when a larger share of its payments than this was slow or refused.
pub const TOLERATED_SHARE: f64 = 0.01;
/// Fewer breaking minutes than this in a row are a blip, and no incident.
pub const SHORTEST_INCIDENT_MINUTES: usize = 3;
/// As many good minutes in a row end an incident; fewer belong to it.
pub const QUIET_MINUTES: usize = 5;
/// The upper bounds of the histogram of payments, in seconds, without `+Inf`.
pub const BOUNDS: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Connections that the database accepts, and those that other services hold.
pub const DATABASE_CONNECTIONS: u32 = 100;
/// Connections that other services hold.
pub const OTHER_CONNECTIONS: u32 = 40;

const TICK: f64 = 0.1;
const TICKS_A_MINUTE: usize = 600;
/// 2025-11-28 02:30 in New York, the day after the fourth Thursday of November.
const BEGINS: i64 = 1_764_315_000;

/// What kind of night it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Night {
    /// The pool is too small for the sale, and an alert or a user says so.
    Paged,
    /// The pool is a little too small: slow, and never slow enough for the alert.
    ReportedByUsers,
    /// As [`Night::Paged`], and the first mitigation is rolled back after a few good minutes.
    Relapse,
    /// Two short stalls of the database in an ordinary sale: nobody needs to know.
    Blip,
    /// A sale that the pool carries.
    Quiet,
}

impl Night {
    /// Every kind, healthy ones included.
    pub const ALL: [Night; 5] = [
        Night::Paged,
        Night::ReportedByUsers,
        Night::Relapse,
        Night::Blip,
        Night::Quiet,
    ];

    /// Whether there is an incident to report.
    pub fn is_incident(self) -> bool {
        matches!(self, Night::Paged | Night::ReportedByUsers | Night::Relapse)
    }
}

/// The connection pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    pub max_conns: u32,
    /// Seconds after which a payment gives up waiting for a connection.
    pub acquire_timeout: f64,
    /// How many payments may wait; those beyond are refused at once.
    pub max_waiting: Option<u32>,
    /// A breaker on latency: payments are refused while the oldest waits longer than this many
    /// seconds.
    pub breaker_opens_at: Option<f64>,
}

/// The alert that pages: more than 1 % of the payments of the window took longer than
/// `above_seconds`, for as long as `for_minutes`. Evaluated once a minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alert {
    pub for_minutes: u32,
    /// One of [`BOUNDS`].
    pub above_seconds: f64,
    pub window_minutes: usize,
}

/// How long people take, in seconds, each from the step before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct People {
    /// From the first minute that breaks the objective to the first complaint.
    pub complain: i64,
    pub acknowledge: i64,
    pub diagnose: i64,
    pub mitigate: i64,
    /// From the change to the moment at which all traffic meets it.
    pub rollout: i64,
}

/// A night, before it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub night: Night,
    pub seed: u64,
    /// Unix time, in seconds; a whole minute.
    pub begins: i64,
    pub minutes: usize,
    /// Users who pay, before the sale.
    pub payers: f64,
    /// Their share of all users; the others look around and are served from caches.
    pub payer_share: f64,
    /// Seconds between an answer and the next payment of the same user.
    pub think: f64,
    /// Mean length of a session, in seconds.
    pub session: f64,
    /// Seconds from the beginning to the opening of the sale.
    pub sale_opens: f64,
    /// Seconds until all have come.
    pub ramp: f64,
    /// Users in the sale over users before it.
    pub factor: f64,
    /// Seconds for which a payment holds its connection, before and in the sale.
    pub hold_quiet: f64,
    pub hold_sale: f64,
    pub pool: Pool,
    /// The pool after mitigation.
    pub mitigated_conns: u32,
    pub alert: Alert,
    pub people: People,
    /// When the database stalls for [`Setup::stall`] seconds, in seconds from the beginning.
    pub stalls: Vec<f64>,
    pub stall: f64,
    /// Hypotheses that are published and taken back before the right one.
    pub retractions: usize,
}

impl Setup {
    /// The night of the brief.
    pub fn canonical() -> Self {
        Setup {
            night: Night::Paged,
            seed: 2_025,
            begins: BEGINS,
            minutes: 120,
            payers: 838.3,
            payer_share: 0.353,
            think: 60.0,
            session: 600.0,
            sale_opens: 43.0 * 60.0 + 25.0,
            ramp: 90.0,
            factor: 8.0,
            hold_quiet: 0.04,
            hold_sale: 0.1,
            pool: Pool {
                max_conns: 10,
                acquire_timeout: 10.0,
                max_waiting: None,
                breaker_opens_at: None,
            },
            mitigated_conns: 50,
            alert: Alert {
                for_minutes: 5,
                above_seconds: 5.0,
                window_minutes: 5,
            },
            people: People {
                complain: 9 * 60 + 20,
                acknowledge: 3 * 60 + 7,
                diagnose: 15 * 60 + 11,
                mitigate: 11 * 60 + 40,
                rollout: 6 * 60 + 34,
            },
            stalls: Vec::new(),
            stall: 0.0,
            retractions: 1,
        }
    }

    /// A night of this kind, its numbers drawn from `seed`.
    ///
    /// Of a pool that is too small the settled wait lies between 6.3 and 8.6 s (the alert asks for
    /// 5 s, a payment gives up after 10 s), or between 1.5 and 3.5 s where no alert is to fire.
    /// Pools that are large enough are used to 60 percent at most.
    pub fn drawn(night: Night, seed: u64) -> Self {
        let mut chance = Chance::of(seed ^ 0xB1AC_F41D);
        let canonical = Setup::canonical();
        let max_conns = *chance.pick(&[8_u32, 10, 12, 14]);
        let hold_sale = chance.between(0.085, 0.115);
        let think = chance.between(50.0, 70.0);
        let capacity = f64::from(max_conns) / hold_sale;
        let wait = match night {
            Night::ReportedByUsers => chance.between(1.5, 3.5),
            _ => chance.between(6.3, 8.6),
        };
        let in_sale = match night {
            Night::Quiet | Night::Blip => capacity * think * chance.between(0.45, 0.6),
            _ => capacity * (think + wait),
        };
        let factor = match night {
            Night::Quiet | Night::Blip => chance.between(2.5, 4.0),
            _ => chance.between(6.0, 10.0),
        };
        let opens_at = chance.whole(38, 52);
        #[expect(clippy::cast_precision_loss, reason = "minutes of a night")]
        let sale_opens = opens_at as f64 * 60.0 + chance.between(0.0, 50.0);
        let mut people = People {
            complain: 60 * signed(chance.whole(10, 14)) + signed(chance.whole(5, 50)),
            acknowledge: signed(chance.whole(65, 280)),
            diagnose: signed(chance.whole(8 * 60, 17 * 60)),
            mitigate: signed(chance.whole(8 * 60, 14 * 60)),
            rollout: signed(chance.whole(2 * 60, 8 * 60)),
        };
        // In a third of the nights a user is faster than the alert.
        if night == Night::ReportedByUsers || chance.happens(0.33) {
            people.complain = signed(chance.whole(130, 290));
        }
        // Two stalls in neighboring minutes: a blip, whenever they come.
        let stalled_at = match night {
            Night::Blip => Some(sale_opens + 60.0 * chance.between(12.0, 30.0)),
            Night::Quiet => None,
            _ => chance
                .happens(0.5)
                .then(|| 60.0 * chance.between(14.0, 24.0)),
        };
        let stalls = stalled_at.map_or(Vec::new(), |at| {
            let at = (at / 60.0).floor() * 60.0;
            vec![at + 20.0, at + 80.0]
        });
        Setup {
            night,
            seed,
            begins: BEGINS + 3_600 * signed(chance.whole(0, 700)),
            payers: in_sale / factor,
            payer_share: chance.between(0.2, 0.45),
            think,
            session: chance.between(480.0, 780.0),
            sale_opens,
            ramp: chance.between(40.0, 100.0),
            factor,
            hold_quiet: chance.between(0.03, 0.042),
            hold_sale,
            pool: Pool {
                max_conns,
                ..canonical.pool
            },
            mitigated_conns: max_conns * u32::try_from(chance.whole(3, 4)).expect("small"),
            alert: Alert {
                for_minutes: u32::try_from(chance.whole(3, 6)).expect("small"),
                ..canonical.alert
            },
            people,
            stalls,
            stall: chance.between(2.6, 3.2),
            retractions: usize::try_from(chance.whole(0, 2)).expect("small"),
            ..canonical
        }
    }

    /// The same night with one thing changed, everything else as it was: what people do takes them
    /// as long as it took.
    ///
    /// # Errors
    /// When the value is none that the thing can have, with a fragment that says why.
    pub fn with(&self, lever: Lever, value: f64) -> Result<Setup, String> {
        let mut setup = self.clone();
        // Written out, the largest numbers have three hundred digits.
        let shown = if value.abs() < 1e9 {
            value.to_string()
        } else {
            format!("{value:e}")
        };
        let whole = |low: u32, high: u32| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "only used within the range"
            )]
            let number = value as u32;
            if value.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(&value) {
                Ok(number)
            } else {
                Err(format!(
                    "{shown} is not a whole number from {low} to {high}"
                ))
            }
        };
        let within = |low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(value)
            } else {
                Err(format!("{shown} does not lie between {low} and {high}"))
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "minutes of a night")]
        let seconds = |minutes: f64| (minutes * 60.0) as i64;
        match lever {
            Lever::PoolMaxConns => {
                setup.pool.max_conns = whole(1, 1_000)?;
                let free = DATABASE_CONNECTIONS - OTHER_CONNECTIONS;
                if setup.pool.max_conns > free {
                    return Err(format!(
                        "the database takes {DATABASE_CONNECTIONS} connections and other services \
                         hold {OTHER_CONNECTIONS} of them: {value} are more than the {free} that \
                         are left"
                    ));
                }
                setup.mitigated_conns = setup.mitigated_conns.max(setup.pool.max_conns);
            }
            Lever::PoolAcquireTimeoutSeconds => setup.pool.acquire_timeout = within(0.1, 60.0)?,
            Lever::PoolMaxWaiting => setup.pool.max_waiting = Some(whole(0, 100_000)?),
            Lever::BreakerWaitSeconds => {
                setup.pool.breaker_opens_at = Some(within(0.1, 60.0)?);
            }
            Lever::AlertForMinutes => setup.alert.for_minutes = whole(0, 60)?,
            Lever::AlertLatencySeconds => {
                if !BOUNDS.contains(&value) {
                    return Err(format!(
                        "{shown} is no bound of the histogram, so no rule can tell who took longer"
                    ));
                }
                setup.alert.above_seconds = value;
            }
            Lever::RunbookDiagnosisMinutes => setup.people.diagnose = seconds(within(2.0, 120.0)?),
            Lever::RolloutMinutes => setup.people.rollout = seconds(within(0.5, 120.0)?),
        }
        Ok(setup)
    }
}

/// What a follow-up action may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lever {
    PoolMaxConns,
    PoolAcquireTimeoutSeconds,
    PoolMaxWaiting,
    BreakerWaitSeconds,
    AlertForMinutes,
    AlertLatencySeconds,
    RunbookDiagnosisMinutes,
    RolloutMinutes,
}

impl Lever {
    /// All of them, with the names under which a document speaks of them.
    pub const ALL: [(&str, Lever); 8] = [
        ("pool.max_conns", Lever::PoolMaxConns),
        (
            "pool.acquire_timeout_seconds",
            Lever::PoolAcquireTimeoutSeconds,
        ),
        ("pool.max_waiting", Lever::PoolMaxWaiting),
        ("breaker.wait_seconds", Lever::BreakerWaitSeconds),
        ("alert.for_minutes", Lever::AlertForMinutes),
        ("alert.latency_seconds", Lever::AlertLatencySeconds),
        ("runbook.diagnosis_minutes", Lever::RunbookDiagnosisMinutes),
        ("rollout.minutes", Lever::RolloutMinutes),
    ];
}

/// What one minute of payments and watching came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// Unix time of the scrape that ends it, in seconds.
    pub at: i64,
    /// Payments that ended, by bucket: those of [`BOUNDS`], then those beyond.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Seconds that they took together.
    pub sum: f64,
    /// Of those that ended: how many gave up waiting.
    pub timeouts: u64,
    /// Turned away at once, and in no bucket.
    pub refused: u64,
    /// At the scrape.
    pub waiting: u64,
    pub in_use: u32,
    pub max_conns: u32,
    pub sessions_active: u64,
    /// Sessions that began, and those that met their first slow payment, in this minute.
    pub sessions: u64,
    pub sessions_slow: u64,
    /// The longest time for which a payment took, in seconds, of all but the slowest 1 %.
    pub p99: f64,
    pub alert: AlertState,
    /// Whether the counters of the service began at zero within this minute.
    pub restarted: bool,
}

impl Minute {
    /// Payments that ended.
    pub fn payments(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Payments that took longer than [`OBJECTIVE_SECONDS`].
    pub fn slow(&self) -> u64 {
        self.above(OBJECTIVE_SECONDS)
    }

    /// Payments that took longer than this bound.
    pub fn above(&self, bound: f64) -> u64 {
        let within = BOUNDS.iter().filter(|&&le| le <= bound).count();
        self.buckets[within..].iter().sum()
    }

    /// Whether too large a share of its payments was slow or refused.
    pub fn breaks_objective(&self) -> bool {
        let bad = self.slow() + self.refused;
        real(bad) > TOLERATED_SHARE * real(self.payments() + self.refused)
    }
}

/// The state of the alert at a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertState {
    Inactive,
    Pending,
    Firing,
}

/// Who noticed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    Alert,
    User,
}

/// The steps of the response, Unix times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    pub detected: i64,
    pub by: Detector,
    pub acknowledged: i64,
    pub cause_identified: i64,
    pub mitigated: i64,
    /// When all traffic met the change.
    pub effective: i64,
}

/// A night, as it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub setup: Setup,
    pub minutes: Vec<Minute>,
    pub response: Option<Response>,
    /// Unix times at which the alert paged somebody, in seconds.
    pub pages: Vec<i64>,
    /// When the first attempt at mitigation was applied and rolled back, where there was one.
    pub attempt: Option<(i64, i64)>,
    /// When a user complained.
    pub ticket: Option<i64>,
}

/// What a right post-mortem says of a night.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    pub impact_began: i64,
    pub restored: i64,
    pub response: Response,
    /// Seconds from the beginning of the impact to the alert's condition, and from there to the
    /// page; `None` where the alert never fired.
    pub alert_delay: Option<(i64, i64)>,
    /// Payments over the objective, from the first minute that broke it to the restoration.
    pub slow_payments: u64,
    /// Share of the sessions of that time that met a slow payment.
    pub sessions_share: f64,
    /// The greatest bound that the p99 of the worst minute exceeded, in seconds.
    pub p99_above: f64,
    pub peak_waiting: u64,
}

/// What a measure of a follow-up action may speak of. Times in minutes where the name says so.
pub const FACTS: [&str; 7] = [
    "detect_minutes",
    "diagnose_minutes",
    "recover_minutes",
    "impact_minutes",
    "p99_seconds_max",
    "pool_waiting_max",
    "slow_payments",
];

impl Run {
    /// Lets a night happen.
    pub fn of(setup: &Setup) -> Run {
        Simulation::new(setup).run()
    }

    /// The minutes `first..=last` of the incident, by index: the longest stretch that breaks the
    /// objective, with good stretches shorter than [`QUIET_MINUTES`] inside of it.
    pub fn incident(&self) -> Option<(usize, usize)> {
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        for (at, minute) in self.minutes.iter().enumerate() {
            if !minute.breaks_objective() {
                continue;
            }
            match stretches.last_mut() {
                Some((_, last)) if at - *last <= QUIET_MINUTES => *last = at,
                _ => stretches.push((at, at)),
            }
        }
        stretches
            .into_iter()
            .filter(|(first, last)| last - first + 1 >= SHORTEST_INCIDENT_MINUTES)
            .max_by_key(|(first, last)| (last - first, usize::MAX - first))
    }

    /// What a right post-mortem says, or `None` where there is nothing to report.
    pub fn truth(&self) -> Option<Truth> {
        let (first, last) = self.incident()?;
        let response = self.response?;
        let end = (last + 1).min(self.minutes.len() - 1);
        let window = &self.minutes[first..=end];
        let began = self.minutes[first].at;
        let slow_payments = window.iter().map(|m| m.slow() + m.refused).sum();
        let active = self.minutes[first.saturating_sub(1)].sessions_active;
        let seen = active + window.iter().map(|m| m.sessions).sum::<u64>();
        let slow: u64 = window.iter().map(|m| m.sessions_slow).sum();
        let fired = (first..=end).find(|&at| self.minutes[at].alert == AlertState::Firing);
        let alert_delay = fired.map(|fired| {
            let mut pending = fired;
            while pending > 0 && self.minutes[pending - 1].alert == AlertState::Pending {
                pending -= 1;
            }
            let pending = self.minutes[pending].at;
            (pending - began, self.minutes[fired].at - pending)
        });
        let p99_above = BOUNDS
            .iter()
            .copied()
            .filter(|&bound| {
                window
                    .iter()
                    .any(|m| real(m.above(bound)) > TOLERATED_SHARE * real(m.payments()))
            })
            .fold(0.0, f64::max);
        Some(Truth {
            impact_began: began,
            restored: self.minutes[end].at,
            response,
            alert_delay,
            slow_payments,
            sessions_share: real(slow) / real(seen),
            p99_above,
            peak_waiting: window.iter().map(|m| m.waiting).max().unwrap_or(0),
        })
    }

    /// One of [`FACTS`]. Delays and impact of a night without an incident are 0.
    pub fn fact(&self, name: &str) -> Option<f64> {
        let truth = self.truth();
        let minutes = |of: fn(&Truth) -> i64| {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a night")]
            truth.as_ref().map_or(0.0, |truth| of(truth) as f64 / 60.0)
        };
        Some(match name {
            "detect_minutes" => minutes(|t| t.response.detected - t.impact_began),
            "diagnose_minutes" => {
                minutes(|t| t.response.cause_identified - t.response.acknowledged)
            }
            "recover_minutes" => minutes(|t| t.restored - t.response.mitigated),
            "impact_minutes" => minutes(|t| t.restored - t.impact_began),
            "p99_seconds_max" => self.minutes.iter().map(|m| m.p99).fold(0.0, f64::max),
            "pool_waiting_max" => real(self.minutes.iter().map(|m| m.waiting).max().unwrap_or(0)),
            "slow_payments" => real(self.minutes.iter().map(|m| m.slow() + m.refused).sum()),
            _ => return None,
        })
    }

    /// Payments that were turned away.
    pub fn refused(&self) -> u64 {
        self.minutes.iter().map(|minute| minute.refused).sum()
    }

    /// The metrics of the night in OpenMetrics, with timestamps, one scrape a minute.
    pub fn metrics(&self) -> String {
        records::metrics(self)
    }

    /// What people and machines wrote down, as JSON lines, source by source.
    pub fn events(&self) -> String {
        records::lines(&self.event_list())
    }

    /// The same, as values.
    pub fn event_list(&self) -> Vec<Event> {
        records::events(self)
    }
}

struct Simulation<'a> {
    setup: &'a Setup,
    chance: Chance,
    /// Those who wait: the tick of their arrival, and how many.
    queue: VecDeque<(usize, u64)>,
    waiting: u64,
    /// Connection time that is left over from ticks before, in payments.
    spare: f64,
    /// Users who are due to pay, as a fraction that carries over.
    due: f64,
    /// Slow drift of the number of users, a factor around 1.
    drift: f64,
    /// Users of the sessions that have not met a slow payment, of those who pay.
    untouched: f64,
    sessions_due: f64,
    slow_due: f64,
    breaker_open: bool,
    max_conns: u32,
    active_since: Option<i64>,
    overloaded_since: Option<i64>,
    run: Run,
}

impl<'a> Simulation<'a> {
    fn new(setup: &'a Setup) -> Self {
        Simulation {
            setup,
            chance: Chance::of(setup.seed ^ 0x0CA5_CADE),
            queue: VecDeque::new(),
            waiting: 0,
            spare: 0.0,
            due: 0.0,
            drift: 1.0,
            untouched: setup.payers,
            sessions_due: 0.0,
            slow_due: 0.0,
            breaker_open: false,
            max_conns: setup.pool.max_conns,
            active_since: None,
            overloaded_since: None,
            run: Run {
                setup: setup.clone(),
                minutes: Vec::with_capacity(setup.minutes),
                response: None,
                pages: Vec::new(),
                attempt: None,
                ticket: None,
            },
        }
    }

    fn run(mut self) -> Run {
        let mut payers_before = self.setup.payers;
        for minute in 0..self.setup.minutes {
            let mut tally = Tally::default();
            self.drift += 0.25 * (1.0 - self.drift) + self.chance.between(-0.005, 0.005);
            for tick in minute * TICKS_A_MINUTE..(minute + 1) * TICKS_A_MINUTE {
                let payers = self.payers_at(real_time(tick));
                self.tick(tick, payers, payers - payers_before, &mut tally);
                payers_before = payers;
            }
            self.scrape(minute, payers_before, tally);
        }
        self.run
    }

    fn payers_at(&self, seconds: f64) -> f64 {
        let come = ((seconds - self.setup.sale_opens) / self.setup.ramp).clamp(0.0, 1.0);
        self.setup.payers * (1.0 + (self.setup.factor - 1.0) * come) * self.drift
    }

    fn tick(&mut self, tick: usize, payers: f64, grown: f64, tally: &mut Tally) {
        let Setup { think, session, .. } = *self.setup;
        let now = real_time(tick);
        let unix = self.setup.begins + whole(now);
        self.people_act(unix, tally);

        // Arrivals: those who think, at one payment in a think time, with a little chance.
        let thinking = (payers - real(self.waiting)).max(0.0);
        self.due += thinking / think * TICK * self.chance.between(0.7, 1.3);
        let arrived = self.due.floor();
        self.due -= arrived;
        let mut arrived = count(arrived);
        if let Some(limit) = self.setup.pool.breaker_opens_at {
            let oldest = self
                .queue
                .front()
                .map_or(0.0, |(since, _)| real_time(tick - since));
            // Half-open at half of the wait: a breaker that closes where it opened would flap.
            self.breaker_open = oldest
                > if self.breaker_open {
                    limit / 2.0
                } else {
                    limit
                };
        }
        if self.breaker_open {
            tally.refused += arrived;
            arrived = 0;
        }
        if arrived > 0 {
            self.queue.push_back((tick, arrived));
            self.waiting += arrived;
        }

        // Service, unless the database stalls.
        let hold = self.hold_at(now);
        let stalled = self
            .setup
            .stalls
            .iter()
            .any(|&at| (at..at + self.setup.stall).contains(&now));
        let capacity = if stalled {
            0.0
        } else {
            f64::from(self.max_conns) * TICK / hold
        };
        self.spare = (self.spare + capacity).min(capacity.max(1.0) * 2.0);
        let jitter = self.chance.between(0.8, 1.25);
        let served = self.take(count(self.spare.floor()));
        let mut used = 0;
        let mut slow = 0;
        for (since, payments) in served {
            used += payments;
            slow += tally.ended(real_time(tick - since) + hold * jitter, payments);
        }
        self.spare = (self.spare - real(used)).max(0.0);
        tally.busy = if self.waiting > 0 {
            self.max_conns
        } else {
            let busy = (real(used) * hold / TICK).ceil();
            u32::try_from(count(busy)).map_or(self.max_conns, |busy| busy.min(self.max_conns))
        };

        // Who waited too long gives up, and who is too many is refused.
        while let Some(&(since, payments)) = self.queue.front() {
            let waited = real_time(tick - since);
            if waited < self.setup.pool.acquire_timeout {
                break;
            }
            self.queue.pop_front();
            self.waiting -= payments;
            slow += tally.ended(waited, payments);
            tally.timeouts += payments;
        }
        if let Some(most) = self.setup.pool.max_waiting {
            while self.waiting > u64::from(most) {
                let (_, last) = self.queue.back_mut().expect("somebody waits");
                let refused = (self.waiting - u64::from(most)).min(*last);
                *last -= refused;
                let empty = *last == 0;
                self.waiting -= refused;
                tally.refused += refused;
                if empty {
                    self.queue.pop_back();
                }
            }
        }

        // Sessions, in the mean: whose payment is slow has met one before with the share of those
        // who have.
        let begun = payers * TICK / session + grown.max(0.0);
        let met = (real(slow) * self.untouched / payers).min(self.untouched);
        let left = self.untouched * (TICK / session) + (-grown).max(0.0) * self.untouched / payers;
        self.untouched = (self.untouched - met - left + begun).clamp(0.0, payers);
        self.sessions_due += begun / self.setup.payer_share;
        self.slow_due += met;
    }

    /// Takes up to `most` of those who wait, the first to come first.
    fn take(&mut self, most: u64) -> Vec<(usize, u64)> {
        let mut left = most;
        let mut taken = Vec::new();
        while left > 0 {
            let Some((since, payments)) = self.queue.front_mut() else {
                break;
            };
            let now = left.min(*payments);
            taken.push((*since, now));
            *payments -= now;
            let empty = *payments == 0;
            left -= now;
            self.waiting -= now;
            if empty {
                self.queue.pop_front();
            }
        }
        taken
    }

    fn hold_at(&self, seconds: f64) -> f64 {
        if seconds < self.setup.sale_opens {
            self.setup.hold_quiet
        } else {
            self.setup.hold_sale
        }
    }

    fn people_act(&mut self, unix: i64, tally: &mut Tally) {
        let Some(response) = self.run.response else {
            return;
        };
        let to = if let Some((applied, rolled_back)) = self.run.attempt
            && (applied..rolled_back).contains(&unix)
        {
            self.setup.mitigated_conns
        } else if unix >= response.effective {
            self.setup.mitigated_conns
        } else {
            self.setup.pool.max_conns
        };
        // New processes take over at the end of the rollout, and theirs are new counters.
        tally.restarted |= unix == response.effective;
        self.max_conns = to;
    }

    fn scrape(&mut self, minute: usize, payers: f64, mut tally: Tally) {
        let at = self.setup.begins + 60 * signed(minute as u64 + 1);
        let sessions = self.sessions_due.floor();
        self.sessions_due -= sessions;
        let sessions_slow = self.slow_due.floor();
        self.slow_due -= sessions_slow;
        self.run.minutes.push(Minute {
            at,
            p99: tally.p99(),
            buckets: tally.buckets,
            sum: tally.sum,
            timeouts: tally.timeouts,
            refused: tally.refused,
            waiting: self.waiting,
            in_use: tally.busy,
            max_conns: self.max_conns,
            sessions_active: count(payers / self.setup.payer_share),
            sessions: count(sessions),
            sessions_slow: count(sessions_slow),
            alert: AlertState::Inactive,
            restarted: tally.restarted,
        });
        let state = self.evaluate(at);
        let last = self.run.minutes.last_mut().expect("just pushed");
        last.alert = state;
        let overloaded =
            last.breaks_objective() && real(minute as u64) * 60.0 >= self.setup.sale_opens - 60.0;
        if overloaded && self.setup.night.is_incident() {
            self.overloaded_since.get_or_insert(at);
        }
        self.notice(at);
    }

    fn evaluate(&mut self, at: i64) -> AlertState {
        let Alert {
            for_minutes,
            above_seconds,
            window_minutes,
        } = self.setup.alert;
        let minutes = &self.run.minutes;
        let window = &minutes[minutes.len().saturating_sub(window_minutes)..];
        let above: u64 = window.iter().map(|m| m.above(above_seconds)).sum();
        let all: u64 = window.iter().map(Minute::payments).sum();
        if real(above) <= TOLERATED_SHARE * real(all) {
            self.active_since = None;
            return AlertState::Inactive;
        }
        let since = *self.active_since.get_or_insert(at);
        if at - since < 60 * i64::from(for_minutes) {
            return AlertState::Pending;
        }
        let was_firing =
            minutes.len() >= 2 && minutes[minutes.len() - 2].alert == AlertState::Firing;
        if !was_firing {
            self.run.pages.push(at + NOTIFIED_AFTER);
        }
        AlertState::Firing
    }

    fn notice(&mut self, at: i64) {
        let Some(since) = self.overloaded_since else {
            return;
        };
        if self.run.response.is_some() {
            return;
        }
        // Only a service that is slow for a while is complained about.
        let complaint = since + self.setup.people.complain;
        let still_slow = self
            .run
            .minutes
            .iter()
            .rev()
            .take(2)
            .any(Minute::breaks_objective);
        let complaint = (complaint < at + 60 && still_slow).then_some(complaint);
        let page = self.run.pages.iter().copied().find(|&page| page >= since);
        let (detected, by) = match (page, complaint) {
            (Some(page), Some(complaint)) if complaint < page => (complaint, Detector::User),
            (Some(page), _) => (page, Detector::Alert),
            (None, Some(complaint)) => (complaint, Detector::User),
            (None, None) => return,
        };
        let People {
            acknowledge,
            diagnose,
            mitigate,
            rollout,
            complain,
        } = self.setup.people;
        let acknowledged = detected + acknowledge;
        let cause_identified = acknowledged + diagnose;
        let mitigated = cause_identified + mitigate;
        self.run.ticket = Some(since + complain);
        self.run.response = Some(Response {
            detected,
            by,
            acknowledged,
            cause_identified,
            mitigated,
            effective: mitigated + rollout,
        });
        if self.setup.night == Night::Relapse {
            // Good for fewer than QUIET_MINUTES minutes.
            let applied = cause_identified + 45;
            self.run.attempt = Some((applied, applied + 220));
        }
    }
}

/// Seconds from the evaluation that fires to the notification.
const NOTIFIED_AFTER: i64 = 4;

#[derive(Default)]
struct Tally {
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
    timeouts: u64,
    refused: u64,
    busy: u32,
    restarted: bool,
    took: Vec<(f64, u64)>,
}

impl Tally {
    /// Counts payments that ended after `seconds`; gives back how many of them were slow.
    fn ended(&mut self, seconds: f64, payments: u64) -> u64 {
        self.buckets[BOUNDS.partition_point(|&le| le < seconds)] += payments;
        self.sum += seconds * real(payments);
        self.took.push((seconds, payments));
        if seconds > OBJECTIVE_SECONDS {
            payments
        } else {
            0
        }
    }

    fn p99(&mut self) -> f64 {
        let mut took = std::mem::take(&mut self.took);
        took.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let all: u64 = took.iter().map(|(_, payments)| payments).sum();
        let mut beyond = 0;
        for (seconds, payments) in took {
            beyond += payments;
            if real(beyond) > TOLERATED_SHARE * real(all) {
                return seconds;
            }
        }
        0.0
    }
}

fn real_time(ticks: usize) -> f64 {
    real(ticks as u64) * TICK
}

#[expect(clippy::cast_precision_loss, reason = "counts of a night")]
fn real(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a night, never below zero"
)]
fn count(number: f64) -> u64 {
    number as u64
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of a night")]
fn whole(seconds: f64) -> i64 {
    // The hundredth makes up for sums of tenths that fall short of a whole second.
    (seconds + 0.01).floor() as i64
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a number of a night")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: std::ops::Range<u64> = 0..40;

    fn after(run: &Run, unix: i64) -> f64 {
        (unix - run.setup.begins) as f64 / 60.0
    }

    #[test]
    fn the_night_of_the_brief_has_the_figures_of_the_brief() {
        let run = Run::of(&Setup::canonical());
        let truth = run.truth().expect("an incident");
        // Minutes after 02:30: 03:15, 03:22, 03:25, 03:40, 03:52 and 04:00.
        let steps = [
            truth.impact_began,
            truth.response.detected,
            truth.response.acknowledged,
            truth.response.cause_identified,
            truth.response.mitigated,
            truth.restored,
        ];
        let minutes = steps.map(|unix| after(&run, unix).floor());
        assert_eq!(minutes, [45.0, 52.0, 55.0, 70.0, 82.0, 90.0], "{truth:?}");
        assert_eq!(truth.response.by, Detector::Alert);
        assert_eq!(truth.alert_delay, Some((120, 300)));
        assert_eq!(truth.peak_waiting, 800);
        assert_eq!(truth.p99_above, 5.0);
        assert!((truth.sessions_share - 0.30).abs() < 0.005, "{truth:?}");
        assert_eq!(run.setup.pool.max_conns, 10);
        assert_eq!(run.setup.mitigated_conns, 50);
        assert_eq!(run.setup.pool.acquire_timeout, 10.0);
        let quiet = run.minutes[20].sessions_active as f64;
        let busy = run.minutes[60].sessions_active as f64;
        assert!((busy / quiet - 8.0).abs() < 0.16, "{busy} over {quiet}");
        // The error rate saw nothing.
        assert!(run.minutes.iter().all(|m| m.timeouts + m.refused == 0));
    }

    #[test]
    fn a_settled_queue_obeys_littles_law_and_the_response_time_law() {
        let run = Run::of(&Setup::canonical());
        let settled = &run.minutes[52..85];
        let n = settled.len() as f64;
        let waiting = settled.iter().map(|m| m.waiting as f64).sum::<f64>() / n;
        let payments = settled.iter().map(|m| m.payments() as f64).sum::<f64>();
        let took = settled.iter().map(|m| m.sum).sum::<f64>() / payments;
        let per_second = payments / (n * 60.0);
        let hold = run.setup.hold_sale * 1.025;
        assert!(
            (waiting / (per_second * (took - hold)) - 1.0).abs() < 0.02,
            "{waiting} waiting"
        );
        let users = 8.0 * run.setup.payers;
        assert!(
            (waiting - (users - per_second * 60.0)).abs() < 30.0,
            "{waiting} waiting"
        );
    }

    #[test]
    fn every_night_is_what_its_kind_says() {
        for seed in SEEDS {
            for night in Night::ALL {
                let run = Run::of(&Setup::drawn(night, seed));
                let truth = run.truth();
                assert_eq!(
                    truth.is_some(),
                    night.is_incident(),
                    "{night:?}, seed {seed}"
                );
                assert_eq!(run.refused(), 0);
                let Some(truth) = truth else {
                    assert!(run.pages.is_empty(), "{night:?}, seed {seed}");
                    assert_eq!(run.response, None, "{night:?}, seed {seed}");
                    let broken = run.minutes.iter().filter(|m| m.breaks_objective()).count();
                    let expected = if night == Night::Blip { 2 } else { 0 };
                    assert_eq!(broken, expected, "{night:?}, seed {seed}");
                    continue;
                };
                let response = truth.response;
                let steps = [
                    truth.impact_began,
                    response.detected,
                    response.acknowledged,
                    response.cause_identified,
                    response.mitigated,
                    response.effective,
                    truth.restored,
                ];
                assert!(steps.is_sorted(), "{night:?}, seed {seed}: {steps:?}");
                assert!(after(&run, truth.restored) < run.setup.minutes as f64 - 12.0);
                let fired = truth.alert_delay.is_some();
                assert_eq!(
                    fired,
                    night != Night::ReportedByUsers,
                    "{night:?}, seed {seed}"
                );
                assert!(run.pages.iter().all(|&page| page > truth.impact_began));
                let (first, last) = run.incident().expect("an incident");
                let good = run.minutes[first..=last]
                    .iter()
                    .filter(|m| !m.breaks_objective());
                let good = good.count();
                assert_eq!(
                    good > 0,
                    night == Night::Relapse,
                    "{night:?}, seed {seed}: {good}"
                );
                assert!(good < QUIET_MINUTES, "{night:?}, seed {seed}: {good}");
            }
        }
    }

    #[test]
    fn in_some_nights_a_user_is_faster_than_the_alert() {
        let by_user = SEEDS
            .filter_map(|seed| Run::of(&Setup::drawn(Night::Paged, seed)).truth())
            .filter(|truth| truth.response.by == Detector::User)
            .count();
        assert!((5..30).contains(&by_user), "{by_user}");
    }

    #[test]
    fn each_lever_moves_what_it_should_on_the_night_of_the_brief() {
        let setup = Setup::canonical();
        let before = Run::of(&setup);
        for (lever, value, fact) in [
            (Lever::PoolMaxConns, 30.0, "impact_minutes"),
            (Lever::PoolAcquireTimeoutSeconds, 1.0, "p99_seconds_max"),
            (Lever::PoolMaxWaiting, 40.0, "slow_payments"),
            (Lever::BreakerWaitSeconds, 0.5, "p99_seconds_max"),
            (Lever::AlertForMinutes, 2.0, "detect_minutes"),
            (Lever::AlertLatencySeconds, 1.0, "detect_minutes"),
            (Lever::RunbookDiagnosisMinutes, 5.0, "diagnose_minutes"),
            (Lever::RolloutMinutes, 1.0, "recover_minutes"),
        ] {
            let after = Run::of(&setup.with(lever, value).expect("a value that it can have"));
            let (was, is) = (before.fact(fact).unwrap(), after.fact(fact).unwrap());
            println!("{lever:?} = {value}: {fact} {was:.2} -> {is:.2}");
            assert!(is < 0.9 * was, "{lever:?} = {value}: {fact} {was} -> {is}");
        }
        for (lever, value) in [
            (Lever::PoolMaxConns, 61.0),
            (Lever::PoolMaxConns, 0.0),
            (Lever::PoolMaxConns, f64::NAN),
            (Lever::AlertLatencySeconds, 3.0),
            (Lever::AlertForMinutes, 1.5),
            (Lever::RolloutMinutes, 0.0),
        ] {
            assert!(setup.with(lever, value).is_err(), "{lever:?} = {value}");
        }
    }

    #[test]
    fn a_number_that_nobody_would_write_out_is_not_written_out() {
        let refused = Setup::canonical().with(Lever::PoolMaxConns, -1e308);
        assert_eq!(
            refused.unwrap_err(),
            "-1e308 is not a whole number from 1 to 1000"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let run = Run::of(&Setup::drawn(Night::Paged, 4));
        let again = Run::of(&Setup::drawn(Night::Paged, 4));
        assert_eq!(run.metrics(), again.metrics());
        assert_eq!(run.events(), again.events());
        assert_ne!(
            run.metrics(),
            Run::of(&Setup::drawn(Night::Paged, 5)).metrics()
        );
    }

    #[test]
    fn the_fixtures_are_the_night_of_the_brief() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/17-production/17-6-2-postmortem");
        let run = Run::of(&Setup::canonical());
        for (name, text) in [
            ("metrics.om", run.metrics()),
            ("events.jsonl", run.events()),
        ] {
            let file = folder.join(name);
            if std::env::var_os("NIGHTSHIFT_WRITE_FIXTURES").is_some() {
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(&file, &text).expect("a file");
            }
            let kept = std::fs::read_to_string(&file).expect("the fixture is there");
            assert!(
                kept == text,
                "{name} differs from what the simulator writes; NIGHTSHIFT_WRITE_FIXTURES=1 makes \
                 it anew"
            );
        }
    }
}
