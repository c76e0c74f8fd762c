//! The answer when a server cannot be had: what was tried, and what would help.

use std::env;
use std::fmt;

use crate::Backend;

/// The variable that turns a missing server from "not run" into a failure.
pub const REQUIRE_VARIABLE: &str = "NIGHTSHIFT_REQUIRE_BACKENDS";

/// The variable that narrows the sources, as in `NIGHTSHIFT_BACKEND_SOURCES=address,container`.
pub const SOURCES_VARIABLE: &str = "NIGHTSHIFT_BACKEND_SOURCES";

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address in the environment: somebody else's server, possibly shared.
    Address,
    /// A binary of this machine, run as a private process.
    Binary,
    /// A container, through the engine that `DOCKER_HOST` names.
    Container,
}

impl Source {
    /// In the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Address, Self::Binary, Self::Container];

    fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Binary => "binary",
            Self::Container => "container",
        }
    }

    /// The sources that the environment allows.
    ///
    /// # Errors
    /// The word that names no source.
    pub(crate) fn allowed() -> Result<Vec<Self>, String> {
        match env::var(SOURCES_VARIABLE) {
            Ok(words) if !words.trim().is_empty() => words
                .split(',')
                .map(str::trim)
                .map(|word| {
                    Self::ALL
                        .into_iter()
                        .find(|source| source.word() == word)
                        .ok_or_else(|| word.to_owned())
                })
                .collect(),
            _ => Ok(Self::ALL.to_vec()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One source that was tried, and why it gave no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried.
    pub source: Source,
    /// Why there is no server, as a sentence without a full stop.
    pub outcome: String,
}

/// No server: what was tried and what to install. Completes "could not …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unavailable {
    backend: Backend,
    tried: Vec<Attempt>,
    missing: bool,
}

impl Unavailable {
    /// Nowhere to be found.
    pub(crate) fn missing(backend: Backend, tried: Vec<Attempt>) -> Self {
        Self {
            backend,
            tried,
            missing: true,
        }
    }

    /// There, but it does not work.
    pub(crate) fn broken(backend: Backend, tried: Vec<Attempt>) -> Self {
        Self {
            backend,
            tried,
            missing: false,
        }
    }

    /// Which server it is about.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What was tried, in order.
    #[must_use]
    pub fn tried(&self) -> &[Attempt] {
        &self.tried
    }

    /// `true` when this machine has no such server; `false` when it has one that does not start,
    /// dies, or does not answer.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    /// Whether this is a failure rather than a reason not to run a check: the environment asks for
    /// every server, or the server is there and does not work.
    #[must_use]
    pub fn required(&self) -> bool {
        !self.missing || Self::required_by_environment()
    }

    /// Whether `NIGHTSHIFT_REQUIRE_BACKENDS` asks for every server.
    #[must_use]
    pub fn required_by_environment() -> bool {
        env::var(REQUIRE_VARIABLE).is_ok_and(|value| !matches!(value.trim(), "" | "0" | "false"))
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.missing { "find" } else { "start" };
        write!(f, "{verb} {}", self.backend)?;
        for Attempt { source, outcome } in &self.tried {
            write!(f, "\n  {source:<13}  ")?;
            let lines = if self.missing {
                wrapped(outcome)
            } else {
                // A server's own output: as it printed it.
                outcome.trim_end().to_owned()
            };
            f.write_str(&lines.replace('\n', "\n                 "))?;
        }
        if self.missing {
            write!(
                f,
                "\n  on Debian      apt-get install {}\n  on macOS       brew install {}",
                self.backend.debian_package(),
                self.backend.brew_formula()
            )?;
            write!(
                f,
                "\n  one that runs  {}={}",
                self.backend.address_variable(),
                self.backend
                    .url(&format!("HOST:{}", self.backend.default_port()))
            )?;
        }
        Ok(())
    }
}

/// Breaks lines between words, so that they fit beside the column of sources.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 80 - 17;
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let mut current = String::new();
        for word in line.split_whitespace() {
            let length = current.chars().count() + 1 + word.chars().count();
            if !current.is_empty() && length > WIDTH {
                lines.push(std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_fits_eighty_columns_and_names_packages_and_variable() {
        for backend in Backend::ALL {
            let message = Unavailable::missing(
                backend,
                vec![Attempt {
                    source: Source::Binary,
                    outcome: "first\nsecond".to_owned(),
                }],
            )
            .to_string();
            assert!(message.contains(backend.debian_package()), "{message}");
            assert!(message.contains(backend.brew_formula()), "{message}");
            assert!(message.contains(backend.address_variable()), "{message}");
            assert!(message.contains("\n                 second"), "{message}");
            for line in message.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn a_server_that_is_there_and_does_not_work_is_always_a_failure() {
        assert!(Unavailable::broken(Backend::Redis, Vec::new()).required());
    }
}
