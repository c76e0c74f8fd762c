//! The one verdict in which a check ends, and the sentence that a person is told.

use std::time::Duration;

use crate::supervisor::ProcessEnd;

/// How a check ended. All texts in it may be printed: they hold no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The check said so with the secret that only it knew, and its process exited with code 0.
    Passed,
    /// The checker saw a symptom.
    Failed { symptom: String },
    /// The learner has not answered the question of this key yet.
    Unanswered { key: String },
    /// Something that the check needs is not on this machine.
    NotRun { reason: String, remedy: String },
    /// The code under test panicked; the location is `file:line:column`.
    Panicked {
        message: String,
        location: Option<String>,
    },
    /// The check did not end, by its own deadline or by the judge's limit.
    TimedOut { after: Duration },
    /// The check's processes filled more memory than `limit`, in bytes, or an allocation failed:
    /// then `asked` is its size, in bytes.
    OutOfMemory { limit: u64, asked: Option<u64> },
    /// A thread used up its stack: the one of this name, or else the check's own.
    StackOverflow { thread: Option<String> },
    /// The process aborted; what the runtime said about the reason, if anything.
    Aborted { message: Option<String> },
    /// A signal ended the process.
    Signaled { signal: i32 },
    /// The process exited before the check had said how it ended.
    ExitedEarly { code: i32 },
    /// More than `limit` bytes were printed.
    Flooded { limit: u64 },
    /// The check ended or stopped the process that supervises it; the signal, where it is known.
    SupervisorLost { signal: Option<i32> },
    /// The check passed, but its process did not survive: a panic in a thread-local's destructor,
    /// an abort in an exit handler.
    EndedBadly {
        end: ProcessEnd,
        message: Option<String>,
    },
    /// The test binary has no test of that name.
    NoSuchCheck,
}

impl Verdict {
    /// Whether the check counts as passed.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Passed)
    }

    /// A word for machines, which does not change from release to release.
    pub fn kind(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed { .. } => "failed",
            Verdict::Unanswered { .. } => "unanswered",
            Verdict::NotRun { .. } => "not_run",
            Verdict::Panicked { .. } => "panicked",
            Verdict::TimedOut { .. } => "timed_out",
            Verdict::OutOfMemory { .. } => "out_of_memory",
            Verdict::StackOverflow { .. } => "stack_overflow",
            Verdict::Aborted { .. } => "aborted",
            Verdict::Signaled { .. } => "signaled",
            Verdict::ExitedEarly { .. } => "exited_early",
            Verdict::Flooded { .. } => "flooded",
            Verdict::SupervisorLost { .. } => "supervisor_lost",
            Verdict::EndedBadly { .. } => "ended_badly",
            Verdict::NoSuchCheck => "no_such_check",
        }
    }

    /// What happened and, where it helps, what to look for.
    pub fn sentence(&self) -> String {
        self.sentence_during(None)
    }

    /// The [`sentence`](Self::sentence), with what the check was about to do where the verdict
    /// does not say so itself: hangs and crashes are found faster with it.
    pub(crate) fn sentence_during(&self, step: Option<&str>) -> String {
        let during = step
            .map(|step| format!(" while {step}"))
            .unwrap_or_default();
        match self {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed { symptom } => symptom.clone(),
            Verdict::Unanswered { key } => {
                format!("`{key}` in answers.toml is not answered yet")
            }
            Verdict::NotRun { reason, remedy } => {
                format!("not run: {reason}; to run it: {remedy}")
            }
            Verdict::Panicked { message, location } => {
                let place = location
                    .as_ref()
                    .map(|location| format!(" at {location}"))
                    .unwrap_or_default();
                format!("the code panicked{place}{during}: {message}")
            }
            Verdict::TimedOut { after } => format!(
                "did not end within {after:?}{during}: look for a deadlock, an endless loop, or \
                 a wait for something that never comes"
            ),
            Verdict::OutOfMemory {
                limit,
                asked: Some(asked),
            } if asked > limit => format!(
                "asked for {} of memory at once{during}, where a check may use {} in all: look \
                 for a capacity that is computed wrongly, such as a subtraction that wraps around",
                Bytes(*asked),
                Bytes(*limit)
            ),
            Verdict::OutOfMemory { limit, .. } => format!(
                "used more memory than the {} that a check may use{during}: look for a queue, a \
                 map or a buffer that grows without bound",
                Bytes(*limit)
            ),
            Verdict::StackOverflow { thread } => {
                let whose = match thread {
                    None => "the check's thread".to_owned(),
                    Some(name) => format!("thread `{name}`"),
                };
                format!(
                    "overflowed the stack of {whose}{during}: look for a recursion without an \
                     end, or a large array on the stack"
                )
            }
            Verdict::Aborted { message: None } => format!(
                "the process aborted{during}: look for a call of `std::process::abort`, or for \
                 unsafe code that is unsound"
            ),
            Verdict::Aborted {
                message: Some(message),
            } => format!("the process aborted{during}: {message}"),
            Verdict::Signaled { signal } => {
                format!(
                    "the process was ended by {}{during}: {}",
                    SignalName(*signal),
                    cause_of(*signal)
                )
            }
            Verdict::ExitedEarly { code } => format!(
                "the process exited with code {code}{during}, before the check had ended: look \
                 for a call of `std::process::exit`"
            ),
            Verdict::Flooded { limit } => format!(
                "printed more than {}{during}: look for a print inside of an endless loop",
                Bytes(*limit)
            ),
            Verdict::SupervisorLost { signal } => {
                let how = match signal {
                    Some(signal) => format!("ended by {}", SignalName(*signal)),
                    None => "stopped".to_owned(),
                };
                format!(
                    "the process that supervises the check was {how}{during}: look for a signal \
                     that is sent to a parent process or to a foreign process group"
                )
            }
            Verdict::EndedBadly { end, message } => {
                let why = message
                    .as_ref()
                    .map(|message| format!(" ({message})"))
                    .unwrap_or_default();
                format!(
                    "every assertion held, but afterwards the process {}{why}: look for a \
                     destructor of a thread-local value, a thread that is still running, or an \
                     exit handler",
                    Predicate(end)
                )
            }
            Verdict::NoSuchCheck => {
                "the test binary holds no check of this name: it was renamed, or left out of the \
                 build"
                    .to_owned()
            }
        }
    }
}

fn cause_of(signal: i32) -> &'static str {
    match signal {
        libc::SIGSEGV | libc::SIGBUS => {
            "memory that is not the process's was touched; look for unsafe code that is unsound"
        }
        libc::SIGILL | libc::SIGTRAP | libc::SIGFPE => {
            "the processor refused an instruction; look for unsafe code that is unsound"
        }
        libc::SIGKILL => {
            "either the code sent it to its own process, or the machine ran out of memory"
        }
        libc::SIGXFSZ => "it wrote a file of more than 1 GiB",
        libc::SIGPIPE => "it wrote to a pipe that nobody reads any more",
        _ => "look for code that sends it to its own process",
    }
}

/// How a process ended, as the predicate of a sentence.
struct Predicate<'a>(&'a ProcessEnd);

impl std::fmt::Display for Predicate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            ProcessEnd::Exited(code) => write!(f, "exited with code {code}"),
            ProcessEnd::Signaled(libc::SIGABRT) => f.write_str("aborted"),
            ProcessEnd::Signaled(signal) => write!(f, "was ended by {}", SignalName(*signal)),
            ProcessEnd::OverTime => f.write_str("did not end"),
            ProcessEnd::OverMemory => f.write_str("filled its memory"),
            ProcessEnd::OverOutput => f.write_str("printed without end"),
            ProcessEnd::SupervisorLost(_) => f.write_str("attacked its supervisor"),
        }
    }
}

/// A signal by its name and number.
struct SignalName(i32);

impl std::fmt::Display for SignalName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            libc::SIGABRT => "SIGABRT",
            libc::SIGALRM => "SIGALRM",
            libc::SIGBUS => "SIGBUS",
            libc::SIGFPE => "SIGFPE",
            libc::SIGHUP => "SIGHUP",
            libc::SIGILL => "SIGILL",
            libc::SIGINT => "SIGINT",
            libc::SIGKILL => "SIGKILL",
            libc::SIGPIPE => "SIGPIPE",
            libc::SIGQUIT => "SIGQUIT",
            libc::SIGSEGV => "SIGSEGV",
            libc::SIGSYS => "SIGSYS",
            libc::SIGTERM => "SIGTERM",
            libc::SIGTRAP => "SIGTRAP",
            libc::SIGUSR1 => "SIGUSR1",
            libc::SIGUSR2 => "SIGUSR2",
            libc::SIGXCPU => "SIGXCPU",
            libc::SIGXFSZ => "SIGXFSZ",
            other => return write!(f, "signal {other}"),
        };
        write!(f, "{name} (signal {})", self.0)
    }
}

/// A size in the largest binary unit that leaves at least one before the point.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Some(power) = self
            .0
            .checked_ilog2()
            .map(|log| log / 10)
            .filter(|&p| p > 0)
        else {
            return write!(f, "{} bytes", self.0);
        };
        let unit = UNITS[power as usize - 1];
        let size = self.0 as f64 / (1_u64 << (10 * power)) as f64;
        let text = format!("{size:.1}");
        write!(f, "{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (16 << 20, "16 MiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_hang_says_what_the_check_was_doing() {
        let verdict = Verdict::TimedOut {
            after: Duration::from_secs(15),
        };
        assert_eq!(
            verdict.sentence_during(Some("waiting for the ninth task")),
            "did not end within 15s while waiting for the ninth task: look for a deadlock, an \
             endless loop, or a wait for something that never comes"
        );
    }
}
