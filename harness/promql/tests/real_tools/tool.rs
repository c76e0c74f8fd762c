//! A tool of this machine, and the chance that makes cases for it.

use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use promql::Dialect;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A tool that can be started.
pub struct RealTool {
    name: &'static str,
    version: String,
}

/// What a tool said.
pub struct Answer {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl RealTool {
    /// The tool, or nothing with a sentence on the screen.
    ///
    /// # Panics
    /// When it is missing and `NIGHTSHIFT_REQUIRE_BACKENDS=1`.
    pub fn find(name: &'static str, install: &str) -> Option<Self> {
        let reason = match Command::new(name).arg("--version").output() {
            Ok(said) => {
                let version = String::from_utf8_lossy(&said.stdout).into_owned();
                return Some(RealTool { name, version });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => "it is not installed".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("not run: could not start {name}: {reason}; install {install}");
        let required = std::env::var("NIGHTSHIFT_REQUIRE_BACKENDS").is_ok_and(|value| value == "1");
        assert!(!required, "{message} (NIGHTSHIFT_REQUIRE_BACKENDS=1)");
        say(&message);
        None
    }

    /// What promtool evaluates: Debian 12 has version 2.42, and others have 3.
    pub fn dialect(&self) -> Dialect {
        let major = self
            .version
            .split_once("version ")
            .and_then(|(_, version)| version.split('.').next())
            .and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(2) => Dialect::V2,
            Some(3) => Dialect::V3,
            _ => panic!("{} has an unknown version: {}", self.name, self.version),
        }
    }

    pub fn run(&self, arguments: &[String], folder: &Path) -> Answer {
        let output = Command::new(self.name)
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap_or_else(|error| panic!("could not start {}: {error}", self.name));
        Answer {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// On the screen: the stream itself is not captured, unlike what `println!` prints.
pub fn say(message: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: {message}");
}

/// The usual seeds, or the one that the environment variable names.
pub fn seeds(variable: &str, usual: Range<u64>) -> Vec<u64> {
    match std::env::var(variable) {
        Ok(seed) => vec![
            seed.parse()
                .unwrap_or_else(|error| panic!("{variable}={seed} is no seed: {error}")),
        ],
        Err(_) => usual.collect(),
    }
}

/// Choices that a seed determines.
pub struct Chance(ChaCha8Rng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit as u64) as usize
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}
