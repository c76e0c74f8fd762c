//! The container engine, asked over its own socket: is it there, and the few verbs on one
//! container that are needed besides starting it. Not a client for images, builds or networks.

use std::env;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Answer, probe};

/// Where the engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Engine {
    Socket(PathBuf),
    Tcp(String),
    /// An address of a kind that we do not speak, such as `ssh://` or TLS.
    Other(String),
}

impl Engine {
    /// `DOCKER_HOST`, or the first socket that exists among those that engines use by default.
    pub(crate) fn from_environment() -> Option<Self> {
        if let Ok(host) = env::var("DOCKER_HOST")
            && !host.is_empty()
        {
            return Some(if let Some(path) = host.strip_prefix("unix://") {
                Self::Socket(path.into())
            } else if let Some(address) = host.strip_prefix("tcp://")
                && env::var_os("DOCKER_TLS_VERIFY").is_none_or(|value| value.is_empty())
            {
                Self::Tcp(address.trim_end_matches('/').to_owned())
            } else {
                Self::Other(host)
            });
        }
        let under = |variable: &str, rest: &str| {
            env::var_os(variable).map(|folder| PathBuf::from(folder).join(rest))
        };
        [
            Some(PathBuf::from("/var/run/docker.sock")),
            under("XDG_RUNTIME_DIR", "docker.sock"),
            under("XDG_RUNTIME_DIR", ".docker/run/docker.sock"),
            under("HOME", ".docker/run/docker.sock"),
            under("HOME", ".docker/desktop/docker.sock"),
        ]
        .into_iter()
        .flatten()
        .find(|socket| socket.exists())
        .map(Self::Socket)
    }

    /// Whether its loopback interface is ours.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// The engine's version, or why it does not answer.
    pub(crate) fn version(&self, patience: Duration) -> Result<String, String> {
        let answer = self
            .request("GET", "/version", None, patience)
            .map_err(|error| error.to_string())?;
        let (_, after) = answer
            .body
            .split_once("\"Version\":\"")
            .ok_or_else(|| format!("{} {}", answer.status, answer.body.trim()))?;
        Ok(after.split('"').next().unwrap_or_default().to_owned())
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        content: Option<(&str, &[u8])>,
        patience: Duration,
    ) -> io::Result<Answer> {
        match self {
            Self::Socket(path_of_socket) => {
                let mut stream = UnixStream::connect(path_of_socket)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                probe::exchange(&mut stream, "localhost", method, path, content)
            }
            Self::Tcp(address) => {
                let place = address
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
                let mut stream = TcpStream::connect_timeout(&place, patience)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                probe::exchange(&mut stream, address, method, path, content)
            }
            Self::Other(host) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{host} is neither unix:// nor plain tcp://"),
            )),
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Other(host) => f.write_str(host),
        }
    }
}
