//! A server as a container, for machines with an engine and without the server.
//!
//! It is started by `start-containers`, a program of its own, which is where `testcontainers` is:
//! its hundred packages stay out of what every lab is built with. The runner builds and starts the
//! program, and says by [`CONTAINERS_VARIABLE`] where it listens. It removes a container once the
//! connection that ordered it ends, however this process ends.
//!
//! What `testcontainers` does not offer (pause, kill, restart on the same port, new files) goes to
//! the engine itself.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Backend;
use crate::engine::Engine;
use crate::order::{Answer, LogOrder, Network, Order};
use crate::ports::PortBlock;
use crate::running::Miss;

/// The variable that names the socket of a running `start-containers`.
pub const CONTAINERS_VARIABLE: &str = "NIGHTSHIFT_CONTAINERS";

const READY_WITHIN: Duration = Duration::from_secs(60);
const ENGINE_PATIENCE: Duration = Duration::from_secs(20);
const ATTEMPTS: usize = 5;
/// Files that a server reads lie below this folder.
const FOLDER: &str = "/nightshift";
const LOG_TAIL_LINES: usize = 20;

type Command = dyn Fn(&str) -> Vec<String>;

/// How one kind of server is run in a container.
pub(crate) struct Layout {
    /// The command, given the address on which the server shall listen.
    pub(crate) command: Box<Command>,
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    /// Relative to the folder that [`folder`] names.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether the server has to reach the loopback interface of this machine, where the checks
    /// listen. Only engines on Linux can offer that.
    pub(crate) reaches_loopback: bool,
}

impl Layout {
    pub(crate) fn new(command: impl Fn(&str) -> Vec<String> + 'static) -> Self {
        Self {
            command: Box::new(command),
            environment: Vec::new(),
            files: Vec::new(),
            reaches_loopback: false,
        }
    }
}

/// The folder, inside of the container, with the files of its layout.
pub(crate) fn folder() -> &'static Path {
    Path::new(FOLDER)
}

/// A running container. Removed on drop.
pub(crate) struct Container {
    engine: Engine,
    id: String,
    address: String,
    probe: fn(&str, Duration) -> Result<(), String>,
    keeper: Mutex<Keeper>,
    _ports: PortBlock,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("engine", &self.engine)
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Container {
    /// Starts a container and waits until its server answers. An image that the engine lacks is
    /// pulled, as `docker run` would.
    pub(crate) fn start(
        backend: Backend,
        layout: &Layout,
        probe: fn(&str, Duration) -> Result<(), String>,
    ) -> Result<Self, Miss> {
        let socket = env::var_os(CONTAINERS_VARIABLE).ok_or_else(|| {
            Miss::Absent(format!(
                "{CONTAINERS_VARIABLE} is not set; `cargo xtask` starts containers where an engine \
                 answers"
            ))
        })?;
        let engine = Engine::from_environment().ok_or_else(|| {
            Miss::Absent("DOCKER_HOST is not set, and no engine's socket is there".to_owned())
        })?;
        engine
            .version(ENGINE_PATIENCE)
            .map_err(|error| Miss::Absent(format!("{engine} does not answer: {error}")))?;
        let image = env::var(backend.image_variable())
            .ok()
            .filter(|image| !image.is_empty())
            .unwrap_or_else(|| backend.default_image().to_owned());
        let mut attempts_left = ATTEMPTS;
        let (keeper, id, ports) = loop {
            attempts_left -= 1;
            match run(backend, layout, &engine, &image, Path::new(&socket)) {
                Err(Miss::Broken(reason))
                    if attempts_left > 0
                        && (reason.contains("address already in use")
                            || reason.contains("already allocated")) => {}
                outcome => break outcome?,
            }
        };
        let host = match &engine {
            Engine::Tcp(address) => address
                .rsplit_once(':')
                .map_or(address.clone(), |(host, _)| host.to_owned()),
            Engine::Socket(_) | Engine::Other(_) => "127.0.0.1".to_owned(),
        };
        let container = Self {
            engine,
            id,
            address: format!("{host}:{}", ports.main()),
            probe,
            keeper: Mutex::new(keeper),
            _ports: ports,
        };
        container
            .await_ready()
            .map_err(|reason| Miss::Broken(format!("{image} {reason}")))?;
        Ok(container)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn await_ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let Err(reason) = (self.probe)(&self.address, Duration::from_secs(1)) else {
                return Ok(());
            };
            let state = self.ask("GET", "json")?;
            if state.contains("\"Running\":false") {
                return Err(format!("ended by itself; its last output:\n{}", self.log()));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "is not ready after {} s: {reason}; its last output:\n{}",
                    READY_WITHIN.as_secs(),
                    self.log()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, method: &str, verb: &str) -> Result<String, String> {
        let path = format!("/containers/{}/{verb}", self.id);
        let answer = self
            .engine
            .request(method, &path, None, ENGINE_PATIENCE)
            .map_err(|error| error.to_string())?;
        if answer.is_success() || answer.status == 304 {
            Ok(answer.body)
        } else {
            Err(answer.body.trim().to_owned())
        }
    }

    pub(crate) fn log(&self) -> String {
        let mut keeper = self.keeper.lock().unwrap_or_else(|held| held.into_inner());
        let text: String = keeper.ask(&LogOrder).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    pub(crate) fn pause(&self) -> Result<(), String> {
        self.ask("POST", "pause").map(drop)
    }

    pub(crate) fn resume(&self) -> Result<(), String> {
        if self.ask("GET", "json")?.contains("\"Paused\":true") {
            self.ask("POST", "unpause")?;
        }
        Ok(())
    }

    pub(crate) fn kill(&self) -> Result<(), String> {
        self.ask("POST", "kill")?;
        self.ask("POST", "wait").map(drop)
    }

    pub(crate) fn restart(&self) -> Result<(), String> {
        self.resume()?;
        self.ask("POST", "restart?t=5")?;
        self.await_ready()
    }

    /// Puts a file where the server reads it. The engine takes files as archives only.
    pub(crate) fn write_file(&self, name: &Path, contents: &str) -> Result<(), String> {
        let path = format!("/containers/{}/archive?path=/", self.id);
        let archive = archive_of_one(&folder().join(name), contents.as_bytes())?;
        let content = Some(("application/x-tar", archive.as_slice()));
        let answer = self
            .engine
            .request("PUT", &path, content, ENGINE_PATIENCE)
            .map_err(|error| error.to_string())?;
        if answer.is_success() {
            Ok(())
        } else {
            Err(answer.body.trim().to_owned())
        }
    }
}

fn run(
    backend: Backend,
    layout: &Layout,
    engine: &Engine,
    image: &str,
    socket: &Path,
) -> Result<(Keeper, String, PortBlock), Miss> {
    let ports = PortBlock::lease()
        .map_err(|error| Miss::Broken(format!("no free loopback port: {error}")))?;
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    };
    let inside = backend.default_port();
    let local = engine.is_on_this_machine();
    let on_host = layout.reaches_loopback && cfg!(target_os = "linux") && local;
    let listen = if on_host {
        format!("127.0.0.1:{}", ports.main())
    } else {
        format!("0.0.0.0:{inside}")
    };
    let order = Order {
        image: name.to_owned(),
        tag: tag.to_owned(),
        label: backend.slug().to_owned(),
        command: (layout.command)(&listen),
        environment: layout
            .environment
            .iter()
            .map(|&(variable, value)| (variable.to_owned(), value.to_owned()))
            .collect(),
        files: layout
            .files
            .iter()
            .map(|(file, contents)| {
                let target = folder().join(file).to_string_lossy().into_owned();
                (target, contents.clone())
            })
            .collect(),
        network: if on_host {
            Network::Host
        } else {
            Network::Published {
                port: ports.main(),
                inside,
                on_loopback: local,
            }
        },
    };
    let mut keeper = Keeper::at(socket)
        .map_err(|error| Miss::Broken(format!("{} does not answer: {error}", socket.display())))?;
    match keeper.ask(&order) {
        Ok(Answer::Started { id }) => Ok((keeper, id, ports)),
        Ok(Answer::Absent(reason)) => Err(Miss::Absent(reason)),
        Ok(Answer::Broken(reason)) => Err(Miss::Broken(reason)),
        Err(error) => Err(Miss::Broken(format!(
            "what starts containers ended in the middle of it: {error}"
        ))),
    }
}

/// The connection to `start-containers` for as long as which one container exists.
struct Keeper(BufReader<UnixStream>);

impl Keeper {
    fn at(socket: &Path) -> io::Result<Self> {
        UnixStream::connect(socket).map(|stream| Keeper(BufReader::new(stream)))
    }

    fn ask<A: DeserializeOwned>(&mut self, question: &impl Serialize) -> io::Result<A> {
        let mut line = serde_json::to_string(question)?;
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes())?;
        line.clear();
        self.0.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Keeper {
    /// Waits until the container is removed.
    fn drop(&mut self) {
        let stream = self.0.get_mut();
        let _ = stream.set_read_timeout(Some(ENGINE_PATIENCE));
        if stream.shutdown(Shutdown::Write).is_ok() {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
}

/// A tar archive (POSIX ustar) with a single file.
fn archive_of_one(path: &Path, contents: &[u8]) -> Result<Vec<u8>, String> {
    const BLOCK: usize = 512;
    let name = path
        .strip_prefix("/")
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    if name.len() > 99 {
        return Err(format!("the name {name} is longer than 99 bytes"));
    }
    let mut header = [0_u8; BLOCK];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", contents.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    Ok(archive)
}
