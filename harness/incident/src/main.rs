//! Prints the variant of a lab as JSON: `incident LAB SEED`. For the runner, not for people.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [lab, seed] = arguments.as_slice() else {
        eprintln!("usage: incident LAB SEED");
        return ExitCode::from(2);
    };
    let Ok(seed) = seed.parse() else {
        eprintln!("`{seed}` is no seed: a whole number from 0 is one");
        return ExitCode::from(2);
    };
    let Some(variant) = incident::variants::of(lab, seed) else {
        let labs: Vec<&str> = incident::variants::LABS.iter().map(|(id, _)| *id).collect();
        eprintln!("{lab} has no variants; these have: {}", labs.join(", "));
        return ExitCode::FAILURE;
    };
    match serde_json::to_writer(std::io::stdout().lock(), &variant) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("could not print the variant: {error}");
            ExitCode::FAILURE
        }
    }
}
