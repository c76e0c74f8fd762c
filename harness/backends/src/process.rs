//! A server as a private process: its folder, its start, its readiness, its end.
//!
//! Not for servers that daemonize themselves, and not for one-off commands other than the one that
//! prepares a data folder.

use std::env;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process, waitid,
};
use tempfile::TempDir;

use crate::Backend;
use crate::ports::PortBlock;
use crate::watchdog::Watchdog;

/// How long a server may take until it answers. Seconds on an idle machine, far more on a loaded
/// one: it bounds a hang and is not meant to be reached.
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
const ATTEMPTS: usize = 5;
/// How much of a server's output goes into an error.
const LOG_TAIL_LINES: usize = 20;
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// Waits for permission before it becomes the server, so that the watchdog knows the process
/// before it does anything. Raises soft limits to the hard ones: a runner that bounds a check's
/// memory or time means the check, and Go programs reserve far more memory than they use.
const GATE: &str = r#"
ulimit -S -v "$(ulimit -H -v)" 2>/dev/null
ulimit -S -t "$(ulimit -H -t)" 2>/dev/null
read -r _ || exit 125
exec "$@" </dev/null
"#;

/// How one kind of server is run.
pub(crate) trait Recipe: Debug + Send + Sync {
    fn program(&self) -> &Path;
    /// The account to run as, where it must not be ours.
    fn account(&self) -> Option<&Account> {
        None
    }
    /// The signal after which the server leaves nothing behind.
    fn stop_signal(&self) -> Signal {
        Signal::KILL
    }
    /// The signal after which the server ends soon and keeps its data.
    fn restart_signal(&self) -> Signal {
        Signal::TERM
    }
    /// A command that fills the data folder before the first start.
    fn preparation(&self, _site: &Site) -> Option<(PathBuf, Vec<OsString>)> {
        None
    }
    /// Folders that must exist before the start.
    fn folders(&self) -> &'static [&'static str] {
        &[]
    }
    /// Files that the server reads, as paths relative to its folder, and their contents.
    fn files(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }
    fn arguments(&self, site: &Site) -> Vec<OsString>;
    /// Whether the server at this address answers its own protocol.
    fn probe(&self, address: &str) -> Result<(), String>;
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody took the port between the lease and the start: worth another attempt.
    PortTaken(String),
    Broken(String),
}

impl Failure {
    pub(crate) fn into_message(self) -> String {
        match self {
            Self::PortTaken(message) | Self::Broken(message) => message,
        }
    }
}

/// Repeats a start for as long as it fails by a taken port.
pub(crate) fn retrying<T>(mut start: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempts_left = ATTEMPTS;
    loop {
        attempts_left -= 1;
        match start() {
            Err(Failure::PortTaken(_)) if attempts_left > 0 => {}
            outcome => return outcome,
        }
    }
}

/// An account to run as instead of root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The first of these accounts that the machine has.
    pub(crate) fn named(names: &[&str]) -> Option<Self> {
        let accounts = fs::read_to_string("/etc/passwd").ok()?;
        names.iter().find_map(|wanted| {
            accounts.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == *wanted).then_some(())?;
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                Some(Self { uid, gid })
            })
        })
    }
}

/// What a server owns on this machine: a folder of its own and its ports.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    ports: PortBlock,
}

impl Site {
    pub(crate) fn new(backend: Backend, account: Option<&Account>) -> Result<Self, Failure> {
        let broken = |what: &str, error: io::Error| Failure::Broken(format!("{what}: {error}"));
        let ports = PortBlock::lease().map_err(|error| broken("no free loopback port", error))?;
        let parent = temporary_parent(account.is_some());
        let folder = tempfile::Builder::new()
            .prefix(&format!("nightshift-{}-", backend.slug()))
            .tempdir_in(&parent)
            .map_err(|error| {
                broken(
                    &format!("no temporary folder in {}", parent.display()),
                    error,
                )
            })?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))
            .map_err(|error| broken("temporary folder", error))?;
        if let Some(account) = account {
            chown(folder.path(), Some(account.uid), Some(account.gid))
                .map_err(|error| broken("temporary folder", error))?;
        }
        Ok(Self { folder, ports })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    pub(crate) fn ports(&self) -> &PortBlock {
        &self.ports
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.main())
    }
}

/// Another account can use a folder only if it may enter all of those above it.
fn temporary_parent(for_another_account: bool) -> PathBuf {
    let parent = env::temp_dir();
    let open_to_all = || {
        parent.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
        })
    };
    if for_another_account && !open_to_all() {
        PathBuf::from("/tmp")
    } else {
        parent
    }
}

#[derive(Debug, Default)]
struct State {
    /// `None` between a kill and a restart.
    server: Option<Child>,
    /// Processes outside of the server's group that a pause stopped along with it.
    paused: Vec<Pid>,
}

/// A running server of ours. Stops with its children, and removes its folder, on drop.
#[derive(Debug)]
pub(crate) struct Process {
    recipe: Box<dyn Recipe>,
    state: Mutex<State>,
    // Before the watchdog, so that the folder is gone when the watchdog is let go.
    site: Site,
    watchdog: Watchdog,
}

impl Process {
    /// Starts the server and does not wait until it answers.
    pub(crate) fn spawn(recipe: Box<dyn Recipe>, site: Site) -> Result<Self, Failure> {
        let watchdog = Watchdog::over(site.folder())
            .map_err(|error| Failure::Broken(format!("/bin/sh does not start: {error}")))?;
        let process = Self {
            recipe,
            state: Mutex::default(),
            site,
            watchdog,
        };
        for name in process.recipe.folders() {
            fs::create_dir_all(process.site.folder().join(name))
                .map_err(|error| Failure::Broken(format!("{name}: {error}")))?;
        }
        for (name, contents) in process.recipe.files() {
            process
                .write_file(&name, &contents)
                .map_err(|error| Failure::Broken(format!("{}: {error}", name.display())))?;
        }
        if let Some((program, arguments)) = process.recipe.preparation(&process.site) {
            let mut child = process.run(&program, &arguments)?;
            let status = child.wait();
            process.forget(&child);
            match status {
                Ok(status) if status.success() => {}
                Ok(status) => return Err(process.failure(&program, &ended(status))),
                Err(error) => return Err(process.failure(&program, &error.to_string())),
            }
        }
        process.launch(&mut process.state())?;
        Ok(process)
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(recipe: Box<dyn Recipe>, site: Site) -> Result<Self, Failure> {
        let process = Self::spawn(recipe, site)?;
        process.await_ready()?;
        Ok(process)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn launch(&self, state: &mut State) -> Result<(), Failure> {
        let arguments = self.recipe.arguments(&self.site);
        state.server = Some(self.run(self.recipe.program(), &arguments)?);
        Ok(())
    }

    /// Runs a command in a process group of its own that ends with this process.
    fn run(&self, program: &Path, arguments: &[OsString]) -> Result<Child, Failure> {
        let describe = |error: io::Error| {
            Failure::Broken(format!("{} does not start: {error}", program.display()))
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.site.log())
            .map_err(describe)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", GATE, "nightshift-gate"])
            .arg(program)
            .args(arguments)
            .current_dir(self.site.folder())
            // Servers read their own variables (ETCD_*, PG*, proxies), and a learner's shell may
            // have them set.
            .env_clear()
            .envs(kept_environment())
            .env("HOME", self.site.folder())
            .env("LC_ALL", "C")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(describe)?)
            .stderr(log);
        if let Some(account) = self.recipe.account() {
            command.uid(account.uid).gid(account.gid);
        }
        let mut child = command.spawn().map_err(describe)?;
        let watched = self
            .watchdog
            .watch(Pid::from_child(&child), self.recipe.stop_signal());
        let opened = watched.and_then(|()| match child.stdin.take() {
            Some(mut gate) => gate.write_all(b"go\n"),
            None => Ok(()),
        });
        match opened {
            Ok(()) => Ok(child),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                self.forget(&child);
                Err(describe(error))
            }
        }
    }

    fn forget(&self, child: &Child) {
        // A watchdog that is gone has nothing to forget.
        let _ = self.watchdog.forget(Pid::from_child(child));
    }

    /// The server's exit status if it has ended by itself.
    fn exit_status(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        let status = state.server.as_mut()?.try_wait().ok()??;
        if let Some(child) = state.server.take() {
            self.forget(&child);
        }
        Some(status)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.exit_status();
        self.state().server.as_ref().map(Child::id)
    }

    /// Waits until the server answers its own protocol.
    pub(crate) fn await_ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        let address = self.site.address();
        loop {
            let probed = self.recipe.probe(&address);
            // Asked after the probe: what answered on the port of a dead server was not ours.
            if let Some(status) = self.exit_status() {
                return Err(self.failure(self.recipe.program(), &ended(status)));
            }
            match probed {
                Ok(()) => return Ok(()),
                Err(reason) if Instant::now() > deadline => {
                    let reason =
                        format!("is not ready after {} s: {reason}", READY_WITHIN.as_secs());
                    return Err(self.failure(self.recipe.program(), &reason));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    fn failure(&self, program: &Path, what: &str) -> Failure {
        let log = self.log();
        let message = if log.is_empty() {
            format!("{} {what}, and printed nothing", program.display())
        } else {
            format!("{} {what}; its last output:\n{log}", program.display())
        };
        if log.to_ascii_lowercase().contains("address already in use") {
            Failure::PortTaken(message)
        } else {
            Failure::Broken(message)
        }
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// Writes a file that the server reads, readable for the account that it runs as.
    pub(crate) fn write_file(&self, name: &Path, contents: &str) -> io::Result<()> {
        let path = self.site.folder().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, contents)?;
        match self.recipe.account() {
            Some(account) => chown(&path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }

    /// The end of the server's output.
    pub(crate) fn log(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.site.log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Stops the server from running at all, as a long pause of its machine would.
    pub(crate) fn pause(&self) -> Result<(), String> {
        let mut state = self.state();
        let leader = leader(&state)?;
        kill_process_group(leader, Signal::STOP).map_err(|error| error.to_string())?;
        await_stopped(leader);
        for child in strangers(leader) {
            // Told to the watchdog: nobody else would wake it to let it end.
            let _ = self.watchdog.watch(child, Signal::KILL);
            if kill_process(child, Signal::STOP).is_ok() {
                state.paused.push(child);
            }
        }
        Ok(())
    }

    /// Lets a paused server go on. No error if it was not paused.
    pub(crate) fn resume(&self) -> Result<(), String> {
        let mut state = self.state();
        let leader = leader(&state)?;
        self.wake(&mut state, leader);
        Ok(())
    }

    fn wake(&self, state: &mut State, leader: Pid) {
        for child in state.paused.drain(..) {
            let _ = kill_process(child, Signal::CONT);
            let _ = self.watchdog.forget(child);
        }
        let _ = kill_process_group(leader, Signal::CONT);
    }

    /// Kills the server and all of its children at once, as a power cut would.
    pub(crate) fn kill(&self) -> Result<(), String> {
        let mut state = self.state();
        leader(&state)?;
        self.end(&mut state, Signal::KILL);
        Ok(())
    }

    /// Starts the server again in the same folder, on the same ports; stops it before if it runs.
    pub(crate) fn restart(&self) -> Result<(), String> {
        {
            let mut state = self.state();
            self.end(&mut state, self.recipe.restart_signal());
            self.launch(&mut state).map_err(Failure::into_message)?;
        }
        self.await_ready().map_err(Failure::into_message)
    }

    fn end(&self, state: &mut State, signal: Signal) {
        let Some(mut child) = state.server.take() else {
            return;
        };
        let leader = Pid::from_child(&child);
        let mut others = Vec::new();
        if signal == Signal::KILL {
            // Stopped first, so that it has no child that we do not know.
            let _ = kill_process_group(leader, Signal::STOP);
            await_stopped(leader);
            others = strangers(leader);
        }
        let _ = kill_process_group(leader, signal);
        for other in &others {
            let _ = kill_process(*other, Signal::KILL);
        }
        self.wake(state, leader);
        if !ends_within(&mut child, STOPPED_WITHIN) {
            others.extend(strangers(leader));
            let _ = kill_process_group(leader, Signal::KILL);
            ends_within(&mut child, STOPPED_WITHIN);
        }
        for other in &others {
            let _ = kill_process(*other, Signal::KILL);
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        while others.iter().any(|other| has_not_ended(*other)) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        self.forget(&child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut state = self.state();
        self.end(&mut state, self.recipe.stop_signal());
    }
}

fn leader(state: &State) -> Result<Pid, String> {
    state
        .server
        .as_ref()
        .map(Pid::from_child)
        .ok_or_else(|| "it is not running".to_owned())
}

fn ended(status: ExitStatus) -> String {
    format!("ended by itself ({status})")
}

fn kept_environment() -> impl Iterator<Item = (OsString, OsString)> {
    ["PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"]
        .into_iter()
        .filter_map(|name| Some((OsString::from(name), env::var_os(name)?)))
}

fn ends_within(child: &mut Child, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A signal is delivered some time after `kill` returns; this waits until it has had its effect.
fn await_stopped(child: Pid) {
    let deadline = Instant::now() + Duration::from_secs(1);
    let options = WaitIdOptions::STOPPED
        | WaitIdOptions::EXITED
        | WaitIdOptions::NOWAIT
        | WaitIdOptions::NOHANG;
    while let Ok(None) = waitid(WaitId::Pid(child), options) {
        if Instant::now() > deadline {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Descendants, which may have left the server's process group: each process of PostgreSQL leads a
/// session of its own.
fn strangers(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
    let mut family = vec![ancestor.as_raw_nonzero().get()];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(
            parents
                .iter()
                .filter(|(_, its_parent)| *its_parent == parent)
                .map(|(process, _)| *process),
        );
        next += 1;
    }
    family
        .into_iter()
        .skip(1)
        .filter_map(Pid::from_raw)
        .collect()
}

/// A zombie has ended; where the first process of a container is slow to reap orphans, it stays
/// in the table for seconds.
fn has_not_ended(process: Pid) -> bool {
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    let is_zombie = fs::read_to_string(stat).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" Z"))
    });
    !is_zombie && test_kill_process(process).is_ok()
}

/// Every process of this machine with its parent.
fn parents() -> Vec<(i32, i32)> {
    if Path::new("/proc/self/stat").exists() {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let process = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                // The command's name stands in parentheses and may hold anything.
                let (_, after_name) = stat.rsplit_once(')')?;
                let parent = after_name.split_ascii_whitespace().nth(1)?.parse().ok()?;
                Some((process, parent))
            })
            .collect()
    } else {
        let table = Command::new("/bin/ps")
            .args(["-A", "-o", "pid=,ppid="])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        table
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
            })
            .collect()
    }
}
