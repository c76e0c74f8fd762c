//! A read-through cache in virtual time, with or without coalescing, and the log that it would write.
//!
//! Requests arrive as a Poisson process, for keys of which a few are popular. A miss queries the
//! database; without coalescing every task that misses does so, with it one task for each key does
//! and the others wait. Values expire, queries fail now and then, and lines are written a little
//! out of order, as tasks that share a log do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;

use crate::chance::Chance;

/// Whether the simulated cache coalesces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// One query for a key at a time.
    Coalescing,
    /// Every miss is a query.
    Naive,
}

/// Queries for one key of which each begins while another one is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stampede {
    pub key: String,
    /// The lines of the log that begin them, ascending, from 1; two at least.
    pub lines: Vec<usize>,
}

/// A log, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// JSON lines.
    pub log: String,
    /// In the order in which they began.
    pub stampedes: Vec<Stampede>,
    /// All queries to the database.
    pub queries: usize,
}

impl Run {
    /// Queries that another one would have answered.
    pub fn wasted(&self) -> usize {
        self.stampedes
            .iter()
            .map(|stampede| stampede.lines.len() - 1)
            .sum()
    }
}

/// What happens at a moment, in milliseconds since the log began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends { task: u64, key: usize, fails: bool },
    Arrives { task: u64, key: usize },
}

struct Line {
    at: u64,
    text: String,
}

/// Simulates a cache of this kind; everything else is drawn from `seed`.
pub fn simulate(cache: Cache, seed: u64) -> Run {
    let mut chance = Chance::of(seed ^ 0xCAC4E);
    let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
    let keys: Vec<String> = names
        .iter()
        .take(usize::try_from(chance.whole(3, 6)).expect("small"))
        .map(|name| format!("session:{name}"))
        .collect();
    let duration = chance.whole(6_000, 12_000);
    let ttl = chance.whole(900, 2_200);
    let mean_gap = chance.between(6.0, 14.0);
    let fetch = (chance.whole(60, 90), chance.whole(110, 180));
    let fails = chance.between(0.02, 0.08);

    let mut events = BinaryHeap::new();
    let mut order = 0_u64;
    let mut task = 40;
    let mut at = 0.0;
    loop {
        at += chance.exponential(mean_gap);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "ms of a run"
        )]
        let arrives = at as u64 + 1;
        if arrives >= duration {
            break;
        }
        // Squaring favors the first keys: a few sessions are asked for most of the time.
        let popular = chance.unit() * chance.unit();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let key = (popular * keys.len() as f64) as usize;
        task += chance.whole(1, 4);
        events.push(Reverse((arrives, order, Event::Arrives { task, key })));
        order += 1;
    }

    let mut lines: Vec<Line> = Vec::new();
    let mut fresh_until: BTreeMap<usize, u64> = BTreeMap::new();
    let mut running: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    // Groups of queries that overlap, as indices into `lines`.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut queries = 0;
    while let Some(Reverse((now, _, event))) = events.pop() {
        match event {
            Event::Arrives { task, key } => {
                let name = &keys[key];
                let hit = fresh_until.get(&key).is_some_and(|&until| now < until);
                let result = if hit { "hit" } else { "miss" };
                lines.push(line(
                    now,
                    "get",
                    name,
                    &format!(",\"result\":\"{result}\""),
                    task,
                ));
                if hit {
                    continue;
                }
                let on_the_way = running.get(&key).is_some_and(|tasks| !tasks.is_empty());
                if on_the_way && cache == Cache::Coalescing {
                    lines.push(line(now, "wait", name, "", task));
                    continue;
                }
                open.entry(key).or_default().push(lines.len());
                lines.push(line(now, "fetch_db", name, "", task));
                queries += 1;
                running.entry(key).or_default().insert(task);
                let ends = now + chance.whole(fetch.0, fetch.1);
                let fails = chance.happens(fails);
                events.push(Reverse((ends, order, Event::Ends { task, key, fails })));
                order += 1;
            }
            Event::Ends { task, key, fails } => {
                let name = &keys[key];
                if fails {
                    lines.push(line(now, "fetch_failed", name, "", task));
                } else {
                    lines.push(line(
                        now,
                        "set",
                        name,
                        &format!(",\"ttl\":{}", ttl / 1000),
                        task,
                    ));
                    fresh_until.insert(key, now + ttl);
                }
                let tasks = running.entry(key).or_default();
                tasks.remove(&task);
                if tasks.is_empty() {
                    groups.extend(open.remove(&key).map(|begun| (key, begun)));
                }
            }
        }
    }
    groups.extend(open);
    groups.retain(|(_, begun)| begun.len() > 1);
    groups.sort_by_key(|(_, begun)| begun[0]);

    let places = written(&mut lines, &mut chance);
    let stampedes = groups
        .into_iter()
        .map(|(key, begun)| {
            let mut lines: Vec<usize> = begun.into_iter().map(|index| places[index]).collect();
            lines.sort_unstable();
            Stampede {
                key: keys[key].clone(),
                lines,
            }
        })
        .collect();
    let log = lines.iter().fold(String::new(), |mut log, line| {
        let _ = writeln!(log, "{}", line.text);
        log
    });
    Run {
        log,
        stampedes,
        queries,
    }
}

/// Puts the lines into the order in which they reach the log: a line is at times overtaken by a
/// later one, never by one of the same moment. Gives the place of each, from 1.
fn written(lines: &mut Vec<Line>, chance: &mut Chance) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    for at in 1..order.len() {
        let (earlier, later) = (&lines[order[at - 1]], &lines[order[at]]);
        if earlier.at < later.at && chance.happens(0.15) {
            order.swap(at - 1, at);
        }
    }
    let mut places = vec![0; lines.len()];
    for (place, &index) in order.iter().enumerate() {
        places[index] = place + 1;
    }
    let mut sorted: Vec<Option<Line>> = lines.drain(..).map(Some).collect();
    lines.extend(
        order
            .iter()
            .map(|&index| sorted[index].take().expect("each once")),
    );
    places
}

fn line(at: u64, op: &str, key: &str, more: &str, task: u64) -> Line {
    let seconds = 12 * 3600 + at / 1000;
    let time = format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        at % 1000
    );
    let text = format!(
        "{{\"time\":\"{time}\",\"op\":\"{op}\",\"key\":\"{key}\"{more},\"goroutine\":{task}}}"
    );
    Line { at, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coalescing_cache_wastes_nothing_and_a_naive_one_does() {
        for seed in 0..20 {
            assert_eq!(simulate(Cache::Coalescing, seed).wasted(), 0, "{seed}");
            let naive = simulate(Cache::Naive, seed);
            assert!(naive.wasted() > 3, "{seed}: {}", naive.wasted());
            // Values expire, so most repeated queries are no waste.
            assert!(
                naive.queries > naive.wasted() + naive.stampedes.len(),
                "{seed}"
            );
        }
    }

    #[test]
    fn stampedes_point_at_the_lines_that_begin_queries() {
        for seed in 0..10 {
            let run = simulate(Cache::Naive, seed);
            let lines: Vec<&str> = run.log.lines().collect();
            for stampede in &run.stampedes {
                for &line in &stampede.lines {
                    let text = lines[line - 1];
                    assert!(
                        text.contains("fetch_db") && text.contains(&stampede.key),
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn some_lines_are_out_of_order_and_the_same_seed_gives_the_same_bytes() {
        let run = simulate(Cache::Naive, 5);
        let times: Vec<&str> = run.log.lines().map(|line| &line[9..21]).collect();
        assert!(!times.is_sorted());
        assert_eq!(run, simulate(Cache::Naive, 5));
    }
}
