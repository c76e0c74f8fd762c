//! One check: its deadline, and the one verdict in which it ends.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::environment;
use crate::protocol::{Nonce, REQUIRE_BACKENDS, Record, VERDICT_FILE};

/// How long a check may take when it does not say: long enough for a loaded laptop, short enough
/// that a deadlock is told apart from slow work. Checks that take this long are broken; a lab's
/// checks together stay under five seconds.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The stack of a check's body, in bytes: what a thread has by default, on every machine.
const STACK: usize = 2 << 20;

/// Runs the body of a check under [`DEADLINE`].
///
/// The body ends in one of these ways, each of which becomes a sentence for the learner: it
/// returns; it panics in an assertion of the checker (the message is the symptom); the learner's
/// code panics (the place is named); [`unanswered`]; [`not_run`]; the deadline passes.
///
/// # Panics
/// In every case but the first and, unless servers are required, [`not_run`].
#[track_caller]
pub fn check(body: impl FnOnce() + Send + 'static) {
    check_within(DEADLINE, body);
}

/// Runs the body of a check that needs more time than [`DEADLINE`], such as one that talks to a
/// real server. The lab's `lab.toml` must allow at least as much.
///
/// # Panics
/// As [`check`] does.
#[track_caller]
pub fn check_within(deadline: Duration, body: impl FnOnce() + Send + 'static) {
    if verdict_file().is_none() {
        environment::settle();
    }
    let channel = Channel::take();
    install_hook();
    let (done, ended) = mpsc::channel();
    let step = StepSlot::default();
    let body_step = Arc::clone(&step);
    // The name of the thread is the name of the test: what the learner's code prints when it
    // panics then names the check, as under a plain `#[test]`.
    let name = thread::current().name().unwrap_or("check").to_owned();
    let began = Instant::now();
    let body_thread = thread::Builder::new()
        .name(name)
        // What `RUST_MIN_STACK` says was read before it could be taken away.
        .stack_size(STACK)
        .spawn(move || {
            CURRENT_STEP.with(|current| *current.borrow_mut() = Some(body_step));
            let result = panic::catch_unwind(AssertUnwindSafe(body));
            let ending = match result {
                Ok(()) => Ending::Passed,
                Err(payload) => Ending::from_panic(payload),
            };
            // Nobody listens once the deadline has passed, and then nobody needs to.
            let _ = done.send(ending);
        })
        .expect("the system refuses one more thread");
    let ending = ended.recv_timeout(deadline).unwrap_or(Ending::TimedOut {
        after: deadline,
        step: lock(&step).clone(),
    });
    // Its thread-locals are dropped before the verdict, so that a panic there is part of it; a
    // destructor that never ends has what is left of the deadline.
    while !body_thread.is_finished() && began.elapsed() < deadline {
        thread::yield_now();
    }
    channel.tell(&ending);
    ending.conclude();
}

/// Says what the check is about to do, in a few words that continue "while". When the learner's
/// code then hangs or takes the process down, the runner can say where the check was.
///
/// To be called on the thread of the body: without the runner, where several checks share one
/// process, a step from another thread belongs to no check and is not kept.
pub fn step(what: impl Into<String>) {
    let what = what.into();
    if let Some(file) = verdict_file() {
        let _ = Record::Step(what.clone()).append_to(&file);
    }
    CURRENT_STEP.with(|current| {
        if let Some(slot) = current.borrow().as_ref() {
            *lock(slot) = Some(what);
        }
    });
}

/// The step that the check on this thread is in, for messages.
#[cfg(feature = "tokio")]
pub(crate) fn current_step() -> Option<String> {
    CURRENT_STEP.with(|current| {
        current
            .borrow()
            .as_ref()
            .and_then(|slot| lock(slot).clone())
    })
}

/// Ends the check with a symptom: what was observed, and what should have been.
pub fn symptom(what: impl Into<String>) -> ! {
    panic::panic_any(Signal::Symptom(what.into()))
}

/// The value; or ends the check with the error, which has to be a sentence for the learner.
pub fn or_symptom<T>(result: Result<T, impl Display>) -> T {
    result.unwrap_or_else(|error| symptom(error.to_string()))
}

/// Ends the check because the learner has not answered the question `key` yet.
pub fn unanswered(key: impl Into<String>) -> ! {
    panic::panic_any(Signal::Unanswered(key.into()))
}

/// Ends the check because something that it needs is not on this machine. Where
/// `NIGHTSHIFT_REQUIRE_BACKENDS=1` this is a failure; elsewhere the check counts as not run, and
/// the reason and the remedy are shown.
pub fn not_run(reason: impl Into<String>, remedy: impl Into<String>) -> ! {
    panic::panic_any(Signal::NotRun {
        reason: reason.into(),
        remedy: remedy.into(),
    })
}

/// What a checker throws to end its body; never seen outside of this module.
enum Signal {
    Symptom(String),
    Unanswered(String),
    NotRun { reason: String, remedy: String },
}

enum Ending {
    Passed,
    Failed(String),
    Unanswered(String),
    NotRun {
        reason: String,
        remedy: String,
    },
    Panicked {
        message: String,
        location: Option<String>,
    },
    TimedOut {
        after: Duration,
        step: Option<String>,
    },
}

impl Ending {
    fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast::<Signal>() {
            Ok(signal) => {
                return match *signal {
                    Signal::Symptom(what) => Ending::Failed(with_earlier_panic(what)),
                    Signal::Unanswered(key) => Ending::Unanswered(key),
                    Signal::NotRun { reason, remedy } if backends_are_required() => {
                        Ending::Failed(format!(
                            "{reason}, and {REQUIRE_BACKENDS}=1 makes that a failure: {remedy}"
                        ))
                    }
                    Signal::NotRun { reason, remedy } => Ending::NotRun { reason, remedy },
                };
            }
            Err(other) => other,
        };
        let message = message_of(payload.as_ref());
        match LAST_PANIC.take() {
            Some(location) if is_the_checkers(&location) => {
                Ending::Failed(with_earlier_panic(message))
            }
            location => Ending::Panicked { message, location },
        }
    }

    /// Ends the `#[test]` function as libtest expects it.
    fn conclude(self) {
        let text = match self {
            Ending::Passed => return,
            Ending::NotRun { reason, remedy } => {
                eprintln!("not run: {reason}\n  to run it: {remedy}");
                return;
            }
            Ending::Failed(symptom) => symptom,
            Ending::Unanswered(key) => {
                format!("unanswered: `{key}` in answers.toml still says \"?\"")
            }
            Ending::Panicked {
                message,
                location: Some(location),
            } => format!("your code panicked at {location}:\n{message}"),
            Ending::Panicked {
                message,
                location: None,
            } => format!("your code panicked:\n{message}"),
            Ending::TimedOut { after, step } => format!(
                "did not end within {after:?}{}: a deadlock, an endless loop, or a wait for \
                 something that never comes",
                step.map(|step| format!(" while {step}"))
                    .unwrap_or_default()
            ),
        };
        eprintln!("\n{text}\n");
        // Not `panic!`: the message is printed already, and the place of this line helps nobody.
        panic::resume_unwind(Box::new(text));
    }
}

/// Where verdicts go: nowhere under plain `cargo test`, to a file under the runner.
struct Channel {
    to: Option<(PathBuf, Nonce)>,
}

impl Channel {
    /// Must come before any code of the learner: it takes the nonce off standard input.
    fn take() -> Self {
        let to = verdict_file().map(|file| {
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            (file, Nonce::from_line(&line))
        });
        Channel { to }
    }

    fn tell(&self, ending: &Ending) {
        let Some((file, nonce)) = &self.to else {
            return;
        };
        let record = match ending {
            Ending::Passed => Record::Passed(nonce.clone()),
            Ending::Failed(symptom) => Record::Failed(symptom.clone()),
            Ending::Unanswered(key) => Record::Unanswered(key.clone()),
            Ending::NotRun { reason, remedy } => Record::NotRun {
                reason: reason.clone(),
                remedy: remedy.clone(),
            },
            Ending::Panicked { message, location } => Record::Panicked {
                message: message.clone(),
                location: location.clone(),
            },
            Ending::TimedOut { after, .. } => Record::TimedOut {
                after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            },
        };
        if let Err(error) = record.append_to(file) {
            eprintln!(
                "could not tell the runner the verdict in {}: {error}",
                file.display()
            );
        }
    }
}

/// Where a check keeps its step, so that whoever waits for its thread can read it.
type StepSlot = Arc<Mutex<Option<String>>>;

fn lock(slot: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

thread_local! {
    /// The step of the check whose body runs on this thread.
    static CURRENT_STEP: RefCell<Option<StepSlot>> = const { RefCell::new(None) };
    /// The place of the last panic on this thread, kept by the hook for [`Ending::from_panic`].
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The first panic of the learner's code on this thread, its place and its message. A runtime
    /// catches what panics in a task of its own, and the symptom alone would not tell of it.
    static EARLIER_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

fn with_earlier_panic(symptom: String) -> String {
    match EARLIER_PANIC.take() {
        Some((location, message)) => {
            format!("{symptom}\n\nBefore that, your code panicked at {location}:\n{message}")
        }
        None => symptom,
    }
}

/// Keeps the place of each panic, stays quiet for a checker's own signals and assertions (the
/// verdict repeats their text), and leaves all other panics to the hook that was there before.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload().is::<Signal>() {
                return;
            }
            let location = info.location().map(ToString::to_string);
            // Elsewhere, as on a thread that a check has started, no verdict repeats the text.
            let in_a_check = CURRENT_STEP.with(|current| current.borrow().is_some());
            let quiet = in_a_check && location.as_deref().is_some_and(is_the_checkers);
            if let Some(location) = location.as_deref().filter(|place| is_the_learners(place))
                && in_a_check
            {
                let message = message_of(info.payload());
                EARLIER_PANIC.with(|earlier| {
                    earlier
                        .borrow_mut()
                        .get_or_insert_with(|| (location.to_owned(), message));
                });
            }
            LAST_PANIC.with(|last| *last.borrow_mut() = location);
            if !quiet {
                previous(info);
            }
        }));
    });
}

/// Whether a panic's place lies in the harness: then it is an assertion, not an accident.
fn is_the_checkers(location: &str) -> bool {
    let location = location.replace('\\', "/");
    location.contains("harness/checks/")
        || location.contains("harness/kit/src/")
        || location.contains("/tests/check.rs")
}

/// Whether a panic's place lies in a lab or in what is held against one, and not in a library.
fn is_the_learners(location: &str) -> bool {
    let location = location.replace('\\', "/");
    !is_the_checkers(&location) && !location.contains("/registry/src/")
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not text".to_owned()
    }
}

fn verdict_file() -> Option<PathBuf> {
    std::env::var_os(VERDICT_FILE).map(PathBuf::from)
}

fn backends_are_required() -> bool {
    std::env::var_os(REQUIRE_BACKENDS).is_some_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(result: Result<(), Box<dyn Any + Send>>) -> String {
        message_of(result.expect_err("the check passed").as_ref())
    }

    #[test]
    fn a_body_that_returns_passes() {
        check(|| {});
    }

    #[test]
    fn a_symptom_is_repeated_word_for_word() {
        let result = panic::catch_unwind(|| check(|| symptom("the queue holds 847 tasks")));
        assert_eq!(text_of(result), "the queue holds 847 tasks");
    }

    #[test]
    fn only_panics_outside_of_the_harness_and_the_libraries_are_the_learners() {
        for (place, expected) in [
            ("labs/17-production/a-lab/src/cache.rs:99:9", true),
            ("harness/checks/17-production/17_7_2.rs:12:5", false),
            (
                "/home/me/.cargo/registry/src/an-index/loom-0.7.2/src/rt/path.rs:1:1",
                false,
            ),
        ] {
            assert_eq!(is_the_learners(place), expected, "{place}");
        }
    }

    #[test]
    fn a_deadlock_ends_at_the_deadline_and_names_the_step() {
        let result = panic::catch_unwind(|| {
            check_within(Duration::from_millis(30), || {
                step("waiting for the ninth task");
                loop {
                    thread::park();
                }
            });
        });
        let text = text_of(result);
        assert!(text.contains("did not end within 30ms"), "{text}");
        assert!(text.contains("while waiting for the ninth task"), "{text}");
    }

    #[test]
    fn the_step_of_one_check_is_not_reported_for_another() {
        check(|| step("doing what the other check never does"));
        let result = panic::catch_unwind(|| {
            check_within(Duration::from_millis(30), || {
                loop {
                    thread::park();
                }
            });
        });
        let text = text_of(result);
        assert!(
            text.contains("did not end within 30ms: a deadlock"),
            "{text}"
        );
    }

    #[test]
    fn only_checkers_and_the_kit_are_taken_for_checkers() {
        for (location, expected) in [
            ("harness/checks/18-observability/18_1_1.rs:4:5", true),
            (
                "labs/18-observability/18-1-1-read-pool-metrics/tests/../../../../harness/checks/\
              18-observability/18_1_1.rs:4:5",
                true,
            ),
            ("harness\\kit\\src\\answers.rs:9:1", true),
            (
                "labs/18-observability/18-1-1-read-pool-metrics/tests/check.rs:1:1",
                true,
            ),
            (
                "labs/18-observability/18-1-1-read-pool-metrics/src/lib.rs:42:9",
                false,
            ),
            (
                "solutions/18-observability/18-1-1-read-pool-metrics/src/check.rs:42:9",
                false,
            ),
        ] {
            assert_eq!(is_the_checkers(location), expected, "{location}");
        }
    }

    #[test]
    fn an_unanswered_question_is_named() {
        let result = panic::catch_unwind(|| check(|| unanswered("tail.count")));
        assert!(text_of(result).contains("`tail.count`"));
    }
}
