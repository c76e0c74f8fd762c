//! pprof's protocol buffers (`profile.proto`), gzipped or not, in both directions.
//!
//! The outer message is walked here and only the messages within are given to `prost`: so that
//! their number is limited before memory is spent on them, and an error knows its place.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::{Frame, MAX_DEPTH, MAX_FRAMES, MAX_STACKS, Profile, SampleType, Stack};

/// The largest profile that is read, in bytes after decompression.
pub const MAX_PPROF_BYTES: usize = 32 << 20;
/// The most samples, locations, functions and strings in one profile, all together.
pub const MAX_PPROF_ITEMS: usize = 2_000_000;

/// Some bytes are no profile.
///
/// Completes "could not read the profile: …". Offsets are in bytes from 0, after decompression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PprofError {
    /// It begins as gzip and does not go on as such.
    #[error("expected gzip after its first two bytes: {0}")]
    Gzip(String),
    /// It is larger, compressed or not, than [`MAX_PPROF_BYTES`].
    #[error("expected at most {MAX_PPROF_BYTES} bytes after decompression, found more")]
    TooLarge,
    /// The bytes at an offset are not what `profile.proto` has there.
    #[error("byte {offset}: expected {expected}, found {found}")]
    Malformed {
        /// Where the field begins.
        offset: usize,
        /// What should be there.
        expected: String,
        /// What is there instead.
        found: String,
    },
}

fn malformed(
    offset: usize,
    expected: impl Into<String>,
    found: impl std::fmt::Display,
) -> PprofError {
    PprofError::Malformed {
        offset,
        expected: expected.into(),
        found: found.to_string(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_ids: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    /// Innermost first: what was inlined comes before what it was inlined into.
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    file: i64,
}

/// The outer message; only for writing.
#[derive(Clone, PartialEq, Message)]
struct Outer {
    #[prost(message, repeated, tag = "1")]
    sample_types: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

impl Profile {
    /// Reads a profile as `pprof` writes it, gzipped or not. Mappings and labels are passed over.
    ///
    /// A location without function names is called by its address, as `0x4a3f`.
    ///
    /// # Errors
    /// Bytes that are neither, that refer to what is not there, or that pass a limit.
    pub fn from_pprof(bytes: &[u8]) -> Result<Self, PprofError> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut inflated = Vec::new();
            MultiGzDecoder::new(bytes)
                .take(MAX_PPROF_BYTES as u64 + 1)
                .read_to_end(&mut inflated)
                .map_err(|error| PprofError::Gzip(error.to_string()))?;
            return Reader::default().read(&inflated);
        }
        Reader::default().read(bytes)
    }

    /// The profile as protocol buffers, not compressed.
    pub fn to_pprof(&self) -> Vec<u8> {
        let mut strings = Interner::default();
        strings.place(String::new());
        let mut functions: Interner<(i64, i64)> = Interner::default();
        let mut locations: Interner<(u64, i64)> = Interner::default();
        let sample_types = self
            .sample_types
            .iter()
            .map(|held| ValueType {
                kind: strings.place(held.kind.clone()) as i64,
                unit: strings.place(held.unit.clone()) as i64,
            })
            .collect();
        let mut samples = Vec::with_capacity(self.stacks.len());
        for stack in &self.stacks {
            let mut location_ids = Vec::with_capacity(stack.frames.len());
            for frame in stack.frames.iter().rev() {
                let name = strings.place(frame.function.to_string()) as i64;
                let file = frame.file.as_deref().unwrap_or_default().to_owned();
                let file = strings.place(file) as i64;
                // Ids count from 1: 0 stands for none.
                let function = functions.place((name, file)) as u64 + 1;
                let line = i64::from(frame.line.unwrap_or_default());
                location_ids.push(locations.place((function, line)) as u64 + 1);
            }
            let mut values = stack.values.clone();
            values.resize(self.sample_types.len(), 0);
            samples.push(Sample {
                location_ids,
                values,
            });
        }
        let nanos = self.duration.unwrap_or_default().as_nanos();
        let outer = Outer {
            sample_types,
            samples,
            locations: (1..)
                .zip(locations.items)
                .map(|(id, (function_id, line))| Location {
                    id,
                    address: 0,
                    lines: vec![Line { function_id, line }],
                })
                .collect(),
            functions: (1..)
                .zip(functions.items)
                .map(|(id, (name, file))| Function { id, name, file })
                .collect(),
            strings: strings.items,
            duration_nanos: nanos.try_into().unwrap_or(i64::MAX),
        };
        outer.encode_to_vec()
    }

    /// The profile as protocol buffers, gzipped: what `go tool pprof` expects of a file.
    pub fn to_pprof_gz(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(&self.to_pprof())
            .and_then(|()| encoder.finish())
            .expect("writing into memory cannot fail")
    }
}

/// Numbers distinct items from 0 in the order of their first appearance.
struct Interner<T> {
    items: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn place(&mut self, item: T) -> usize {
        *self.places.entry(item).or_insert_with_key(|item| {
            self.items.push(item.clone());
            self.items.len() - 1
        })
    }
}

#[derive(Default)]
struct Reader {
    types: Vec<(usize, ValueType)>,
    samples: Vec<(usize, Sample)>,
    locations: HashMap<u64, (usize, Location)>,
    functions: HashMap<u64, (usize, Function)>,
    strings: Vec<Arc<str>>,
    duration_nanos: i64,
}

impl Reader {
    fn read(mut self, bytes: &[u8]) -> Result<Profile, PprofError> {
        if bytes.len() > MAX_PPROF_BYTES {
            return Err(PprofError::TooLarge);
        }
        if bytes.is_empty() {
            return Err(malformed(0, "a profile", "no bytes"));
        }
        let mut rest = bytes;
        let mut items = 0;
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            if items == MAX_PPROF_ITEMS {
                let expected = format!("at most {MAX_PPROF_ITEMS} items");
                return Err(malformed(offset, expected, "one more"));
            }
            items += 1;
            self.field(offset, &mut rest)?;
        }
        self.resolve()
    }

    fn field(&mut self, offset: usize, rest: &mut &[u8]) -> Result<(), PprofError> {
        const FIELD: &str = "a field of a profile";
        let broken = |error| malformed(offset, FIELD, error);
        let (tag, wire) = decode_key(rest).map_err(broken)?;
        match wire {
            WireType::Varint => {
                let value = decode_varint(rest).map_err(broken)?;
                if tag == 10 {
                    self.duration_nanos = value as i64;
                }
                Ok(())
            }
            WireType::LengthDelimited => {
                let length = decode_varint(rest).map_err(broken)?;
                let length = usize::try_from(length)
                    .ok()
                    .filter(|len| *len <= rest.len());
                let Some(length) = length else {
                    return Err(malformed(
                        offset,
                        FIELD,
                        "one that is longer than the profile",
                    ));
                };
                let (content, after) = rest.split_at(length);
                *rest = after;
                self.message(offset, tag, content)
            }
            WireType::SixtyFourBit | WireType::ThirtyTwoBit => {
                let length = if wire == WireType::SixtyFourBit { 8 } else { 4 };
                *rest = rest
                    .get(length..)
                    .ok_or_else(|| malformed(offset, FIELD, "the end of the profile"))?;
                Ok(())
            }
            WireType::StartGroup | WireType::EndGroup => Err(malformed(
                offset,
                FIELD,
                "a group, which profiles do not have",
            )),
        }
    }

    fn message(&mut self, offset: usize, tag: u32, content: &[u8]) -> Result<(), PprofError> {
        fn decode<M: Message + Default>(
            offset: usize,
            what: &str,
            content: &[u8],
        ) -> Result<M, PprofError> {
            M::decode(content).map_err(|error| malformed(offset, what, error))
        }
        match tag {
            1 => {
                let held = decode(offset, "a type of sample", content)?;
                self.types.push((offset, held));
            }
            2 => {
                if self.samples.len() == MAX_STACKS {
                    let expected = format!("at most {MAX_STACKS} samples");
                    return Err(malformed(offset, expected, "one more"));
                }
                let held = decode(offset, "a sample", content)?;
                self.samples.push((offset, held));
            }
            4 => {
                let held: Location = decode(offset, "a location", content)?;
                self.locations.insert(held.id, (offset, held));
            }
            5 => {
                let held: Function = decode(offset, "a function", content)?;
                self.functions.insert(held.id, (offset, held));
            }
            6 => {
                let text = std::str::from_utf8(content)
                    .map_err(|error| malformed(offset, "a string in UTF-8", error))?;
                self.strings.push(text.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn string(&self, offset: usize, index: i64) -> Result<Arc<str>, PprofError> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.strings.get(index))
            .cloned()
            .ok_or_else(|| {
                let expected = format!("an index into {} strings", self.strings.len());
                malformed(offset, expected, index)
            })
    }

    fn resolve(self) -> Result<Profile, PprofError> {
        let mut profile = Profile::default();
        for (offset, held) in &self.types {
            profile.sample_types.push(SampleType {
                kind: self.string(*offset, held.kind)?.as_ref().to_owned(),
                unit: self.string(*offset, held.unit)?.as_ref().to_owned(),
            });
        }
        let mut known: HashMap<u64, Vec<Frame>> = HashMap::new();
        let mut total = 0;
        for (offset, sample) in &self.samples {
            let types = profile.sample_types.len();
            if sample.values.len() != types {
                let expected = format!("a sample of {types} values");
                return Err(malformed(*offset, expected, sample.values.len()));
            }
            let mut frames = Vec::new();
            for id in &sample.location_ids {
                if !known.contains_key(id) {
                    let frames = self.location(*offset, *id)?;
                    known.insert(*id, frames);
                }
                let inlined = &known[id];
                total += inlined.len();
                if frames.len() + inlined.len() > MAX_DEPTH {
                    let expected = format!("a sample of at most {MAX_DEPTH} frames");
                    return Err(malformed(*offset, expected, "more"));
                }
                if total > MAX_FRAMES {
                    let expected = format!("at most {MAX_FRAMES} frames in all");
                    return Err(malformed(*offset, expected, "more"));
                }
                frames.extend_from_slice(inlined);
            }
            frames.reverse();
            profile.stacks.push(Stack {
                frames,
                values: sample.values.clone(),
            });
        }
        let nanos = u64::try_from(self.duration_nanos).unwrap_or_default();
        profile.duration = (nanos > 0).then(|| Duration::from_nanos(nanos));
        Ok(profile)
    }

    /// The frames of a location, innermost first.
    fn location(&self, sample: usize, id: u64) -> Result<Vec<Frame>, PprofError> {
        let Some((offset, location)) = self.locations.get(&id) else {
            return Err(malformed(sample, "a sample of known locations", id));
        };
        if location.lines.is_empty() {
            return Ok(vec![Frame::new(&format!("{:#x}", location.address))]);
        }
        // The depth is limited per sample, but the lines of one location are expanded before.
        if location.lines.len() > MAX_DEPTH {
            let expected = format!("a location of at most {MAX_DEPTH} lines");
            return Err(malformed(*offset, expected, location.lines.len()));
        }
        let lines = location.lines.iter().map(|line| {
            let Some((at, function)) = self.functions.get(&line.function_id) else {
                let found = line.function_id;
                return Err(malformed(*offset, "a location of known functions", found));
            };
            let file = self.string(*at, function.file)?;
            Ok(Frame {
                function: self.string(*at, function.name)?,
                file: (!file.is_empty()).then_some(file),
                line: u32::try_from(line.line).ok().filter(|line| *line > 0),
            })
        });
        lines.collect()
    }
}
