//! What this machine has, for a report to its user. Looks and asks for versions; starts no server,
//! and takes a quarter of a second at most.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::{Backend, Source, locate, running};

/// A program that is slower to tell its version is listed without one.
const PATIENCE: Duration = Duration::from_millis(200);

/// Something that checks can make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// One of the servers.
    Server(Backend),
    /// Prometheus' checker of configurations and rules.
    Promtool,
    /// Alertmanager's checker of configurations and routes.
    Amtool,
    /// The command `docker`.
    DockerClient,
    /// The engine that `DOCKER_HOST` or the default socket names.
    DockerEngine,
}

impl Tool {
    /// All of them, in the order in which they are listed for people.
    pub const ALL: [Self; 9] = [
        Self::Server(Backend::Etcd),
        Self::Server(Backend::Redis),
        Self::Server(Backend::Postgres),
        Self::Server(Backend::Prometheus),
        Self::Server(Backend::Alertmanager),
        Self::Promtool,
        Self::Amtool,
        Self::DockerClient,
        Self::DockerEngine,
    ];

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server(backend) => backend.name(),
            Self::Promtool => "promtool",
            Self::Amtool => "amtool",
            Self::DockerClient => "docker",
            Self::DockerEngine => "Docker engine",
        }
    }

    /// The package of Debian and its derivatives.
    #[must_use]
    pub fn debian_package(self) -> &'static str {
        match self {
            Self::Server(backend) => backend.debian_package(),
            Self::Promtool => "prometheus",
            Self::Amtool => "prometheus-alertmanager",
            Self::DockerClient | Self::DockerEngine => "docker.io",
        }
    }

    /// The formula of Homebrew.
    #[must_use]
    pub fn brew_formula(self) -> &'static str {
        match self {
            Self::Server(backend) => backend.brew_formula(),
            Self::Promtool => "prometheus",
            Self::Amtool => "alertmanager",
            Self::DockerClient => "docker",
            Self::DockerEngine => "colima",
        }
    }

    /// Its executable on this machine, in `PATH` or the usual folders.
    #[must_use]
    pub fn locate(self) -> Option<PathBuf> {
        match self {
            Self::Server(backend) => locate::binary(backend.binaries()),
            Self::Promtool => locate::binary(&["promtool"]),
            Self::Amtool => locate::binary(&["amtool"]),
            Self::DockerClient => locate::binary(&["docker"]),
            Self::DockerEngine => None,
        }
    }

    fn look(self) -> Option<Found> {
        match self {
            Self::Server(backend) => named_address(backend).or_else(|| self.look_for_binary()),
            Self::DockerEngine => {
                let engine = Engine::from_environment()?;
                let version = engine.version(PATIENCE).ok()?;
                Some(Found {
                    place: Place::Engine(engine.to_string()),
                    version: Some(version),
                })
            }
            Self::Promtool | Self::Amtool | Self::DockerClient => self.look_for_binary(),
        }
    }

    fn look_for_binary(self) -> Option<Found> {
        let path = self.locate()?;
        Some(Found {
            version: version_of(&path),
            place: Place::Binary(path),
        })
    }
}

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The environment names a server; `answers` says whether one accepts connections there.
    Address {
        /// The URL as it stands in the environment.
        url: String,
        /// Whether somebody accepts connections there.
        answers: bool,
    },
    /// An executable of this machine.
    Binary(PathBuf),
    /// An engine that answers, by its address.
    Engine(String),
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// Its version, as in `3.4.23`, where it told one in time.
    pub version: Option<String>,
}

/// One line of [`discover`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// What was looked for.
    pub tool: Tool,
    /// `None` when it is not there.
    pub found: Option<Found>,
}

/// Whether a check can have this server from a container only: the environment names none, this
/// machine has no binary, and an engine answers. Takes a fifth of a second at most.
#[must_use]
pub fn only_from_a_container(backend: Backend) -> bool {
    let named = env::var(backend.address_variable()).is_ok_and(|url| !url.trim().is_empty());
    let allowed = Source::allowed().unwrap_or_default();
    let may = |source| allowed.contains(&source);
    may(Source::Container)
        && !(may(Source::Address) && named)
        && !(may(Source::Binary) && Tool::Server(backend).locate().is_some())
        && Tool::DockerEngine.look().is_some()
}

/// Looks for everything in [`Tool::ALL`], at once and in that order.
#[must_use]
pub fn discover() -> Vec<Discovery> {
    thread::scope(|scope| {
        let looks = Tool::ALL.map(|tool| (tool, scope.spawn(move || tool.look())));
        looks
            .into_iter()
            .map(|(tool, look)| Discovery {
                tool,
                found: look.join().ok().flatten(),
            })
            .collect()
    })
}

fn named_address(backend: Backend) -> Option<Found> {
    let url = env::var(backend.address_variable()).ok()?.trim().to_owned();
    if url.is_empty() {
        return None;
    }
    let answers = running::accepts(&url, backend, PATIENCE);
    Some(Found {
        place: Place::Address { url, answers },
        version: None,
    })
}

fn version_of(program: &Path) -> Option<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    // Some print it on one stream, some on the other. It is short: it fits the pipe.
    let mut text = String::new();
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    child.stderr.take()?.read_to_string(&mut text).ok()?;
    version_in(&text)
}

/// The first word of the text that looks like a version.
fn version_in(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || c == '=' || c == ',')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_each_program_prints() {
        for (printed, version) in [
            ("etcd Version: 3.4.23\nGit SHA: x", "3.4.23"),
            ("Redis server v=7.0.15 sha=00000000:0", "7.0.15"),
            ("postgres (PostgreSQL) 15.20 (Debian 15.20-0)", "15.20"),
            ("prometheus, version 2.42.0+ds (branch: x)", "2.42.0+ds"),
            ("Docker version 28.2.2, build e6534b4", "28.2.2"),
        ] {
            assert_eq!(version_in(printed).as_deref(), Some(version), "{printed}");
        }
    }
}
