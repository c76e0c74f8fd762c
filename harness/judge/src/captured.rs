//! What a check printed: the beginning and the end of it, as text that a terminal can be shown.
//!
//! Not a log: the middle of a long output is dropped, and only its size is kept.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Bytes kept from the beginning of the output.
pub const HEAD: usize = 16 * 1024;
/// Bytes kept from its end, where a crash leaves its last words.
pub const TAIL: usize = 48 * 1024;

/// The output of a check, standard output and standard error in the order of their writing.
///
/// Always text: bytes that are not UTF-8 are replaced, colors are removed, and every other control
/// character but the newline and the tab is made visible, so that printing it cannot move the
/// cursor, clear a terminal or hide a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    head: String,
    tail: String,
    dropped: u64,
}

impl Captured {
    /// The beginning of the output; all of it when nothing was [`dropped`](Self::dropped).
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The end of the output; empty when nothing was [`dropped`](Self::dropped).
    pub fn tail(&self) -> &str {
        &self.tail
    }

    /// How many bytes between the head and the tail were not kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether the check printed nothing.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// The output for a person: where bytes are missing, a line says how many.
    pub fn text(&self) -> String {
        let mut text = self.head.clone();
        if self.dropped > 0 {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            let _ = writeln!(text, "[... {} bytes left out ...]", self.dropped);
            text.push_str(&self.tail);
        }
        text
    }
}

/// Takes output as it arrives and keeps what [`Captured`] needs, in bounded memory.
#[derive(Default)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Capture {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (to_head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(to_head);
        let last = &rest[rest.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + last.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.tail.extend(last);
    }

    /// Bytes taken so far, kept or not.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn finish(mut self) -> Captured {
        let dropped = self.total - (self.head.len() + self.tail.len()) as u64;
        if dropped == 0 {
            // One text, so that a character that lies across the border is not cut in two.
            self.head.extend(self.tail.drain(..));
        }
        Captured {
            head: harmless(&String::from_utf8_lossy(&self.head)),
            tail: harmless(&String::from_utf8_lossy(self.tail.make_contiguous())),
            dropped,
        }
    }
}

/// Text that may be printed on a terminal, whoever wrote it.
///
/// Color sequences (`ESC [ … m`) are removed, since they are the ones that well-meant output holds.
/// A carriage return ends a line. All other control characters, among them the escape that begins
/// any other sequence, become the picture that Unicode has for them (U+2400 and following), and
/// those that reorder text become U+FFFD.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\u{1b}' => match after_color(after) {
                Some(after_color) => after_color,
                None => {
                    out.push('\u{241b}');
                    after
                }
            },
            '\r' => {
                if !after.starts_with('\n') {
                    out.push('\n');
                }
                after
            }
            _ => {
                out.push(shown(c));
                after
            }
        };
    }
    out
}

/// What follows a color sequence whose escape has been taken off already, if `text` is one.
fn after_color(text: &str) -> Option<&str> {
    text.strip_prefix('[')?
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':')
        .strip_prefix('m')
}

fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captured(chunks: &[&[u8]]) -> Captured {
        let mut capture = Capture::default();
        for chunk in chunks {
            capture.push(chunk);
        }
        capture.finish()
    }

    #[test]
    fn a_short_output_is_kept_whole_and_a_character_across_the_border_survives() {
        let text = format!("{}é and the rest", "x".repeat(HEAD - 1));
        let captured = captured(&[text.as_bytes()]);
        assert_eq!(captured.text(), text);
        assert_eq!(captured.dropped(), 0);
    }

    #[test]
    fn the_middle_of_a_long_output_is_counted_but_not_kept() {
        let long = "y".repeat(HEAD + TAIL + 1_000_000);
        let captured = captured(&[b"first\n", long.as_bytes(), b"last"]);
        assert_eq!(captured.dropped(), 1_000_010);
        assert!(captured.head().starts_with("first\n"));
        assert!(captured.tail().ends_with("ylast"));
        assert!(
            captured
                .text()
                .contains("\n[... 1000010 bytes left out ...]\n")
        );
    }

    #[test]
    fn colors_vanish_and_other_sequences_lie_open() {
        assert_eq!(harmless("\u{1b}[1;31mred\u{1b}[0m"), "red");
        assert_eq!(harmless("\u{1b}[2Jgone"), "\u{241b}[2Jgone");
        assert_eq!(harmless("\u{1b}]0;title\u{7}"), "\u{241b}]0;title\u{2407}");
        assert_eq!(harmless("10%\r20%\r\n"), "10%\n20%\n");
        assert_eq!(harmless("\u{1b}\u{1b}[0m[2J"), "\u{241b}[2J");
    }

    proptest! {
        #[test]
        fn whatever_is_printed_becomes_text_without_control_characters(
            chunks in prop::collection::vec(
                prop_oneof![
                    any::<Vec<u8>>(),
                    "[\u{1b}\u{9b}\r\n\t\u{7}\u{202e}\\[\\]0-9;mJa-c]{0,40}".prop_map(String::into_bytes),
                ],
                0..20,
            )
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let captured = captured(&chunks);
            let text = captured.text();
            prop_assert!(
                text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()),
                "{text:?}"
            );
            prop_assert_eq!(harmless(&text), text, "harmless text must stay as it is");
        }

        #[test]
        fn how_the_output_was_cut_into_reads_makes_no_difference(
            length in 0_usize..200_000,
            size in 1_usize..100_000,
        ) {
            let bytes: Vec<u8> = (0..length).map(|index| (index * index / 7) as u8).collect();
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            let one_by_one = captured(&chunks);
            prop_assert_eq!(&one_by_one, &captured(&[&bytes]));
            let kept = bytes.len() as u64 - one_by_one.dropped();
            prop_assert_eq!(kept, bytes.len().min(HEAD + TAIL) as u64);
        }
    }
}
