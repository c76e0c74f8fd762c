//! Queries come from learners: none may crash, hang or fill the memory, whatever it is.

use std::time::Duration;

use promql::script;
use promql::{Dialect, Engine, Labels, MAX_NESTING, Query, Storage, lint};
use proptest::prelude::*;

fn storage() -> Storage {
    let mut storage = Storage::new();
    for at in 0..20 {
        for le in ["0.5", "1", "+Inf"] {
            let labels = Labels::named("took_bucket", [("le", le), ("job", "a")]);
            storage.append(labels, at * 15_000, at as f64).unwrap();
        }
        let labels = Labels::named("x_total", [("job", "a")]);
        storage.append(labels, at * 15_000, at as f64).unwrap();
        let labels = Labels::named("y", [("job", "b")]);
        storage.append(labels, at * 15_000, -(at as f64)).unwrap();
    }
    storage
}

/// Parses, lints and evaluates in every way; only the errors that are values may come of it.
fn survive(text: &str, storage: &Storage) {
    for dialect in [Dialect::V2, Dialect::V3] {
        let query = match Query::parse_as(text, dialect) {
            Ok(query) => query,
            Err(failure) => {
                // Drawing it must not fail either, wherever it points.
                assert!(!failure.render().is_empty());
                assert!(failure.span.end <= text.len().max(failure.query.len()));
                continue;
            }
        };
        let engine = Engine::new(dialect);
        let _ = lint(&query, &lint::Context::of(storage));
        let _ = engine.instant(storage, &query, 200_000);
        let _ = engine.range(storage, &query, 0, 300_000, Duration::from_secs(60));
    }
}

/// Queries that use most of the language.
const SEEDS: [&str; 14] = [
    "sum by (job) (rate(x_total{job=~\"a|b\"}[5m] offset 1m)) / on(job) group_left(z) y @ end()",
    "histogram_quantile(0.9, sum by (le) (rate(took_bucket[2m])))",
    "max_over_time((x_total > bool 3)[10m:30s] @ 100 offset -1m)",
    "topk(3, y) without (job) or bottomk by (job) (1, -x_total)",
    "label_replace(y, \"a\", \"$1-${2}\", \"job\", \"(.)(.*)\") unless ignoring (a) x_total",
    "count_values(\"v\", round(x_total, 0.5)) and on() vector(1)",
    "absent_over_time(nothing{a=\"b\",c!~\"d\"}[1h]) + scalar(y) ^ 2 atan2 pi()",
    "quantile_over_time(0.5, x_total[5m]) <= bool time() % 5",
    "predict_linear(x_total[5m], 3600) - deriv(y[5m:])",
    "clamp(sort_desc(y), -1, Inf) != 0x1F or day_of_week()",
    "{__name__=~\".+\", job!=\"\"} * 1e-3 # comment",
    "(((1 + 2) * 3) - -4) / +5 == bool 0755",
    "label_join(x_total, 'd', `-`, \"job\", \"\\u00e9\") > 5m",
    "limit_ratio(0.5, x_total) + fill (0) y",
];

const PIECES: [&str; 60] = [
    "sum",
    "by",
    "without",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "{}",
    "x_total",
    "y",
    "took_bucket",
    "rate",
    "5m",
    "[5m]",
    "[5m:1m]",
    "[1e9]",
    "@",
    "offset",
    "start()",
    "end()",
    "-",
    "+",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    ">",
    "<=",
    "=~",
    "!~",
    "=",
    ",",
    "\"a\"",
    "'",
    "`",
    "\\",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "atan2",
    "1",
    "NaN",
    "Inf",
    "1e308",
    "0x",
    "#",
    "\n",
    "é",
    "histogram_quantile",
    "topk",
    "label_replace",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_no_danger(text in "\\PC{0,60}") {
        survive(&text, &storage());
    }

    #[test]
    fn arbitrary_tokens_are_no_danger(pieces in prop::collection::vec(0..PIECES.len(), 0..25)) {
        let text: Vec<&str> = pieces.iter().map(|at| PIECES[*at]).collect();
        survive(&text.join(" "), &storage());
        survive(&text.concat(), &storage());
    }

    #[test]
    fn mutated_queries_are_no_danger(
        seed in 0..SEEDS.len(),
        cuts in prop::collection::vec((0usize..100, 0usize..12, 0..PIECES.len()), 1..4),
    ) {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (at, remove, insert) in cuts {
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, PIECES[insert].chars());
        }
        survive(&text.into_iter().collect::<String>(), &storage());
    }

    #[test]
    fn arbitrary_scripts_are_no_danger(lines in prop::collection::vec(0usize..12, 0..12)) {
        let pieces = [
            "load 1m", "  a 1+1x5", "  b{c=\"d\"} _x3 stale 1e400", "", "clear",
            "eval instant at 1m a", "  a 2", "eval_fail instant at x a", "  expect warn msg:",
            "eval range from 0 to 1m step 0 a", "eval range from 0 to 9y step 1ms a",
            "  h {{schema:1",
        ];
        let text: Vec<&str> = lines.iter().map(|at| pieces[*at]).collect();
        for dialect in [Dialect::V2, Dialect::V3] {
            let _ = script::run(&text.join("\n"), dialect);
        }
    }
}

#[test]
fn the_queries_that_are_mutated_are_sound_themselves() {
    for text in SEEDS {
        if let Err(failure) = Query::parse(text) {
            panic!("{}", failure.render());
        }
    }
}

/// The deepest trees that are let in, on the small stack of a test thread.
#[test]
fn the_deepest_query_fits_the_stack() {
    let storage = storage();
    for (open, close) in [
        ("(", ")"),
        ("-(", ")"),
        ("abs(", ")"),
        ("sum(", ")"),
        ("-", ""),
        ("1+", ""),
    ] {
        let signs = open
            .bytes()
            .filter(|byte| !byte.is_ascii_alphanumeric())
            .count();
        let depth = MAX_NESTING / signs;
        let deep = |depth: usize| format!("{}y{}", open.repeat(depth), close.repeat(depth));
        assert!(Query::parse(&deep(depth)).is_ok(), "{open} {depth} times");
        survive(&deep(depth), &storage);
        let failure = Query::parse(&deep(depth + 1)).unwrap_err();
        assert!(failure.message.contains("nested"), "{failure}");
    }
    let wide = "abs(y) + abs(y), ".repeat(500);
    let wide = format!(
        "label_join(y, \"a\", {}\"b\")",
        wide.replace("abs(y) + abs(y)", "\"c\"")
    );
    assert!(Query::parse(&wide).is_ok(), "what is only long is let in");
    let chain = format!("y{}", " or y".repeat(MAX_NESTING));
    survive(&chain, &storage);
    let windows = format!("y{}", "[5m:1m]".repeat(300));
    survive(&windows, &storage);
}

#[test]
fn absurd_amounts_of_work_are_refused_rather_than_done() {
    let storage = storage();
    let engine = Engine::default();
    let refused = |text: &str, start_ms: i64, end_ms: i64, step: Duration| {
        let query = Query::parse(text).unwrap();
        let error = engine
            .range(&storage, &query, start_ms, end_ms, step)
            .expect_err(text);
        error.to_string()
    };
    let second = Duration::from_secs(1);
    assert!(refused("y", 0, i64::MAX / 16, second).contains("maximum resolution"));
    assert!(refused("y", 0, 10, Duration::ZERO).contains("zero or negative"));
    assert!(refused("y", 10, 0, second).contains("before"));
    assert!(refused("y", i64::MIN, i64::MAX, second).contains("far"));
    assert!(refused("sum_over_time(y[99y:1ms])", 0, 10_000, second).contains("too many samples"));
    assert!(
        refused("max_over_time(vector(1)[20d:100ms])", 0, 10_000_000, second).contains("more than")
    );
    let deep = "sum_over_time(".repeat(6) + "vector(1)" + &"[10d:10s])".repeat(6);
    refused(&deep, 0, 10_000_000, second);
}
