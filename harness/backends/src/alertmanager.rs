//! Alertmanager with the caller's configuration, which can be replaced while it runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::configured::{self, CONFIGURATION_FOLDER};
use crate::process::{Process, Recipe, Site, retrying};
use crate::running::{Plan, Running, http_handle, server_handle};
use crate::{Backend, Configuration, ControlError, Unavailable, probe};

const MAIN_FILE: &str = "alertmanager.yml";

/// A running Alertmanager. Stops on drop, unless the environment named it.
#[derive(Debug)]
pub struct Alertmanager {
    running: Running,
}

server_handle!(Alertmanager);
http_handle!(Alertmanager);

impl Alertmanager {
    /// Gets an Alertmanager with this configuration and waits until it is ready.
    ///
    /// A server that the environment names keeps its own configuration: look at
    /// [`source`](Self::source) where that matters.
    ///
    /// # Errors
    /// When no source has one, or when the one there is does not come up, for example because the
    /// configuration is wrong; its output is then part of the error.
    pub fn start(configuration: impl Into<Configuration>) -> Result<Self, Unavailable> {
        Self::start_with(configuration, &[])
    }

    /// The same with further flags, such as `--data.retention=1h`. They do not reach a
    /// server that the environment names.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        configuration: impl Into<Configuration>,
        flags: &[&str],
    ) -> Result<Self, Unavailable> {
        let configuration = configuration.into();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let binary = |program: &Path| {
            retrying(|| {
                let server = Server {
                    program: program.to_owned(),
                    configuration: configuration.clone(),
                    flags: flags.clone(),
                };
                Process::start(Box::new(server), Site::new(Backend::Alertmanager, None)?)
            })
        };
        let running = Running::resolve(&Plan {
            backend: Backend::Alertmanager,
            probe: ready,
            binary: &binary,
            container: container_layout(&configuration, &flags),
        })?;
        Ok(Self { running })
    }

    /// Replaces the configuration and waits until the server has taken it.
    ///
    /// # Errors
    /// When the server is not ours, or refuses the configuration and goes on with the old one; the
    /// reason is then in the error.
    pub fn reload(&self, configuration: impl Into<Configuration>) -> Result<(), ControlError> {
        configured::reload(&self.running, &configuration.into(), MAIN_FILE)
    }
}

fn ready(address: &str, patience: Duration) -> Result<(), String> {
    probe::http_ready(address, "/-/ready", patience)
}

fn settings(listen: &str, data: &Path) -> Vec<OsString> {
    vec![
        configured::flag("--storage.path", data),
        format!("--web.listen-address={listen}").into(),
        // Empty is "no cluster"; the default looks for a private address and fails without one.
        "--cluster.listen-address=".into(),
    ]
}

fn container_layout(configuration: &Configuration, flags: &[String]) -> crate::container::Layout {
    configured::container_layout(configuration, MAIN_FILE, flags, settings)
}

#[derive(Debug)]
struct Server {
    program: PathBuf,
    configuration: Configuration,
    flags: Vec<String>,
}

impl Recipe for Server {
    fn program(&self) -> &Path {
        &self.program
    }

    fn folders(&self) -> &'static [&'static str] {
        &["data"]
    }

    fn files(&self) -> Vec<(PathBuf, String)> {
        self.configuration
            .files(Path::new(CONFIGURATION_FOLDER), MAIN_FILE)
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let main = site.folder().join(CONFIGURATION_FOLDER).join(MAIN_FILE);
        let mut arguments = vec![configured::flag("--config.file", &main)];
        arguments.extend(settings(&site.address(), &site.data()));
        arguments.extend(self.flags.iter().map(OsString::from));
        arguments
    }

    fn probe(&self, address: &str) -> Result<(), String> {
        ready(address, Duration::from_secs(1))
    }
}
