//! Prints the report on a folder of records, the lab's own when none is named.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../fixtures/17-production/17-6-2-postmortem"
    );
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| own.to_owned()));
    let metrics = std::fs::read_to_string(folder.join("metrics.om"))?;
    let events = std::fs::read_to_string(folder.join("events.jsonl"))?;
    match postmortem::reconstruct(&metrics, &events)? {
        Some(report) => println!("{report}"),
        None => println!("nothing to report"),
    }
    Ok(())
}
