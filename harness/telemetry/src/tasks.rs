//! Dumps of everything that runs or waits in a process: goroutines, Tokio tasks, threads.
//!
//! For reading four texts into one model: Go's stacks (`debug=2`, or what SIGQUIT prints), Go's
//! aggregated profile (`debug=1`), Tokio's task dump, and what gdb prints for
//! `thread apply all bt`. Nothing is concluded here (who holds the lock, who waits for whom): that
//! is for the labs.
//!
//! Of a Tokio dump each task must be printed under a line with its id (`task 7:`, in any case, or
//! `7:`), its trace below as Tokio formats it.
//!
//! ```
//! use telemetry::tasks::TaskDump;
//!
//! let dump = TaskDump::parse(
//!     "goroutine 34 [semacquire, 312 minutes]:\n\
//!      main.(*Cache).Set(0xc000145000, ...)\n\
//!      \t/app/cache.go:67 +0x1f\n",
//! )?;
//! let task = &dump.tasks[0];
//! assert_eq!(task.state.as_deref(), Some("semacquire"));
//! assert_eq!(task.waited.map(|waited| waited.0), Some(312));
//! assert_eq!(task.frames[0].function, "main.(*Cache).Set");
//! # Ok::<(), telemetry::ParseError>(())
//! ```

mod gdb;
mod go;
mod tokio;

use std::fmt;

use crate::ParseError;
use crate::source::{Cursor, check_size, decode};

/// The largest dump that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// The longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 256 << 10;
/// The most entries in one dump.
pub const MAX_TASKS: usize = 500_000;
/// The deepest stack that is read.
pub const MAX_DEPTH: usize = 4096;
/// The most frames of all stacks together.
pub const MAX_FRAMES: usize = 500_000;

/// Which program printed a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `/debug/pprof/goroutine?debug=2`, a panic or SIGQUIT.
    GoStacks,
    /// `/debug/pprof/goroutine?debug=1`: equal stacks are counted.
    GoProfile,
    /// `tokio::runtime::Handle::dump`.
    Tokio,
    /// `thread apply all bt`.
    Gdb,
}

impl Format {
    /// Tells the format by the first line that only one format has.
    pub fn detect(text: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            if line.starts_with("goroutine profile:") || go::is_profile_header(line) {
                Some(Self::GoProfile)
            } else if go::is_stack_header(line) {
                Some(Self::GoStacks)
            } else if gdb::is_header(line) {
                Some(Self::Gdb)
            } else {
                tokio::is_header(line).then_some(Self::Tokio)
            }
        })
    }
}

/// What ran or waited in a process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskDump {
    /// In the order of the text.
    pub tasks: Vec<Task>,
    /// What whoever shortened the dump left out.
    pub omitted: Vec<Omitted>,
}

/// A line such as `[... 14 more goroutines in "chan receive" ...]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Omitted {
    /// Its line in the text, from 1.
    pub line: usize,
    /// The first whole number in it.
    pub count: Option<u64>,
    /// What it says between `[...` and `...]`.
    pub text: String,
}

/// A goroutine, a Tokio task, a thread, or several with the same stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its header's line in the text, from 1.
    pub line: usize,
    /// The goroutine's, task's or gdb's number; `None` in an aggregated profile.
    pub id: Option<u64>,
    /// The name of a thread.
    pub name: Option<String>,
    /// What Go says it does, such as `chan receive`; Tokio and gdb do not tell.
    pub state: Option<String>,
    /// For how long; Go tells it from one minute on.
    pub waited: Option<Minutes>,
    /// Whether a goroutine may run on one thread only.
    pub locked_to_thread: bool,
    /// From the innermost function outwards.
    pub frames: Vec<Frame>,
    /// Further stacks of a Tokio task that awaits several things at once (`select!`, `join!`).
    pub branches: Vec<Vec<Frame>>,
    /// Where a goroutine was started.
    pub created_by: Option<Creator>,
    /// How many have this stack; more than 1 only in an aggregated profile.
    pub count: u64,
}

/// Whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minutes(pub u64);

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} min", self.0)
    }
}

/// One function on a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Frame {
    /// The function without its arguments; empty where a trace has no symbol for it.
    pub function: String,
    /// The arguments as printed, without the parentheses (Go and gdb).
    pub arguments: Option<String>,
    /// The source file, or the library where no source is known.
    pub file: Option<String>,
    /// The line within the file, from 1.
    pub line: Option<u32>,
}

/// Where a goroutine was started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Creator {
    /// The `go` statement.
    pub frame: Frame,
    /// The goroutine that executed it, as newer Go tells.
    pub task: Option<u64>,
}

impl TaskDump {
    /// Reads a dump in the format that [`Format::detect`] finds.
    ///
    /// # Errors
    /// A text in no known format, the first line that does not belong, or a limit of this module.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let format = Format::detect(text).ok_or_else(|| {
            let first = text.lines().next().unwrap_or_default();
            Cursor::new(first, 1).error(
                "a dump with a line such as `goroutine 1 [running]:`, `849 @ 0x43d2c5`, `task 7:` \
                 or `Thread 1 (LWP 4242):`",
            )
        })?;
        Self::parse_as(text, format)
    }

    /// Reads a dump in a format that is known.
    ///
    /// # Errors
    /// As [`TaskDump::parse`].
    pub fn parse_as(text: &str, format: Format) -> Result<Self, ParseError> {
        check_size(text.as_bytes(), MAX_TEXT_BYTES)?;
        match format {
            Format::GoStacks => go::stacks(text),
            Format::GoProfile => go::profile(text),
            Format::Tokio => tokio::read(text),
            Format::Gdb => gdb::read(text),
        }
    }

    /// Reads a dump from bytes that may not even be UTF-8.
    ///
    /// # Errors
    /// As [`TaskDump::parse`], and at the first byte that is not UTF-8.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseError> {
        check_size(bytes, MAX_TEXT_BYTES)?;
        Self::parse(decode(bytes)?)
    }
}

/// The lines of a dump, each within its limit.
fn lines(text: &str) -> impl Iterator<Item = Result<Cursor<'_>, ParseError>> {
    text.split('\n').enumerate().map(|(nth, content)| {
        let content = content.strip_suffix('\r').unwrap_or(content);
        let cursor = Cursor::new(content, nth + 1);
        if content.len() > MAX_LINE_BYTES {
            return Err(cursor.error(format!("a line of at most {MAX_LINE_BYTES} bytes")));
        }
        Ok(cursor)
    })
}

/// Collects tasks and frames within the limits.
#[derive(Default)]
struct Builder {
    dump: TaskDump,
    frames: usize,
}

impl Builder {
    fn task(&mut self, at: &Cursor<'_>) -> Result<&mut Task, ParseError> {
        if self.dump.tasks.len() == MAX_TASKS {
            return Err(at.error(format!("at most {MAX_TASKS} entries")));
        }
        let index = self.dump.tasks.len();
        self.dump.tasks.push(Task {
            line: at.line(),
            count: 1,
            ..Task::default()
        });
        Ok(&mut self.dump.tasks[index])
    }

    /// Counts a frame and checks it against the limits; `depth` is that of its stack before it.
    fn count_frame(&mut self, at: &Cursor<'_>, depth: usize) -> Result<(), ParseError> {
        self.frames += 1;
        if depth >= MAX_DEPTH {
            return Err(at.error(format!("at most {MAX_DEPTH} frames in a stack")));
        }
        if self.frames > MAX_FRAMES {
            return Err(at.error(format!("at most {MAX_FRAMES} frames in all")));
        }
        Ok(())
    }

    /// Takes a line such as `[... 14 more …]`; false if it is something else.
    fn omission(&mut self, cursor: &Cursor<'_>) -> bool {
        let content = cursor.rest().trim();
        let Some(inner) = content.strip_prefix("[...") else {
            return false;
        };
        let inner = inner.strip_suffix("...]").unwrap_or(inner).trim();
        let digits = inner
            .split(|c: char| !c.is_ascii_digit())
            .find(|digits| !digits.is_empty());
        self.dump.omitted.push(Omitted {
            line: cursor.line(),
            count: digits.and_then(|digits| digits.parse().ok()),
            text: inner.to_owned(),
        });
        true
    }
}

fn is_blank(cursor: &Cursor<'_>) -> bool {
    cursor.rest().trim().is_empty()
}

/// Splits `file:line` at its last colon that a number follows.
fn file_and_line(text: &str) -> Option<(&str, u32)> {
    let (file, line) = text.rsplit_once(':')?;
    if file.is_empty() || !line.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((file, line.parse().ok()?))
}
