//! PostgreSQL on a fresh cluster, with user and database `postgres` and no password.
//!
//! Its disk writes are not synchronized: data survives a killed server, not a crashed machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::process::{Account, Failure, Process, Recipe, Site, retrying};
use crate::running::{Plan, Running, server_handle};
use crate::{Backend, Unavailable, locate, probe};

/// Settings that trade safety against a crashed machine for speed, and leave nothing outside of
/// the data folder. `synchronous_commit` stays on: off, a killed server loses committed rows, and
/// without fsync it costs next to nothing.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("dynamic_shared_memory_type", "mmap"),
    ("unix_socket_directories", ""),
    ("logging_collector", "off"),
];

/// A running PostgreSQL. Stops on drop, unless the environment named it.
#[derive(Debug)]
pub struct Postgres {
    running: Running,
}

server_handle!(Postgres);

impl Postgres {
    /// Gets a PostgreSQL and waits until it accepts a session.
    ///
    /// # Errors
    /// When no source has one, or when the one there is does not come up.
    pub fn start() -> Result<Self, Unavailable> {
        Self::start_with(&[])
    }

    /// The same with settings, such as `("max_connections", "5")`. They do not reach a server that
    /// the environment names.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, Unavailable> {
        let settings: Vec<String> = SETTINGS
            .iter()
            .chain(settings)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let binary = |program: &Path| {
            let initdb = program.with_file_name("initdb");
            if !locate::is_executable(&initdb) {
                return Err(Failure::Broken(format!(
                    "{} has no initdb beside it; install the whole server package",
                    program.display()
                )));
            }
            let account = unprivileged_account()?;
            retrying(|| {
                let site = Site::new(Backend::Postgres, account.as_ref())?;
                let server = Server {
                    program: program.to_owned(),
                    initdb: initdb.clone(),
                    account: account.clone(),
                    settings: settings.clone(),
                };
                Process::start(Box::new(server), site)
            })
        };
        let running = Running::resolve(&Plan {
            backend: Backend::Postgres,
            probe: probe::postgres,
            binary: &binary,
            container: container_layout(&settings),
        })?;
        Ok(Self { running })
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged_account() -> Result<Option<Account>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    Account::named(&["postgres", "_postgres", "nobody"])
        .map(Some)
        .ok_or_else(|| {
            Failure::Broken(
                "it does not run as root, and there is no account postgres or nobody".to_owned(),
            )
        })
}

fn container_layout(settings: &[String]) -> crate::container::Layout {
    let mut command = vec!["postgres".to_owned()];
    for setting in settings {
        // The image prepares its cluster through a socket in the usual place.
        if !setting.starts_with("unix_socket_directories=") {
            command.extend(["-c".to_owned(), setting.clone()]);
        }
    }
    crate::container::Layout {
        environment: vec![("POSTGRES_HOST_AUTH_METHOD", "trust")],
        ..crate::container::Layout::new(move |_| command.clone())
    }
}

#[derive(Debug)]
struct Server {
    program: PathBuf,
    initdb: PathBuf,
    account: Option<Account>,
    settings: Vec<String>,
}

impl Recipe for Server {
    fn program(&self) -> &Path {
        &self.program
    }

    fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// "Immediate shutdown": the parent ends its children, which have sessions of their own, and
    /// gives back the shared memory.
    fn stop_signal(&self) -> Signal {
        Signal::QUIT
    }

    /// "Fast shutdown": sessions are cut, data is kept. The polite one waits for every client.
    fn restart_signal(&self) -> Signal {
        Signal::INT
    }

    fn preparation(&self, site: &Site) -> Option<(PathBuf, Vec<OsString>)> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), site.data().into()];
        arguments.extend(
            [
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
            ]
            .map(OsString::from),
        );
        Some((self.initdb.clone(), arguments))
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), site.data().into()];
        let place = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", site.ports().main()),
        ];
        for setting in place.iter().chain(&self.settings) {
            arguments.extend(["-c".into(), setting.into()]);
        }
        arguments
    }

    fn probe(&self, address: &str) -> Result<(), String> {
        probe::postgres(address, Duration::from_secs(1))
    }
}
