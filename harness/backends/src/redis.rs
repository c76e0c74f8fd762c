//! Redis without persistence by default: what is killed is forgotten, as with a cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Process, Recipe, Site, retrying};
use crate::running::{Plan, Running, server_handle};
use crate::{Backend, Unavailable, probe};

/// A running Redis. Stops on drop, unless the environment named it.
#[derive(Debug)]
pub struct Redis {
    running: Running,
}

server_handle!(Redis);

impl Redis {
    /// Gets a Redis that keeps nothing on disk, and waits until it answers `PING`.
    ///
    /// # Errors
    /// When no source has one, or when the one there is does not come up.
    pub fn start() -> Result<Self, Unavailable> {
        Self::start_with(&[])
    }

    /// The same with an append-only file that is written before each answer: acknowledged writes
    /// survive [`kill`](Self::kill) and [`restart`](Self::restart).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_durable() -> Result<Self, Unavailable> {
        // `everysec` only delays fsync; the write itself still comes before the answer, and only
        // a crash of the machine would tell the difference.
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"])
    }

    /// The same with further flags, such as `--maxmemory` and `1mb`. They do not reach a server
    /// that the environment names.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(flags: &[&str]) -> Result<Self, Unavailable> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let binary = |program: &Path| {
            retrying(|| {
                let server = Server {
                    program: program.to_owned(),
                    flags: flags.clone(),
                };
                Process::start(Box::new(server), Site::new(Backend::Redis, None)?)
            })
        };
        let running = Running::resolve(&Plan {
            backend: Backend::Redis,
            probe: probe::redis,
            binary: &binary,
            container: container_layout(&flags),
        })?;
        Ok(Self { running })
    }

    /// Sends one command on a connection of its own and returns the first line of the reply with
    /// its type byte, as in `+OK` or `$-1`: enough to look from outside. Five seconds at most.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer in time.
    pub fn command(&self, words: &[&str]) -> std::io::Result<String> {
        probe::redis_command(self.address(), words, crate::running::PATIENCE)
    }
}

const KEEPS_NOTHING: [&str; 4] = ["--save", "", "--appendonly", "no"];

fn container_layout(flags: &[String]) -> crate::container::Layout {
    let flags = flags.to_vec();
    crate::container::Layout::new(move |listen| {
        let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
        let mut command = vec!["redis-server".to_owned()];
        command.extend(["--bind", host, "--protected-mode", "no"].map(str::to_owned));
        command.extend(KEEPS_NOTHING.map(str::to_owned));
        command.extend(flags.iter().cloned());
        command
    })
}

#[derive(Debug)]
struct Server {
    program: PathBuf,
    flags: Vec<String>,
}

impl Recipe for Server {
    fn program(&self) -> &Path {
        &self.program
    }

    fn folders(&self) -> &'static [&'static str] {
        &["data"]
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--bind".into(),
            "127.0.0.1".into(),
            "--port".into(),
            site.ports().main().to_string().into(),
            "--dir".into(),
            site.data().into(),
            "--daemonize".into(),
            "no".into(),
        ];
        arguments.extend(KEEPS_NOTHING.map(OsString::from));
        arguments.extend(self.flags.iter().map(OsString::from));
        arguments
    }

    fn probe(&self, address: &str) -> Result<(), String> {
        probe::redis(address, Duration::from_secs(1))
    }
}
