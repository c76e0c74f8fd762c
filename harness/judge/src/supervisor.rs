//! The process between the runner and one check.
//!
//! It starts the check in a session of its own, drains its output, holds it to its limits, and at
//! the end kills whatever the check has started, so that no other process of the runner has to
//! tell orphans of a check from children of its own. It knows nothing of verdicts: it reports how
//! the process ended.
//!
//! It is started before it has anything to do, while the checker is still built, and waits for its
//! order. One thread and one `poll`: the cost of this process is added to every check.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kit::protocol::{Nonce, VERDICT_FILE};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Resource, Rlimit};
use serde::{Deserialize, Serialize};

use crate::Limits;
use crate::captured::{Capture, Captured};
use crate::processes;

/// First argument of a program that is started to be a supervisor.
pub(crate) const SUPERVISE: &str = "__supervise";

/// How often the memory of a check is measured. A check that fills memory as fast as the machine
/// can overshoots its limit by what it fills in this time, some 100 MiB.
const MEMORY_EVERY: Duration = Duration::from_millis(20);
/// A measurement may take one part in this many of the time: large trees are measured more rarely.
const MEMORY_SHARE: u32 = 20;
/// How often the end of the check is looked for where no descriptor announces it.
const END_EVERY: Duration = Duration::from_millis(5);
/// Writable private memory that a check may map, as a multiple of what it may fill. The stacks of
/// 2,000 idle threads are 4 GiB mapped and 16 MiB filled; a single absurd allocation is refused.
const MAPPED_TO_FILLED: u64 = 4;
/// The largest file that a check may write.
const FILE_SIZE: u64 = 1 << 30;

/// What a supervisor tells the runner, as one line of JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    /// Repeated from the order, so that a line that the check smuggles in is not mistaken for it.
    pub(crate) nonce: Nonce,
    pub(crate) outcome: Outcome,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Outcome {
    CouldNotStart(String),
    Ended(Ended),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) end: ProcessEnd,
    pub(crate) took: Duration,
    /// Bytes.
    pub(crate) peak_memory: Option<u64>,
    pub(crate) output: Captured,
}

/// How the process of a check ended, whatever the check had said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessEnd {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it, one that the judge did not send.
    Signaled(i32),
    /// The judge killed it at the limit of time.
    OverTime,
    /// The judge killed it at the limit of memory.
    OverMemory,
    /// The judge killed it at the limit of output.
    OverOutput,
    /// The check ended or stopped the process that supervises it; the signal, where it is known.
    SupervisorLost(Option<i32>),
}

/// What a supervisor is told, as one line of JSON on its standard input: the check cannot read it
/// there, and a supervisor can be started before there is anything to tell.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) nonce: Nonce,
    pub(crate) limits: Limits,
    /// An absolute path.
    pub(crate) binary: OsString,
    pub(crate) test: OsString,
    pub(crate) cwd: OsString,
    /// In addition to what the supervisor has itself.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where the check writes its records.
    pub(crate) records: OsString,
}

/// Becomes a supervisor, and does not return, if this process was started to be one.
pub(crate) fn run_if_asked() {
    if std::env::args_os()
        .nth(1)
        .is_none_or(|first| first != SUPERVISE)
    {
        return;
    }
    detach();
    // Without an order the runner is gone, or had nothing to judge after all.
    let Some(order) = order_from_runner() else {
        std::process::exit(0);
    };
    let outcome = match supervise(&order) {
        Ok(Some(ended)) => Outcome::Ended(ended),
        // Nobody is left to read a report, or to remove the file that the runner made.
        Ok(None) => {
            let _ = std::fs::remove_file(&order.records);
            std::process::exit(0)
        }
        Err(error) => Outcome::CouldNotStart(error.to_string()),
    };
    let nonce = order.nonce;
    if let Ok(mut line) = serde_json::to_vec(&Report { nonce, outcome }) {
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    }
    std::process::exit(0);
}

/// Out of reach of the terminal's Ctrl-C and of a check's `kill(0, …)`: the end of the runner is
/// noticed by its end of the pipe, and then there is still time to clean up.
fn detach() {
    let _ = rustix::process::setsid();
    set_signal_mask(AllSignals::Blocked);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// The first line of standard input. The runner writes no second one: all that comes after is the
/// end, which is for [`runner_is_gone`].
fn order_from_runner() -> Option<Order> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while line.last() != Some(&b'\n') {
        match rustix::io::read(io::stdin(), &mut chunk) {
            Ok(0) => return None,
            Ok(length) => line.extend_from_slice(&chunk[..length]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    serde_json::from_slice(&line).ok()
}

/// `None` when the runner is gone and everything has been ended for that reason.
fn supervise(order: &Order) -> io::Result<Option<Ended>> {
    let (output, into_output) = io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let started = Instant::now();
    let check = start(order, into_output)?;
    let mut watch = Watch {
        check,
        started,
        limits: order.limits,
        output: Some(output),
        capture: Capture::default(),
        peak_memory: None,
    };
    let end = watch.until_end();
    let took = started.elapsed();
    processes::end_all(check);
    let Some(end) = end else {
        return Ok(None);
    };
    // All writers are dead: what is in the pipe is all that there will be. Where some could escape,
    // for want of a subreaper, the limit still ends this.
    while watch.capture.total() <= order.limits.output && watch.drain() {}
    let end = match end {
        ProcessEnd::Exited(_) | ProcessEnd::Signaled(_)
            if watch.capture.total() > order.limits.output =>
        {
            ProcessEnd::OverOutput
        }
        end => end,
    };
    Ok(Some(Ended {
        end,
        took,
        peak_memory: watch.peak_memory.max(processes::largest_reaped()),
        output: watch.capture.finish(),
    }))
}

fn start(order: &Order, output: io::PipeWriter) -> io::Result<Pid> {
    let mut command = Command::new(&order.binary);
    command
        .arg(&order.test)
        // A check that is left out of a plain `cargo test` for being slow is asked for by name here.
        .args(["--exact", "--include-ignored", "--nocapture"])
        .arg("--test-threads=1")
        .current_dir(&order.cwd)
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .env(VERDICT_FILE, &order.records)
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(output);
    let supervisor = rustix::process::getpid();
    let memory = order.limits.memory;
    // SAFETY: this process has one thread, and the closure makes system calls only.
    unsafe {
        command.pre_exec(move || confine(supervisor, memory));
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // The check may be dead already, and then it does not need it.
        let _ = writeln!(stdin, "{}", order.nonce);
    }
    Ok(Pid::from_child(&child))
}

/// Runs in the check's process before its program.
fn confine(supervisor: Pid, memory: u64) -> io::Result<()> {
    rustix::process::setsid()?;
    set_signal_mask(AllSignals::Open);
    lower(Resource::Core, 0);
    lower(Resource::Fsize, FILE_SIZE);
    lower(Resource::Data, memory.saturating_mul(MAPPED_TO_FILLED));
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Mode, OFlags};
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // When the machine itself runs out of memory, the check is what should go.
        if let Ok(file) = rustix::fs::open(
            c"/proc/self/oom_score_adj",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            let _ = rustix::io::write(file, b"1000");
        }
    }
    if rustix::process::getppid() == Some(supervisor) {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// A limit that cannot be set is one that the system does not have: what remains are those that
/// the supervisor watches itself.
fn lower(resource: Resource, to: u64) {
    let now = rustix::process::getrlimit(resource);
    let to = now.maximum.map_or(to, |maximum| maximum.min(to));
    let limit = Rlimit {
        current: Some(to),
        maximum: Some(to),
    };
    let _ = rustix::process::setrlimit(resource, limit);
}

enum AllSignals {
    Blocked,
    Open,
}

fn set_signal_mask(signals: AllSignals) {
    // SAFETY: the set is initialized by the first call, and outlives the second.
    unsafe {
        let mut set = std::mem::zeroed();
        match signals {
            AllSignals::Blocked => libc::sigfillset(&raw mut set),
            AllSignals::Open => libc::sigemptyset(&raw mut set),
        };
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

struct Watch {
    check: Pid,
    started: Instant,
    limits: Limits,
    /// `None` once every writer has closed it.
    output: Option<PipeReader>,
    capture: Capture,
    peak_memory: Option<u64>,
}

impl Watch {
    /// Waits for the check to end or to pass a limit; `None` when the runner is gone.
    fn until_end(&mut self) -> Option<ProcessEnd> {
        // Readable when the process ends, where the system has such a thing.
        #[cfg(target_os = "linux")]
        let end =
            rustix::process::pidfd_open(self.check, rustix::process::PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        let end: Option<std::os::fd::OwnedFd> = None;

        let deadline = self.started + self.limits.wall;
        let mut measure_at = self.started + MEMORY_EVERY;
        loop {
            let mut wake_at = deadline.min(measure_at);
            if end.is_none() {
                wake_at = wake_at.min(Instant::now() + END_EVERY);
            }
            let runner_spoke = self.sleep(wake_at, end.as_ref());
            if runner_spoke && runner_is_gone() {
                return None;
            }
            self.drain();
            if let Some(status) = processes::ended(self.check) {
                return Some(match status.exit_status() {
                    Some(code) => ProcessEnd::Exited(code),
                    None => ProcessEnd::Signaled(status.terminating_signal().unwrap_or(0)),
                });
            }
            let now = Instant::now();
            if self.capture.total() > self.limits.output {
                return Some(ProcessEnd::OverOutput);
            }
            if now >= deadline {
                return Some(ProcessEnd::OverTime);
            }
            if now >= measure_at {
                let memory = processes::tree_memory();
                self.peak_memory = self.peak_memory.max(memory);
                if memory.is_some_and(|memory| memory > self.limits.memory) {
                    return Some(ProcessEnd::OverMemory);
                }
                measure_at = Instant::now() + MEMORY_EVERY.max(now.elapsed() * MEMORY_SHARE);
            }
        }
    }

    /// Sleeps until something can be read or `wake_at` has come. Whether the runner's end of
    /// standard input is what woke it.
    fn sleep(&self, wake_at: Instant, end: Option<&std::os::fd::OwnedFd>) -> bool {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(&stdin, PollFlags::IN)];
        if let Some(output) = &self.output {
            fds.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
        }
        if let Some(end) = end {
            fds.push(PollFd::new(end, PollFlags::IN));
        }
        let left = wake_at.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        // An interrupted or failed call is an early wake: the caller looks at everything anyway.
        rustix::event::poll(&mut fds, timeout.as_ref()).is_ok() && !fds[0].revents().is_empty()
    }

    /// Takes what the pipe holds, at most 1 MiB at a time so that an endless output cannot keep the
    /// limits from being looked at. Whether there may be more.
    fn drain(&mut self) -> bool {
        let Some(output) = &mut self.output else {
            return false;
        };
        let mut buffer = [0; 64 * 1024];
        for _ in 0..16 {
            match output.read(&mut buffer) {
                Ok(0) => {
                    self.output = None;
                    return false;
                }
                Ok(length) => self.capture.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Whether the pipe from the runner has ended: it says nothing more after the nonce.
fn runner_is_gone() -> bool {
    let mut byte = [0];
    !matches!(
        rustix::io::read(io::stdin(), &mut byte),
        Ok(1..) | Err(rustix::io::Errno::INTR)
    )
}

/// Where this program can be started again from.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    // The link stays good when the file is replaced by a newer build while this one runs.
    let link = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe()
}
