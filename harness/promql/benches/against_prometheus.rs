//! This crate against the Prometheus of this machine, on the same data, in turns, in one run: how many
//! times as long Prometheus takes. Says so and ends where there is none.
//!
//! A query goes to a server over loopback, whose answer is read and not decoded. Rules are evaluated
//! by `promtool test rules` in virtual time; what it takes to load the samples is measured without
//! rules, and taken off.

#[path = "data/day.rs"]
mod day;
#[path = "data/histograms.rs"]
mod histograms;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kit::paired::{Figure, Plan};
use promql::rules::{RuleFile, Settings};
use promql::{Dialect, Engine, Query};
use tempfile::TempDir;

const INSTANCES: usize = 1_000;
/// Rounds of rules: as many as an interval of 95 % needs, and two to spare.
const ROUNDS: usize = 8;
/// A server with ten thousand series is ready long before.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` runs this to see that it compiles.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Some((version, dialect)) = version() else {
        println!("not run: there is no promtool; install the package prometheus");
        return;
    };
    println!("against {version}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    match quantile(&folder, dialect) {
        Ok(ratio) => println!(
            "p99 by instance, 10,000 series, 240 steps: times as long in Prometheus: {ratio}"
        ),
        Err(error) => println!("not run: could not ask a server: {error}"),
    }
    let ratio = rules(&folder, dialect);
    println!("a day of 50 rules at 15 s: times as long in promtool: {ratio}");
}

fn version() -> Option<(String, Dialect)> {
    let said = Command::new("promtool").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let first = text.lines().next()?.to_owned();
    let dialect = if first.contains("version 2.") {
        Dialect::V2
    } else {
        Dialect::V3
    };
    Some((first, dialect))
}

/// A server over blocks, ended on drop.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn over(samples: &str, folder: &Path) -> io::Result<Self> {
        let (text, data) = (folder.join("samples.txt"), folder.join("data"));
        std::fs::write(&text, samples)?;
        let status = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&text, &data])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other("promtool made no blocks of the samples"));
        }
        let configuration = folder.join("prometheus.yml");
        std::fs::write(&configuration, "{}\n")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Server { process, port };
        let began = Instant::now();
        while !server
            .get("/-/ready")
            .is_ok_and(|said| said.contains(" 200 "))
        {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the server does not get ready"));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn quantile(folder: &TempDir, dialect: Dialect) -> io::Result<Figure> {
    let server = Server::over(&openmetrics(INSTANCES), folder.path())?;
    let path = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step={}",
        encoded(histograms::P99),
        histograms::FIRST_MS / 1_000,
        histograms::LAST_MS / 1_000,
        histograms::SCRAPE_MS / 1_000,
    );
    let storage = histograms::storage(INSTANCES);
    let query = Query::parse_as(histograms::P99, dialect).expect("a sound query");
    let engine = Engine::new(dialect);
    let comparison = Plan::default()
        .pairs(6)
        .slice(Duration::from_millis(1))
        .warm_up(Duration::ZERO)
        .budget(Duration::from_secs(300))
        .run(
            || {
                let step = Duration::from_millis(histograms::SCRAPE_MS as u64);
                let (first_ms, last_ms) = (histograms::FIRST_MS, histograms::LAST_MS);
                let answer = engine.range(&storage, &query, first_ms, last_ms, step);
                assert_eq!(answer.expect("an answer").value.rows().len(), INSTANCES);
            },
            || {
                let answer = server.get(&path).expect("an answer");
                assert_eq!(
                    answer.matches("\"metric\"").count(),
                    INSTANCES,
                    "{answer:.500}"
                );
            },
        );
    Ok(comparison.into())
}

/// The same samples as a text that `promtool tsdb create-blocks-from openmetrics` loads.
fn openmetrics(count: usize) -> String {
    let mut text = String::from("# TYPE took_seconds histogram\n");
    histograms::samples(count, |instance, bound, at_ms, value| {
        writeln!(
            text,
            "took_seconds_bucket{{instance=\"10.0.0.{instance}:9100\",le=\"{bound}\"}} {value} {}",
            at_ms / 1000
        )
        .unwrap();
    });
    text + "# EOF\n"
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => {
                write!(out, "{}", byte as char)
            }
            byte => write!(out, "%{byte:02X}"),
        };
        out
    })
}

fn rules(folder: &TempDir, dialect: Dialect) -> Figure {
    let storage = day::day();
    let text = day::rules();
    let file = RuleFile::parse_as(&text, dialect).unwrap_or_else(|error| panic!("{error}"));
    let interval = Duration::from_millis(day::INTERVAL_MS as u64);
    let settings = Settings::new(0, day::DAY_MS, interval);
    std::fs::write(folder.path().join("rules.yml"), text).expect("a temporary file");
    for (name, files) in [("with.yml", "[rules.yml]"), ("without.yml", "[]")] {
        let test = test_file(&storage, files);
        std::fs::write(folder.path().join(name), test).expect("a temporary file");
    }
    let promtool = |name: &str| {
        let began = Instant::now();
        let said = Command::new("promtool")
            .args(["test", "rules", name])
            .current_dir(folder.path())
            .output()
            .expect("promtool was there a moment ago");
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        began.elapsed().as_secs_f64()
    };
    let (mut ratios, mut times) = (Vec::new(), HashMap::<&str, Vec<f64>>::new());
    for _ in 0..ROUNDS {
        let mut storage = storage.clone();
        let began = Instant::now();
        let evaluation = file.evaluate(&mut storage, &settings).expect("sound rules");
        let ours = began.elapsed().as_secs_f64();
        assert_eq!(evaluation.failures.len(), 0);
        let (with, without) = (promtool("with.yml"), promtool("without.yml"));
        ratios.push((with - without) / ours);
        for (side, took) in [("ours", ours), ("with", with), ("without", without)] {
            times.entry(side).or_default().push(took);
        }
    }
    println!(
        "a day of 50 rules at 15 s: ours {}, promtool {}, {} of it without rules",
        Figure::seconds(&times["ours"]),
        Figure::seconds(&times["with"]),
        Figure::seconds(&times["without"]),
    );
    Figure::ratio(&ratios)
}

/// A test of the rules that asks for nothing, at the end of the day.
fn test_file(storage: &promql::Storage, rule_files: &str) -> String {
    let seconds = day::INTERVAL_MS / 1_000;
    let mut text = format!(
        "rule_files: {rule_files}\nevaluation_interval: {seconds}s\ntests:\n- interval: {seconds}s\n  \
         promql_expr_test:\n  - {{expr: vector(1), eval_time: {}s, exp_samples: [{{labels: '{{}}', \
         value: 1}}]}}\n  input_series:\n",
        day::DAY_MS / 1_000
    );
    for series in storage.series() {
        let values: Vec<String> = series.values().iter().map(f64::to_string).collect();
        let _ = writeln!(
            text,
            "  - series: '{}'\n    values: '{}'",
            series.labels(),
            values.join(" ")
        );
    }
    text
}
