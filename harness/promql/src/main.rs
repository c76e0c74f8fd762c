//! The command line of the evaluator: runs scripts, and answers queries over a fixture.

#[path = "cli/query.rs"]
mod query;
#[path = "cli/script.rs"]
mod script;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/times.rs"]
mod times;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// PromQL over files, without a server.
#[derive(Parser)]
#[command(name = "promql", max_term_width = 80, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run test scripts in Prometheus's format: load, clear, eval
    Script(script::Options),
    /// Answer a query over metrics with timestamps
    #[command(override_usage = "cargo xtask query [OPTIONS] --metrics <FILE> <EXPRESSION>")]
    Query(query::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Script(options) => script::script(&options),
        Verb::Query(options) => query::query(&options),
    };
    outcome.unwrap_or_else(|message| {
        eprint!("{message}");
        if !message.ends_with('\n') {
            eprintln!();
        }
        ExitCode::from(2)
    })
}
