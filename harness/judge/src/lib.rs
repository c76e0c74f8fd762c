//! Runs one check in a process of its own, within limits, and says how it ended.
//!
//! A check is a libtest `#[test]` whose body is handed to `kit::check`. Nothing that the code under
//! test does may hang, crash or fool the runner: a deadlock, an endless loop, an abort, an early
//! `exit(0)`, a flood of output each end in one [`Verdict`] with a sentence for a person, and no
//! process that the check started is left behind. How:
//!
//! - Between the runner and each check stands a supervisor, which is this program started again:
//!   `main` has to begin with [`supervise_if_asked`]. It kills by looking at its own children, so
//!   the runner may have other children, such as cargo, and any number of checks at once.
//! - A pass is believed only with the secret that the check was given, see `kit::protocol`.
//!
//! Not for trust in hostile code: a check has all rights of its user. What is prevented is what
//! broken code does by accident, and cheap tricks. On systems other than Linux the limit of memory
//! and the search for processes that have left the check's process group are missing.

mod captured;
mod conclusion;
mod last_words;
mod processes;
mod supervisor;
mod verdict;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kit::environment::{FIXED, is_kept};
use kit::protocol::{FIGURES_FILE, FIXTURE_DIR, LAB_DIR, Nonce, Record, SEED, VERDICT_FILE};
use kit::seed::Seed;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};

pub use captured::Captured;
pub use supervisor::ProcessEnd;
pub use verdict::Verdict;

use conclusion::{Evidence, shown};
use supervisor::{Ended, Order, Outcome, Report, SUPERVISE};

/// How long a supervisor may need to clean up after the limit of time, before it counts as lost.
const GRACE: Duration = Duration::from_secs(3);
/// What the records of a check take at least, in bytes.
#[cfg(target_os = "linux")]
const RECORDS_RESERVED: u64 = 64 << 10;
/// How much of the end of the records is read, in bytes: a check may write there without end.
const RECORDS_READ: u64 = 4 << 20;
/// A report is below 1 MiB; more than this, in bytes, did not come from a supervisor.
const LONGEST_REPORT: usize = 4 << 20;

/// One check to be run.
#[derive(Clone, Debug)]
pub struct CheckProcess<'a> {
    /// The test binary, as cargo built it.
    pub binary: &'a Path,
    /// The full path of the test in it, such as `check::drains_the_queue`.
    pub test: &'a str,
    /// The folder in which it runs: the package's, as under `cargo test`.
    pub cwd: &'a Path,
    /// Variables that are set in addition to what is kept of the runner's own, see
    /// [`kit::environment`].
    pub environment: Vec<(OsString, OsString)>,
    pub limits: Limits,
    /// Replaces the seeds that the checker names itself.
    pub seed: Option<Seed>,
}

/// What a check may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From the start of the process to its end.
    pub wall: Duration,
    /// Resident memory without file-backed pages, of all processes of the check together, in
    /// bytes. Four times as much may be mapped by each, since thread stacks and arenas are mostly
    /// empty.
    pub memory: u64,
    /// Standard output and standard error together, in bytes.
    pub output: u64,
}

impl Default for Limits {
    /// 15 s, so that the check's own deadline of 10 s comes first; 1 GiB of memory; 16 MiB of
    /// output.
    fn default() -> Self {
        Limits {
            wall: Duration::from_secs(15),
            memory: 1 << 30,
            output: 16 << 20,
        }
    }
}

/// A check that has been run.
#[derive(Clone, Debug)]
pub struct Judged {
    pub verdict: Verdict,
    /// What the check said last that it was about to do.
    pub step: Option<String>,
    /// The seed of the last scenario that the check began.
    pub seed: Option<Seed>,
    /// From the start of the check's process to its end.
    pub took: Duration,
    pub output: Captured,
    /// Resident memory at its highest, in bytes: the larger of what was measured of all processes
    /// together, every 20 ms, and of what the system remembers of the largest of them.
    pub peak_memory: Option<u64>,
}

impl Judged {
    /// What happened, during which step, and, where it helps, what to look for.
    pub fn sentence(&self) -> String {
        self.verdict.sentence_during(self.step.as_deref())
    }
}

/// Trouble of the runner's own, never the check's. Each text completes "could not …".
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(
        "judge a check, since this program's `main` does not begin with `judge::supervise_if_asked`"
    )]
    NoSupervisor,
    #[error("find the test binary {}: build it first", .0.display())]
    NoBinary(PathBuf),
    #[error("find the folder {} to run the check in", .0.display())]
    NoFolder(PathBuf),
    #[error(
        "make a file for the check's records in {}: make room there, or let TMPDIR name another folder",
        folder.display()
    )]
    Records { folder: PathBuf, source: io::Error },
    #[error("draw a random secret for the check")]
    Nonce(#[source] io::Error),
    #[error("start the check's supervisor {}", program.display())]
    Supervisor { program: PathBuf, source: io::Error },
    #[error("start the test binary {}: {reason}", binary.display())]
    Check { binary: PathBuf, reason: String },
    #[error("learn how the check ended, since its supervisor {} ended by {status} without a report", program.display())]
    NoReport {
        program: PathBuf,
        status: ExitStatus,
    },
}

/// The program that is started to be a supervisor, and whether `main` has seen to it.
static SUPERVISOR: OnceLock<io::Result<PathBuf>> = OnceLock::new();

/// To be called by `main` before anything else: turns the process into the supervisor of a check,
/// and does not return, if [`judge`] has started it to be one.
pub fn supervise_if_asked() {
    supervisor::run_if_asked();
    SUPERVISOR.get_or_init(supervisor::this_program);
}

/// Instead of [`supervise_if_asked`], for a program whose `main` is not its own, such as a test:
/// `program` is started to supervise, and its `main` begins with [`supervise_if_asked`]. The first
/// call counts.
pub fn supervise_with(program: impl Into<PathBuf>) {
    SUPERVISOR.get_or_init(|| Ok(program.into()));
}

/// Supervisors that wait for an order.
static WAITING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Starts the supervisors of the next `checks` checks ahead of time, to be called before waiting for
/// a build: while it goes on, this costs nobody anything. Those that are never needed end with this
/// process. Without this call, each check starts its own.
pub fn expect_checks(checks: usize) {
    let Some(Ok(program)) = SUPERVISOR.get() else {
        return;
    };
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    while waiting.len() < checks {
        // What is in the way is told by the first check, which meets it too.
        let Ok(supervisor) = start_supervisor(program) else {
            return;
        };
        waiting.push(supervisor);
    }
}

/// Runs one check and waits for its end: at most its limit of time and some seconds of cleaning up.
///
/// When this returns, no process of the check is left.
///
/// # Errors
/// When the check could not be run at all. Whatever the check does is a [`Verdict`].
pub fn judge(check: &CheckProcess<'_>) -> Result<Judged, JudgeError> {
    let program = match SUPERVISOR.get() {
        Some(Ok(program)) => program,
        Some(Err(error)) => {
            return Err(JudgeError::Supervisor {
                program: PathBuf::from("this program"),
                source: io::Error::new(error.kind(), error.to_string()),
            });
        }
        None => return Err(JudgeError::NoSupervisor),
    };
    let binary = std::path::absolute(check.binary)
        .ok()
        .filter(|binary| binary.is_file())
        .ok_or_else(|| JudgeError::NoBinary(check.binary.to_owned()))?;
    if !check.cwd.is_dir() {
        return Err(JudgeError::NoFolder(check.cwd.to_owned()));
    }
    let records = tempfile::Builder::new()
        .prefix("nightshift-records-")
        .tempfile()
        .and_then(|records| reserve(records.as_file()).map(|()| records))
        .map_err(|source| JudgeError::Records {
            folder: std::env::temp_dir(),
            source,
        })?;
    let nonce = draw_nonce().map_err(JudgeError::Nonce)?;
    let order = Order {
        nonce: nonce.clone(),
        limits: check.limits,
        binary: binary.clone().into(),
        test: check.test.into(),
        cwd: check.cwd.into(),
        environment: environment(check),
        records: records.path().into(),
    };

    let started = Instant::now();
    let mut supervisor = supervisor_for(program).map_err(|source| JudgeError::Supervisor {
        program: program.clone(),
        source,
    })?;
    let give_up = started + check.limits.wall + GRACE;
    let report = read_report(&mut supervisor, &order, give_up);
    if report.is_none() && Instant::now() >= give_up {
        let _ = supervisor.kill();
    }
    // A supervisor whose report is here has nothing left to do but to exit.
    let status = supervisor.wait().map_err(|source| JudgeError::Supervisor {
        program: program.clone(),
        source,
    })?;
    let ended = match report.map(|report| report.outcome) {
        Some(Outcome::Ended(ended)) => ended,
        Some(Outcome::CouldNotStart(reason)) => {
            return Err(JudgeError::Check { binary, reason });
        }
        None => {
            processes::kill_bearers(VERDICT_FILE, records.path().as_os_str());
            let signal = if Instant::now() >= give_up {
                None
            } else {
                match status.signal() {
                    Some(signal) => Some(signal),
                    None => {
                        return Err(JudgeError::NoReport {
                            program: program.clone(),
                            status,
                        });
                    }
                }
            };
            Ended {
                end: ProcessEnd::SupervisorLost(signal),
                took: started.elapsed(),
                peak_memory: None,
                output: Captured::default(),
            }
        }
    };

    let records = read_records(records.path());
    let verdict = Evidence {
        test: check.test,
        records: &records,
        nonce: &nonce,
        end: ended.end,
        output: &ended.output,
        limits: check.limits,
    }
    .verdict();
    Ok(Judged {
        verdict,
        step: records.iter().rev().find_map(|record| match record {
            Record::Step(step) => Some(shown(step)),
            _ => None,
        }),
        seed: records.iter().rev().find_map(|record| match record {
            Record::Seed(seed) => Some(Seed(*seed)),
            _ => None,
        }),
        took: ended.took,
        output: ended.output,
        peak_memory: ended.peak_memory,
    })
}

/// Runs all `checks`, up to `jobs` of them at once, and tells each verdict, with the index of its
/// check, as it comes. The results are in the order of the checks.
///
/// # Errors
/// The first error of [`judge`]; checks that have not begun by then are not run.
pub fn judge_all(
    checks: &[CheckProcess<'_>],
    jobs: usize,
    mut on_verdict: impl FnMut(usize, &Judged),
) -> Result<Vec<Judged>, JudgeError> {
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, checks.len().max(1)) {
            let tell = tell.clone();
            let next = &next;
            scope.spawn(move || {
                while let Some((index, check)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    checks.get(index).map(|check| (index, check))
                } {
                    let result = judge(check);
                    if result.is_err() {
                        next.fetch_max(checks.len(), Ordering::Relaxed);
                    }
                    if tell.send((index, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let mut judged: Vec<Option<Judged>> = checks.iter().map(|_| None).collect();
        let mut first_error = None;
        for (index, result) in told {
            match result {
                Ok(result) => {
                    on_verdict(index, &result);
                    judged[index] = Some(result);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(judged.into_iter().flatten().collect()),
        }
    })
}

/// Makes sure of the room for what a check has to say: on a full disk it would end without a word,
/// and that is the verdict of a check that calls `exit`.
#[cfg(target_os = "linux")]
fn reserve(records: &File) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(records, FallocateFlags::KEEP_SIZE, 0, RECORDS_RESERVED) {
        // Not every file system can.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_records: &File) -> io::Result<()> {
    Ok(())
}

fn draw_nonce() -> io::Result<Nonce> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let nonce = Nonce::from_bytes(bytes);
    Ok(nonce)
}

/// One that waits already, unless something has ended it.
fn supervisor_for(program: &Path) -> io::Result<Child> {
    loop {
        let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match waiting {
            Some(mut supervisor) => {
                if let Ok(None) = supervisor.try_wait() {
                    return Ok(supervisor);
                }
            }
            None => return start_supervisor(program),
        }
    }
}

/// Starts a supervisor, which waits for its order. Its check inherits its environment.
fn start_supervisor(program: &Path) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .arg(SUPERVISE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_handed_down(name)))
        .envs(FIXED);
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        command.env("RUST_BACKTRACE", "0");
    }
    command.spawn()
}

/// What the check's process gets in addition to what its supervisor has.
fn environment(check: &CheckProcess<'_>) -> Vec<(OsString, OsString)> {
    let seed = check
        .seed
        .map(|seed| (SEED.into(), seed.to_string().into()));
    let environment = check.environment.iter().cloned();
    seed.into_iter().chain(environment).collect()
}

/// Whether a check sees a variable of the runner's own: what it needs of the machine, and nothing
/// that only a runner sets.
fn is_handed_down(name: &OsStr) -> bool {
    let set_by_runners = [VERDICT_FILE, SEED, LAB_DIR, FIXTURE_DIR, FIGURES_FILE];
    is_kept(name) && set_by_runners.iter().all(|other| name != *other)
}

/// The supervisor's report; `None` when it ends without one or does not end in time.
fn read_report(supervisor: &mut Child, order: &Order, give_up: Instant) -> Option<Report> {
    // Kept open until the report is here: its end tells the supervisor that the runner is gone.
    let mut stdin = supervisor.stdin.take()?;
    let mut line = serde_json::to_vec(order).ok()?;
    line.push(b'\n');
    stdin.write_all(&line).ok()?;
    let mut stdout = supervisor.stdout.take()?;
    let mut text = Vec::new();
    let mut chunk = [0; 64 * 1024];
    loop {
        let left = give_up.checked_duration_since(Instant::now())?;
        let timeout = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(_) => continue,
            Ok(_) => {}
        }
        let length = stdout.read(&mut chunk).ok()?;
        text.extend_from_slice(&chunk[..length]);
        if length == 0 || chunk[..length].contains(&b'\n') {
            let report = text
                .split(|&byte| byte == b'\n')
                .filter_map(|line| serde_json::from_slice::<Report>(line).ok())
                .find(|report| report.nonce == order.nonce);
            if report.is_some() || length == 0 {
                return report;
            }
        }
        if text.len() > LONGEST_REPORT {
            text.clear();
        }
    }
}

/// The records, from a file that the check may have replaced by anything: only the end of a regular
/// file is read.
fn read_records(path: &Path) -> Vec<Record> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let text = || -> io::Result<Vec<u8>> {
        let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(RECORDS_READ)))?;
        let mut text = Vec::new();
        file.take(RECORDS_READ).read_to_end(&mut text)?;
        Ok(text)
    };
    // What cannot be read is a check that said nothing, and there is a verdict for that.
    Record::read_all(&String::from_utf8_lossy(&text().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_forgets_to_offer_itself_as_supervisor_is_told_so() {
        let check = CheckProcess {
            binary: Path::new("target/check"),
            test: "check::passes",
            cwd: Path::new("."),
            environment: Vec::new(),
            limits: Limits::default(),
            seed: None,
        };
        let error = judge(&check).unwrap_err();
        assert!(matches!(error, JudgeError::NoSupervisor), "{error:?}");
        assert!(
            error.to_string().contains("judge::supervise_if_asked"),
            "{error}"
        );
    }
}
