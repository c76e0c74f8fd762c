//! What every handle has in common, wherever its server comes from.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::{Failure, Process};
use crate::{Answer, Attempt, Backend, Source, Unavailable, probe};

/// How long one request to a server may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// A server named by the environment may still be starting, beside the check that uses it.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(1);

/// Why a server could not be paused, resumed, killed or restarted. Completes "could not …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Only a server that was started here may be stopped here.
    #[error(
        "{verb} {backend} at {address}: it comes from {variable}, and only a server that was \
         started here is ours to {verb}",
        variable = backend.address_variable()
    )]
    NotOurs {
        /// What was asked for: `pause`, `resume`, `kill`, `restart` or `reload`.
        verb: &'static str,
        /// Which server.
        backend: Backend,
        /// Its `host:port`.
        address: String,
    },
    /// It is ours, and it did not work.
    #[error("{verb} {backend} at {address}: {reason}")]
    Failed {
        /// What was asked for: `pause`, `resume`, `kill`, `restart` or `reload`.
        verb: &'static str,
        /// Which server.
        backend: Backend,
        /// Its `host:port`.
        address: String,
        /// Why, possibly with the end of the server's output.
        reason: String,
    },
}

#[derive(Debug)]
pub(crate) enum Host {
    Address,
    Process(Box<Process>),
    Container(Box<crate::container::Container>),
}

#[derive(Debug)]
pub(crate) struct Running {
    backend: Backend,
    url: String,
    address: String,
    namespace: String,
    host: Host,
    probe: fn(&str, Duration) -> Result<(), String>,
}

/// What a server needs in order to be run from either of our two sources.
pub(crate) struct Plan<'a> {
    pub(crate) backend: Backend,
    pub(crate) probe: fn(&str, Duration) -> Result<(), String>,
    pub(crate) binary: &'a dyn Fn(&Path) -> Result<Process, Failure>,
    pub(crate) container: crate::container::Layout,
}

impl Running {
    /// Takes the first source that has this server.
    pub(crate) fn resolve(plan: &Plan<'_>) -> Result<Self, Unavailable> {
        let backend = plan.backend;
        let mut tried = Vec::new();
        for source in sources(backend)? {
            let found = match source {
                Source::Address => from_address(plan),
                Source::Binary => from_binary(plan),
                Source::Container => from_container(plan),
            };
            match found {
                Ok(running) => return Ok(running),
                Err(Miss::Absent(outcome)) => tried.push(Attempt { source, outcome }),
                Err(Miss::Broken(outcome)) => {
                    tried.push(Attempt { source, outcome });
                    return Err(Unavailable::broken(backend, tried));
                }
            }
        }
        Err(Unavailable::missing(backend, tried))
    }

    pub(crate) fn of_process(
        backend: Backend,
        process: Process,
        probe: fn(&str, Duration) -> Result<(), String>,
    ) -> Self {
        let address = process.site().address();
        Self {
            backend,
            url: backend.url(&address),
            address,
            namespace: fresh_namespace(),
            host: Host::Process(Box::new(process)),
            probe,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn answers(&self, patience: Duration) -> Result<(), String> {
        (self.probe)(&self.address, patience)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn source(&self) -> Source {
        match self.host {
            Host::Address => Source::Address,
            Host::Process(_) => Source::Binary,
            Host::Container(_) => Source::Container,
        }
    }

    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.host {
            Host::Process(process) => Some(process.site().folder()),
            _ => None,
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Process(process) => process.pid(),
            _ => None,
        }
    }

    pub(crate) fn log(&self) -> String {
        match &self.host {
            Host::Address => String::new(),
            Host::Process(process) => process.log(),
            Host::Container(container) => container.log(),
        }
    }

    /// Hands the caller what it needs to replace a configuration, if the server is ours.
    pub(crate) fn reload(
        &self,
        act: impl FnOnce(Write<'_>, Request<'_>) -> Result<(), String>,
    ) -> Result<(), ControlError> {
        let request = |path: &str| self.request("POST", path, Some(("text/plain", b"")));
        self.control("reload", |host| match host {
            Host::Address => None,
            Host::Process(process) => Some(act(
                &|name, contents| {
                    process
                        .write_file(name, contents)
                        .map_err(|error| error.to_string())
                },
                &request,
            )),
            Host::Container(container) => Some(act(
                &|name, contents| container.write_file(name, contents),
                &request,
            )),
        })
    }

    pub(crate) fn pause(&self) -> Result<(), ControlError> {
        self.control("pause", |host| match host {
            Host::Address => None,
            Host::Process(process) => Some(process.pause()),
            Host::Container(container) => Some(container.pause()),
        })
    }

    pub(crate) fn resume(&self) -> Result<(), ControlError> {
        self.control("resume", |host| match host {
            Host::Address => None,
            Host::Process(process) => Some(process.resume()),
            Host::Container(container) => Some(container.resume()),
        })
    }

    pub(crate) fn kill(&self) -> Result<(), ControlError> {
        self.control("kill", |host| match host {
            Host::Address => None,
            Host::Process(process) => Some(process.kill()),
            Host::Container(container) => Some(container.kill()),
        })
    }

    pub(crate) fn restart(&self) -> Result<(), ControlError> {
        self.control("restart", |host| match host {
            Host::Address => None,
            Host::Process(process) => Some(process.restart()),
            Host::Container(container) => Some(container.restart()),
        })
    }

    fn control(
        &self,
        verb: &'static str,
        act: impl FnOnce(&Host) -> Option<Result<(), String>>,
    ) -> Result<(), ControlError> {
        match act(&self.host) {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(ControlError::Failed {
                verb,
                backend: self.backend,
                address: self.address.clone(),
                reason,
            }),
            None => Err(ControlError::NotOurs {
                verb,
                backend: self.backend,
                address: self.address.clone(),
            }),
        }
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        content: Option<(&str, &[u8])>,
    ) -> io::Result<Answer> {
        probe::http(&self.address, method, path, content, PATIENCE)
    }
}

type Write<'a> = &'a dyn Fn(&Path, &str) -> Result<(), String>;
type Request<'a> = &'a dyn Fn(&str) -> io::Result<Answer>;

pub(crate) enum Miss {
    Absent(String),
    Broken(String),
}

pub(crate) fn sources(backend: Backend) -> Result<Vec<Source>, Unavailable> {
    Source::allowed().map_err(|word| {
        let outcome = format!(
            "{} names {word:?}; it takes address, binary, container",
            crate::SOURCES_VARIABLE
        );
        let source = Source::Address;
        Unavailable::broken(backend, vec![Attempt { source, outcome }])
    })
}

fn from_address(plan: &Plan<'_>) -> Result<Running, Miss> {
    let backend = plan.backend;
    let variable = backend.address_variable();
    let url = env::var(variable)
        .map(|url| url.trim().to_owned())
        .unwrap_or_default();
    if url.is_empty() {
        return Err(Miss::Absent(format!("{variable} is not set")));
    }
    let place = Place::parse(&url, backend.default_port())
        .ok_or_else(|| Miss::Broken(format!("{variable}={url} has no host and port")))?;
    let probe = if place.encrypted {
        probe::accepts
    } else {
        plan.probe
    };
    let deadline = Instant::now() + ADDRESS_PATIENCE;
    loop {
        match probe(&place.address, PATIENCE) {
            Ok(()) => break,
            Err(reason) if Instant::now() > deadline => {
                return Err(Miss::Broken(format!(
                    "{variable}={url} does not answer: {reason}"
                )));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    Ok(Running {
        backend,
        url,
        address: place.address,
        namespace: fresh_namespace(),
        host: Host::Address,
        probe,
    })
}

fn from_binary(plan: &Plan<'_>) -> Result<Running, Miss> {
    let program = crate::locate::binary(plan.backend.binaries()).ok_or_else(|| {
        Miss::Absent(format!("found no {}", plan.backend.binaries().join(" or ")))
    })?;
    match (plan.binary)(&program) {
        Ok(process) => Ok(Running::of_process(plan.backend, process, plan.probe)),
        Err(failure) => Err(Miss::Broken(failure.into_message())),
    }
}

fn from_container(plan: &Plan<'_>) -> Result<Running, Miss> {
    let backend = plan.backend;
    let container = crate::container::Container::start(backend, &plan.container, plan.probe)?;
    let address = container.address().to_owned();
    Ok(Running {
        backend,
        url: backend.url(&address),
        address,
        namespace: fresh_namespace(),
        host: Host::Container(Box::new(container)),
        probe: plan.probe,
    })
}

/// The part of a URL that says where to connect.
struct Place {
    address: String,
    encrypted: bool,
}

impl Place {
    fn parse(url: &str, default_port: u16) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let authority = rest.split(['/', '?', '#', ',']).next()?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = match (host.is_empty(), has_port) {
            (true, _) => return None,
            (false, true) => host.to_owned(),
            (false, false) => format!("{host}:{default_port}"),
        };
        Some(Self {
            address,
            encrypted: matches!(scheme, "https" | "rediss"),
        })
    }
}

/// Whether somebody accepts connections at the URL's host and port.
pub(crate) fn accepts(url: &str, backend: Backend, patience: Duration) -> bool {
    Place::parse(url, backend.default_port())
        .is_some_and(|place| probe::accepts(&place.address, patience).is_ok())
}

/// A name that no other handle has, in this process or elsewhere, since a server named by the
/// environment may be shared by many machines. Letters, digits and underscores, at most 40 of
/// them, a letter first: good as a key prefix, a schema name and a label value alike.
fn fresh_namespace() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let noise = RandomState::new().hash_one((process::id(), number));
    format!("ns_{noise:016x}_{number}")
}

/// The methods that every handle has, over its field `running`.
macro_rules! server_handle {
    ($handle:ident) => {
        impl $handle {
            /// The URL for a client of this server.
            #[must_use]
            pub fn url(&self) -> &str {
                self.running.url()
            }

            /// `host:port`.
            #[must_use]
            pub fn address(&self) -> &str {
                self.running.address()
            }

            /// Asks the server something in its own protocol, for `patience` at most.
            ///
            /// # Errors
            /// What came instead of an answer.
            pub fn answers(&self, patience: std::time::Duration) -> Result<(), String> {
                self.running.answers(patience)
            }

            /// A name that no other handle has: letters, digits, underscores, a letter first, at
            /// most 40 characters. Use it as key prefix or schema name, so that checks that share
            /// a server named by the environment do not meet each other's data.
            #[must_use]
            pub fn namespace(&self) -> &str {
                self.running.namespace()
            }

            /// Where this server comes from.
            #[must_use]
            pub fn source(&self) -> $crate::Source {
                self.running.source()
            }

            /// The folder with the server's data; `None` when it is not on this machine's disk or
            /// not ours.
            #[must_use]
            pub fn data_dir(&self) -> Option<std::path::PathBuf> {
                self.running.folder().map(|folder| folder.join("data"))
            }

            /// The process number of a server that runs as our process, while it runs.
            #[must_use]
            pub fn pid(&self) -> Option<u32> {
                self.running.pid()
            }

            /// The end of the server's output, for messages; empty when it is not ours.
            #[must_use]
            pub fn log(&self) -> String {
                self.running.log()
            }

            /// Stops the server from running, as a long pause of its machine would: connections
            /// stay open and nothing answers.
            ///
            /// # Errors
            /// When the server is not ours, or not running.
            pub fn pause(&self) -> Result<(), $crate::ControlError> {
                self.running.pause()
            }

            /// Lets a paused server go on; does nothing to one that is not paused.
            ///
            /// # Errors
            /// When the server is not ours, or not running.
            pub fn resume(&self) -> Result<(), $crate::ControlError> {
                self.running.resume()
            }

            /// Kills the server with signal 9, without a chance to save anything.
            ///
            /// # Errors
            /// When the server is not ours, or not running.
            pub fn kill(&self) -> Result<(), $crate::ControlError> {
                self.running.kill()
            }

            /// Starts the server again on the same port and data, and waits until it answers.
            /// One that still runs is asked to stop first.
            ///
            /// # Errors
            /// When the server is not ours, or does not come up again.
            pub fn restart(&self) -> Result<(), $crate::ControlError> {
                self.running.restart()
            }
        }
    };
}

/// Plain requests to a server that speaks HTTP.
macro_rules! http_handle {
    ($handle:ident) => {
        impl $handle {
            /// `GET` of a path with its query, as in `/metrics`. Five seconds at most.
            ///
            /// # Errors
            /// When the server cannot be reached or does not answer in time.
            pub fn get(&self, path: &str) -> std::io::Result<$crate::Answer> {
                self.running.request("GET", path, None)
            }

            /// `POST` of a body of the given content type. Five seconds at most.
            ///
            /// # Errors
            /// When the server cannot be reached or does not answer in time.
            pub fn post(
                &self,
                path: &str,
                content_type: &str,
                body: &[u8],
            ) -> std::io::Result<$crate::Answer> {
                self.running
                    .request("POST", path, Some((content_type, body)))
            }
        }
    };
}

pub(crate) use {http_handle, server_handle};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_a_url_is_its_host_and_port_without_its_secrets() {
        for (url, expected) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://a:1,http://b:2", "a:1"),
            ("redis://:pa@ss@cache/0", "cache:6379"),
            ("localhost:7", "localhost:7"),
            ("[::1]:5", "[::1]:5"),
            ("http://[::1]", "[::1]:6379"),
        ] {
            let place = Place::parse(url, 6379).unwrap();
            assert_eq!(place.address, expected, "{url}");
        }
        assert!(Place::parse("http://", 1).is_none());
        assert!(Place::parse("rediss://cache", 1).unwrap().encrypted);
    }

    #[test]
    fn a_namespace_is_unique_and_fits_an_identifier() {
        let all: std::collections::BTreeSet<_> = (0..1000).map(|_| fresh_namespace()).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|name| name.len() <= 40
            && name.starts_with('n')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')));
    }
}
