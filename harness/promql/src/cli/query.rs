//! `query`: answers one query over a file of metrics with timestamps.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use promql::{Dialect, Engine, EvalError, Query, Storage};

use crate::show;
use crate::times::{Moment, Step};

#[derive(clap::Args)]
pub struct Options {
    /// Metrics with timestamps, in OpenMetrics or the exposition format
    #[arg(long, value_name = "FILE")]
    metrics: PathBuf,
    /// When to evaluate: seconds or RFC 3339; the last sample's time by default
    #[arg(long, conflicts_with_all = ["start", "end", "step"])]
    time: Option<Moment>,
    /// Start of a range; the first sample's time by default
    #[arg(long)]
    start: Option<Moment>,
    /// End of a range; the last sample's time by default
    #[arg(long)]
    end: Option<Moment>,
    /// Step of a range, such as 15s; a sixtieth of it by default
    #[arg(long)]
    step: Option<Step>,
    /// Which Prometheus to imitate: 2 (as 2.42) or 3
    #[arg(long, default_value = "3")]
    dialect: Dialect,
    /// How to print the answer; by default a chart for a range, else a table
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The query
    #[arg(allow_hyphen_values = true)]
    expression: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line for each series, or for each of its values
    Table,
    /// A picture of a range, at most 80 columns wide
    Chart,
    /// As Prometheus's HTTP API answers
    Json,
}

pub fn query(options: &Options) -> Result<ExitCode, String> {
    let json = options.format == Some(Format::Json);
    let name = options.metrics.display();
    let text = std::fs::read_to_string(&options.metrics)
        .map_err(|error| format!("could not read {name}: {error}"))?;
    let storage = Storage::from_openmetrics_as(&text, options.dialect)
        .map_err(|error| format!("could not load the metrics of {name}: {error}"))?;
    let (first_ms, last_ms) = storage
        .time_range_ms()
        .ok_or_else(|| format!("{name} has no samples: there is nothing to ask"))?;
    let query = match Query::parse_as(&options.expression, options.dialect) {
        Ok(query) => query,
        Err(failure) if json => {
            println!("{}", show::json_error("bad_data", &failure.to_string()));
            return Ok(ExitCode::FAILURE);
        }
        Err(failure) => return Err(failure.render()),
    };
    let engine = Engine::new(options.dialect);
    let ranged = options.start.is_some() || options.end.is_some() || options.step.is_some();
    let answer = if ranged {
        let start_ms = options.start.map_or(first_ms, |moment| moment.0);
        let end_ms = options.end.map_or(last_ms, |moment| moment.0);
        let step = options
            .step
            .map_or_else(|| default_step(start_ms, end_ms), |step| step.0);
        engine.range(&storage, &query, start_ms, end_ms, step)
    } else {
        let at_ms = options.time.map_or(last_ms, |moment| moment.0);
        engine.instant(&storage, &query, at_ms)
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if json => {
            let text = format!("could not evaluate the query: {error}");
            println!("{}", show::json_error("execution", &text));
            return Ok(ExitCode::FAILURE);
        }
        Err(EvalError::Query(diagnostic)) => return Err(diagnostic.render()),
        Err(error) => return Err(format!("error: {error}")),
    };
    match options.format {
        Some(Format::Json) => println!("{}", show::json(&answer, query.text())),
        Some(Format::Chart) => print!("{}", show::chart(&answer.value)),
        None if ranged => print!("{}", show::chart(&answer.value)),
        Some(Format::Table) | None => print!("{}", show::table(&answer.value)),
    }
    if !json {
        eprint!("{}", show::annotations(&answer, query.text()));
        for finding in promql::lint(&query, &promql::lint::Context::of(&storage)) {
            eprint!("{}", finding.render(query.text()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A sixtieth of the range in whole seconds, at least one.
fn default_step(start_ms: i64, end_ms: i64) -> Duration {
    let seconds = end_ms.saturating_sub(start_ms).max(0) / 60_000;
    Duration::from_secs(seconds.max(1).unsigned_abs())
}
