//! Profiles: how much of something was spent under which stack.
//!
//! For reading and printing folded stacks (`main;serve;lock 38`) and, with the feature `pprof`,
//! pprof's protocol buffers, into one model. Not a profiler, and without self or inclusive sums:
//! those are for the labs.
//!
//! ```
//! use telemetry::profiles::Profile;
//!
//! let profile = Profile::from_folded("main;serve;lock 38\nmain;serve 54\n")?;
//! let names: Vec<&str> = profile.stacks[0].names().collect();
//! assert_eq!((names, profile.stacks[0].values[0]), (vec!["main", "serve", "lock"], 38));
//! # Ok::<(), telemetry::ParseError>(())
//! ```

#[cfg(feature = "pprof")]
mod pprof;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "pprof")]
pub use pprof::{MAX_PPROF_BYTES, MAX_PPROF_ITEMS, PprofError};

use crate::ParseError;
use crate::source::{Cursor, check_size, decode};

/// The largest folded text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// The longest folded line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// The most stacks in one profile.
pub const MAX_STACKS: usize = 500_000;
/// The deepest stack that is read.
pub const MAX_DEPTH: usize = 4096;
/// The most frames of all stacks together.
pub const MAX_FRAMES: usize = 4_000_000;

/// What is written for a frame or a stack without a name.
const UNKNOWN: &str = "[unknown]";

/// Stacks and what was measured under each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// What the values of each stack are, in their order.
    pub sample_types: Vec<SampleType>,
    /// In the order of the text; the same stack may occur more than once.
    pub stacks: Vec<Stack>,
    /// How long was profiled, where the profile tells.
    pub duration: Option<Duration>,
}

/// What one value of each stack measures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SampleType {
    /// Such as `cpu`, `samples`, `inuse_space`.
    pub kind: String,
    /// Such as `nanoseconds`, `count`, `bytes`.
    pub unit: String,
}

/// One stack and its values.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stack {
    /// From the outermost caller to the innermost function.
    pub frames: Vec<Frame>,
    /// One for each of [`Profile::sample_types`], for this stack alone.
    pub values: Vec<i64>,
}

impl Stack {
    /// The functions, from the outermost caller to the innermost.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.frames.iter().map(|frame| &*frame.function)
    }
}

/// One function on a stack. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function.
    pub function: Arc<str>,
    /// Its source file (pprof only).
    pub file: Option<Arc<str>>,
    /// The line within it, from 1 (pprof only).
    pub line: Option<u32>,
}

impl Frame {
    /// A frame of which only the function is known.
    pub fn new(function: &str) -> Self {
        Self {
            function: function.into(),
            file: None,
            line: None,
        }
    }
}

/// A stack has more or fewer values than its profile has types of sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stack of {values} values, where the profile has {types} types of sample")]
pub struct ValueCountError {
    /// How many values were given.
    pub values: usize,
    /// How many are needed.
    pub types: usize,
}

impl Profile {
    /// An empty profile; each type is a kind and a unit, such as `("cpu", "nanoseconds")`.
    pub fn new(sample_types: &[(&str, &str)]) -> Self {
        let types = sample_types.iter().map(|(kind, unit)| SampleType {
            kind: (*kind).to_owned(),
            unit: (*unit).to_owned(),
        });
        Self {
            sample_types: types.collect(),
            ..Self::default()
        }
    }

    /// Adds a stack.
    ///
    /// # Errors
    /// The number of values is not that of the types of sample.
    pub fn push(&mut self, frames: Vec<Frame>, values: Vec<i64>) -> Result<(), ValueCountError> {
        if values.len() != self.sample_types.len() {
            return Err(ValueCountError {
                values: values.len(),
                types: self.sample_types.len(),
            });
        }
        self.stacks.push(Stack { frames, values });
        Ok(())
    }

    /// The place of a type of sample among the values of each stack.
    pub fn sample_type(&self, kind: &str) -> Option<usize> {
        self.sample_types.iter().position(|held| held.kind == kind)
    }

    /// Reads folded stacks: frames from the outermost on, joined by `;`, a space, a whole number.
    /// Blank lines are passed over.
    ///
    /// # Errors
    /// The first line that is no stack, or that passes a limit of this module.
    pub fn from_folded(text: &str) -> Result<Self, ParseError> {
        check_size(text.as_bytes(), MAX_TEXT_BYTES)?;
        let mut profile = Self::new(&[("samples", "count")]);
        let mut names: HashSet<Arc<str>> = HashSet::new();
        let mut total = 0;
        for (nth, content) in text.split('\n').enumerate() {
            let content = content.strip_suffix('\r').unwrap_or(content);
            if content.trim_ascii().is_empty() {
                continue;
            }
            let mut cursor = Cursor::new(content, nth + 1);
            if content.len() > MAX_LINE_BYTES {
                return Err(cursor.error(format!("a line of at most {MAX_LINE_BYTES} bytes")));
            }
            if profile.stacks.len() == MAX_STACKS {
                return Err(cursor.error(format!("at most {MAX_STACKS} stacks")));
            }
            let Some(space) = content.rfind(' ') else {
                cursor.take_while(|_| true);
                return Err(cursor.error("a space and the number of samples after the stack"));
            };
            let mut frames = Vec::new();
            let (stack, count) = content.split_at(space);
            for name in stack.split(';') {
                if name.is_empty() {
                    return Err(cursor.error("the name of a function"));
                }
                if frames.len() == MAX_DEPTH {
                    return Err(cursor.error(format!("at most {MAX_DEPTH} frames in a stack")));
                }
                if total == MAX_FRAMES {
                    return Err(cursor.error(format!("at most {MAX_FRAMES} frames in all")));
                }
                total += 1;
                let shared = match names.get(name) {
                    Some(shared) => Arc::clone(shared),
                    None => {
                        let shared: Arc<str> = name.into();
                        names.insert(Arc::clone(&shared));
                        shared
                    }
                };
                frames.push(Frame {
                    function: shared,
                    file: None,
                    line: None,
                });
                cursor.eat(name);
                cursor.eat(";");
            }
            cursor.eat(" ");
            let Ok(value) = count[1..].parse::<i64>() else {
                return Err(cursor.error("a whole number of samples"));
            };
            profile.stacks.push(Stack {
                frames,
                values: vec![value],
            });
        }
        Ok(profile)
    }

    /// Reads folded stacks from bytes that may not even be UTF-8.
    ///
    /// # Errors
    /// As [`Profile::from_folded`], and at the first byte that is not UTF-8.
    pub fn from_folded_slice(bytes: &[u8]) -> Result<Self, ParseError> {
        check_size(bytes, MAX_TEXT_BYTES)?;
        Self::from_folded(decode(bytes)?)
    }

    /// Folded stacks with the values of one type of sample (see [`Profile::sample_type`]); `None`
    /// if the profile has no such type.
    ///
    /// Names lose what the format cannot hold: `;` becomes `:`, a line break becomes a space, and
    /// an empty name `[unknown]`.
    pub fn to_folded(&self, sample_type: usize) -> Option<String> {
        self.sample_types.get(sample_type)?;
        let mut text = String::new();
        for stack in &self.stacks {
            if stack.frames.is_empty() {
                text.push_str(UNKNOWN);
            }
            for (nth, name) in stack.names().enumerate() {
                if nth > 0 {
                    text.push(';');
                }
                let name = if name.is_empty() { UNKNOWN } else { name };
                text.extend(name.chars().map(|c| match c {
                    ';' => ':',
                    '\n' | '\r' => ' ',
                    other => other,
                }));
            }
            let value = stack.values.get(sample_type).copied().unwrap_or_default();
            // Writing into a String cannot fail.
            let _ = writeln!(text, " {value}");
        }
        Some(text)
    }
}
