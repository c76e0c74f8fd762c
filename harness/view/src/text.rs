//! Whatever is no dump in a known format: shown as the text that it is.

use maud::{Markup, html};

use crate::page::Section;
use crate::units::{self, counted};

/// The most that is shown, in lines and in bytes.
const MOST_LINES: usize = 2_000;
const MOST_BYTES: usize = 256 << 10;

/// Shows a text; with `problem`, as one that could not be read as what it seems to be.
pub fn section(bytes: &[u8], problem: Option<&str>) -> Section {
    let shown = &bytes[..bytes.len().min(MOST_BYTES)];
    let binary = shown.contains(&0);
    let text = String::from_utf8_lossy(shown);
    let lines: Vec<&str> = text.lines().take(MOST_LINES).collect();
    let whole = lines.len() == text.lines().count() && shown.len() == bytes.len();
    Section {
        what: if binary { "Binary file" } else { "Text" },
        facts: vec![counted(bytes.len(), "byte")],
        body: html! {
            @if let Some(problem) = problem { p.problem { "Could not read it: " (problem) "." } }
            @if binary {
                p.note { "There is nothing to show of it." }
            } @else {
                (listing(&lines))
                @if !whole {
                    p.note { "Only its first " (units::count(lines.len())) " lines are shown." }
                }
            }
        },
    }
}

fn listing(lines: &[&str]) -> Markup {
    html! {
        div.scroll.tall tabindex="0" role="region" aria-label="Text" {
            ol.listing { @for line in lines { li { (line) } } }
        }
    }
}
