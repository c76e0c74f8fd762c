//! The program that starts containers for checks, for where a server that they need can be had in no
//! other way: built when it is first needed, and run for as long as this process lives.
//!
//! What is in the containers, and how a check talks to the program, is a matter of `backends`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use backends::CONTAINERS_VARIABLE;

use crate::build;
use crate::catalog::workspace_root;
use crate::manifest::Manifest;
use crate::screen;

/// A build that takes longer than this is the first one, and a word is due.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the program listens, if the checks of this lab need it and it can be started. Whatever is
/// in the way is told once, and leaves those checks to be not run.
pub fn socket_for(manifest: &Manifest) -> Option<&'static Path> {
    static STARTER: OnceLock<Option<Starter>> = OnceLock::new();
    let needed = manifest
        .checks
        .iter()
        .flat_map(|check| &check.needs)
        .any(|server| backends::only_from_a_container(server.backend()));
    // One that the environment names already reaches the checks as it is.
    if !needed || std::env::var_os(CONTAINERS_VARIABLE).is_some() {
        return None;
    }
    let starter = STARTER.get_or_init(|| match Starter::start(&workspace_root()) {
        Ok(starter) => Some(starter),
        Err(error) => {
            screen::note(format!("{error:#}"));
            None
        }
    });
    starter.as_ref().map(|starter| starter.socket.as_path())
}

struct Starter {
    socket: PathBuf,
    /// Its standard input is open for as long as this process lives: at the end of it, the program
    /// removes its containers and its socket, and ends.
    _program: Child,
}

impl Starter {
    fn start(root: &Path) -> Result<Self> {
        let built = build(root).context("could not build what starts containers")?;
        if !built {
            bail!("could not build what starts containers; checks that need one are not run");
        }
        let socket = tempfile::Builder::new()
            .prefix("nightshift-")
            .suffix(".socket")
            .make(|_| Ok(()))
            .and_then(|unused| Ok(unused.into_temp_path().keep()?))
            .context("could not name a socket")?;
        let mut program = cargo("run", root)
            .arg("--")
            .arg(&socket)
            // Ctrl-C at the terminal is for this process; the program has containers to remove.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start cargo, which should be on the PATH")?;
        let mut said = String::new();
        BufReader::new(program.stdout.take().expect("it is piped"))
            .read_line(&mut said)
            .context("could not hear what starts containers")?;
        if said.trim() != "ready" {
            let status = program.wait().context("could not wait for cargo")?;
            bail!("could not start containers: what starts them ended with {status}");
        }
        Ok(Starter {
            socket,
            _program: program,
        })
    }
}

/// Whether it could be built; cargo has said why not.
fn build(root: &Path) -> std::io::Result<bool> {
    let (built, ended) = mpsc::channel();
    let mut command = cargo("build", root);
    thread::spawn(move || {
        let _ = built.send(command.stdin(Stdio::null()).status());
    });
    let status = match ended.recv_timeout(PATIENCE) {
        Ok(status) => status,
        Err(_) => {
            screen::note("building what starts containers; the first time takes some minutes");
            ended.recv().map_err(std::io::Error::other)?
        }
    };
    Ok(status?.success())
}

fn cargo(verb: &str, root: &Path) -> Command {
    let mut cargo = build::cargo();
    cargo
        .args([verb, "--quiet", "--locked", "--manifest-path"])
        .arg(root.join("harness/backends/containers/Cargo.toml"));
    cargo
}
