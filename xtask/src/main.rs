//! The runner: opens, judges, hints, resets and verifies labs.
//!
//! This file only parses the command line and hands over; each verb has a module of its own.

mod build;
mod catalog;
mod containers;
mod decoys;
mod durations;
mod files;
mod judging;
mod manifest;
mod paperwork;
mod progress;
mod scratch;
mod screen;
mod starts;

mod bench;
mod diff;
mod doctor;
mod fixture;
mod grade;
mod hint;
mod list;
mod new;
mod next;
mod query;
mod reset;
mod run;
mod verify;
mod view;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Labs for people who will be woken at three in the morning by a concurrent system.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 80)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// List the labs, and where you stand in each
    List(list::Options),
    /// Show the brief of the next lab
    Next(next::Options),
    /// Judge a lab: build its checker, run every check, show the symptoms
    Run(run::Options),
    /// Judge a lab at every save
    Watch(watch::Options),
    /// A hint for the checks of a lab that fail now
    Hint(hint::Options),
    /// Compare your files with the worked solution, once the lab passes
    Diff(diff::Options),
    /// Put the start of a lab back; a copy of your files is kept
    Reset(reset::Options),
    /// Make a dump of another system from a seed, to practice on
    Fixture(fixture::Options),
    /// Look at a dump as a picture: one page for a browser, which needs no network
    View(view::Options),
    /// Measure the figures that a lab names, and judge them with their spread
    Bench(bench::Options),
    /// Judge all or some labs and report, also as JSON or JUnit
    Grade(grade::Options),
    /// Ask a dump of metrics in PromQL: a table, a picture or JSON
    Query(query::Options),
    /// What is installed here, and what each missing thing would enable
    Doctor(doctor::Options),
    /// For maintainers: make the files of a new lab
    New(new::Options),
    /// For maintainers: hold every lab to what it promises
    Verify(verify::Options),
}

fn main() -> ExitCode {
    judge::supervise_if_asked();
    screen::quiet_panics();
    let cli = Cli::parse();
    let outcome = match cli.verb {
        None => next::overview(),
        Some(Verb::List(options)) => list::list(&options),
        Some(Verb::Next(options)) => next::next(&options),
        Some(Verb::Run(options)) => run::run(&options),
        Some(Verb::Watch(options)) => watch::watch(&options),
        Some(Verb::New(options)) => new::new(&options),
        Some(Verb::Hint(options)) => hint::hint(&options),
        Some(Verb::Diff(options)) => diff::diff(&options),
        Some(Verb::Reset(options)) => reset::reset(&options),
        Some(Verb::Fixture(options)) => fixture::fixture(&options),
        Some(Verb::View(options)) => view::view(&options),
        Some(Verb::Bench(options)) => bench::bench(&options),
        Some(Verb::Grade(options)) => grade::grade(&options),
        Some(Verb::Query(options)) => query::query(&options),
        Some(Verb::Doctor(options)) => doctor::doctor(&options),
        Some(Verb::Verify(options)) => verify::verify(&options),
    };
    outcome.unwrap_or_else(|error| {
        screen::error(&error);
        ExitCode::from(2)
    })
}
