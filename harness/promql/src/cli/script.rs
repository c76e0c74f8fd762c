//! `script`: runs files and prints what passed, what failed, and how.

use std::path::PathBuf;
use std::process::ExitCode;

use promql::Dialect;
use promql::script::{self, Outcome};

#[derive(clap::Args)]
pub struct Options {
    /// Which Prometheus to imitate: 2 (as 2.42) or 3
    #[arg(long, default_value = "3")]
    dialect: Dialect,
    /// The scripts
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub fn script(options: &Options) -> Result<ExitCode, String> {
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for path in &options.files {
        let name = path.display();
        let bytes =
            std::fs::read(path).map_err(|error| format!("could not read {name}: {error}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let report = script::run(&text, options.dialect);
        println!(
            "{name}: {} passed, {} failed{}",
            report.passed(),
            report.failed(),
            match report.unsupported() {
                0 => String::new(),
                count => format!(", {count} not supported"),
            }
        );
        for note in &report.notes {
            println!("  note: {note}");
        }
        for case in &report.cases {
            let (word, text) = match &case.outcome {
                Outcome::Passed => continue,
                Outcome::Failed(text) => ("failed", text),
                Outcome::Unsupported(text) => ("not supported", text),
            };
            println!("  line {}: {word}: {}", case.line, case.command);
            for line in text.lines() {
                println!("    {line}");
            }
        }
        passed += report.passed();
        failed += report.failed();
        unsupported += report.unsupported();
    }
    let skipped = match unsupported {
        0 => String::new(),
        count => format!(", {count} not supported"),
    };
    println!(
        "{passed} passed, {failed} failed{skipped} (dialect {})",
        options.dialect
    );
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
