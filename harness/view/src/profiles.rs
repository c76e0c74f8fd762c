//! Profiles: a flame graph for each type of sample.
//!
//! `inferno` lays the frames out and draws them. Its script and its style sheet know one picture on
//! a page and a mouse; they stay out, and the page's own let one move by keyboard. No sum of self
//! or inclusive samples is listed: to find those is what several labs ask.

use std::fmt::Write as _;

use inferno::flamegraph::{self, Direction, Options};
use maud::{Markup, PreEscaped, html};
use telemetry::profiles::Profile;

use crate::page::{self, Section};
use crate::units::{self, Quantity, Unit, counted};

/// The most a flame graph may take in the page, in bytes.
const MOST_BYTES: usize = 2 << 20;
/// The most rows of the table of stacks, and of one stack's text in characters.
const MOST_STACKS: usize = 100;
const MOST_CHARACTERS: usize = 1_000;
/// The most types of sample that are drawn.
const MOST_TYPES: usize = 6;
/// How high a frame is, in pixels.
const FRAME_HEIGHT: usize = 20;

/// Draws folded stacks.
///
/// # Errors
/// Where the dump is not in its format.
pub fn folded(bytes: &[u8]) -> Result<Section, telemetry::ParseError> {
    Ok(section(&Profile::from_folded_slice(bytes)?))
}

/// Draws a profile in pprof's protocol buffers.
///
/// # Errors
/// Where the dump is not in its format.
pub fn pprof(bytes: &[u8]) -> Result<Section, telemetry::profiles::PprofError> {
    Ok(section(&Profile::from_pprof(bytes)?))
}

fn section(profile: &Profile) -> Section {
    let mut facts = vec![counted(profile.stacks.len(), "stack")];
    if let Some(duration) = profile.duration {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        facts.push(format!("profiled for {}", units::nanos(nanos)));
    }
    let types = profile.sample_types.len();
    // The last type is the one that pprof itself shows first.
    let first = types.saturating_sub(1);
    let mut order: Vec<usize> = (0..types).rev().take(MOST_TYPES).collect();
    order.sort_by_key(|nth| *nth != first);
    let body = html! {
        @for &nth in &order {
            @let kind = &profile.sample_types[nth];
            @if types == 1 {
                (flame(profile, nth))
            } @else {
                details open[nth == first] {
                    summary { span.name { (kind.kind) } " in " span.name { (kind.unit) } }
                    (flame(profile, nth))
                }
            }
        }
        @if types > MOST_TYPES { p.note { (types - MOST_TYPES) " more types of sample are in the dump." } }
        @if types == 0 { p.note { "This profile has no type of sample: there is nothing to draw." } }
    };
    Section {
        what: "Profile",
        facts,
        body,
    }
}

/// A value of a type of sample as a person reads it.
fn show(unit: &str, value: f64) -> String {
    let factor = match unit {
        "nanoseconds" => 1e-9,
        "microseconds" => 1e-6,
        "milliseconds" => 1e-3,
        _ => 1.0,
    };
    let unit = match unit {
        "nanoseconds" | "microseconds" | "milliseconds" | "seconds" => Unit::Seconds,
        "bytes" => Unit::Bytes,
        _ => Unit::Plain,
    };
    let quantity = Quantity {
        unit,
        per_second: false,
    };
    quantity.show(value * factor)
}

/// The stacks in the form that `inferno` reads, sorted as it wants them, and their sum.
///
/// It takes a number at the end of a name for a first of two counts, and `# ` for a comment; a
/// space that does not break looks the same and is taken for neither.
fn lines(profile: &Profile, nth: usize) -> (Vec<String>, i64, usize) {
    let mut skipped = 0;
    let mut sum: i64 = 0;
    let mut lines = Vec::with_capacity(profile.stacks.len());
    for stack in &profile.stacks {
        let value = stack.values.get(nth).copied().unwrap_or_default();
        let Some(more) = sum.checked_add(value).filter(|_| value > 0) else {
            skipped += usize::from(value != 0);
            continue;
        };
        sum = more;
        let mut line = String::new();
        for (nth, name) in stack.names().enumerate() {
            if nth > 0 {
                line.push(';');
            }
            line.extend(name.chars().map(|c| match c {
                ';' => ':',
                c if c.is_whitespace() => '\u{a0}',
                c if c.is_control() => '\u{fffd}',
                c => c,
            }));
            if name.is_empty() {
                line.push_str("[unknown]");
            }
        }
        if line.is_empty() {
            line.push_str("[unknown]");
        }
        // Writing into a String cannot fail.
        let _ = write!(line, " {value}");
        lines.push(line);
    }
    lines.sort_unstable();
    (lines, sum, skipped)
}

/// The frames as `inferno` draws them, how high the picture is, and the narrowest frame that is in
/// it, in percent.
struct Drawing {
    frames: String,
    depth: usize,
    narrowest: f64,
}

fn draw(lines: &[String]) -> Result<Drawing, String> {
    for narrowest in [0.01, 0.05, 0.2, 0.5, 1.0] {
        let mut options = Options::default();
        options.direction = Direction::Inverted;
        options.no_javascript = true;
        options.no_sort = true;
        options.deterministic = true;
        options.frame_height = FRAME_HEIGHT;
        options.min_width = narrowest;
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)
            .map_err(|error| error.to_string())?;
        if svg.len() > MOST_BYTES && narrowest < 1.0 {
            continue;
        }
        let svg = String::from_utf8_lossy(&svg);
        let (_, inner) = svg
            .split_once("id=\"frames\"")
            .and_then(|(_, rest)| rest.split_once('>'))
            .ok_or("no frames were drawn")?;
        let inner = inner
            .rsplit_once("</svg></svg>")
            .map_or(inner, |(inner, _)| inner);
        let (frames, depth) = moved_up(inner);
        return Ok(Drawing {
            frames,
            depth,
            narrowest,
        });
    }
    Err("it is too large".to_owned())
}

/// The frames without the room that `inferno` leaves above them for its own title, and how many
/// levels there are.
fn moved_up(frames: &str) -> (String, usize) {
    let tops = || {
        frames.match_indices("<rect ").filter_map(|(at, _)| {
            let (_, rest) = frames[at..].split_once(" y=\"")?;
            rest.split_once('"')?.0.parse::<f64>().ok()
        })
    };
    let top = tops().fold(f64::INFINITY, f64::min);
    let bottom = tops().fold(0.0, f64::max);
    if !top.is_finite() {
        return (frames.to_owned(), 0);
    }
    let depth = ((bottom - top) / FRAME_HEIGHT as f64).round() as usize + 1;
    let moved = format!("<g transform=\"translate(0 {})\">{frames}</g>", -top);
    (moved, depth)
}

fn flame(profile: &Profile, nth: usize) -> Markup {
    let kind = &profile.sample_types[nth];
    let (lines, sum, skipped) = lines(profile, nth);
    if lines.is_empty() {
        return html! { p.note { "No sample of this type: there is nothing to draw." } };
    }
    let drawing = match draw(&lines) {
        Ok(drawing) => drawing,
        Err(error) => {
            return html! { p.problem { "The flame graph could not be drawn: " (error) "." } };
        }
    };
    let values = profile
        .stacks
        .iter()
        .filter_map(|stack| stack.values.get(nth));
    let smallest = values.copied().filter(|value| *value > 0).min();
    let narrow =
        smallest.is_some_and(|value| 100.0 * (value as f64) < drawing.narrowest * sum as f64);
    let total = show(&kind.unit, sum as f64);
    let label = format!(
        "Flame graph of {} {}, {} in all, {} levels deep. Arrow keys move between frames, Enter \
         zooms, Escape zooms out. The table below it has the stacks.",
        lines.len(),
        if lines.len() == 1 { "stack" } else { "stacks" },
        total,
        drawing.depth,
    );
    html! {
        figure.flame data-total=(sum) data-unit=(kind.unit) data-row=(FRAME_HEIGHT) {
            figcaption {
                "Callers above, callees below; the wider, the more " span.name { (kind.kind) }
                ". " (total) " in all"
            }
            div.controls {
                (page::filter("Find frames by name", "flame"))
                button.reset type="button" hidden { "Zoom out" }
            }
            p.told aria-live="polite" { "Choose a frame." }
            div.canvas tabindex="0" role="img" aria-label=(label) {
                svg.frames width="100%" height=(drawing.depth * FRAME_HEIGHT) {
                    (PreEscaped(drawing.frames))
                }
            }
            @if narrow {
                p.note { "Frames narrower than " (drawing.narrowest) "% are left out." }
            }
            @if skipped > 0 {
                p.note { (counted(skipped, "stack")) " with a value below zero or beyond all measure: left out." }
            }
            (stacks(profile, nth))
        }
    }
}

fn stacks(profile: &Profile, nth: usize) -> Markup {
    let unit = &profile.sample_types[nth].unit;
    let value = |stack: &telemetry::profiles::Stack| stack.values.get(nth).copied().unwrap_or(0);
    let mut stacks: Vec<_> = profile.stacks.iter().collect();
    stacks.sort_by_key(|stack| std::cmp::Reverse(value(stack)));
    html! {
        details {
            summary { "Table of the stacks" }
            (page::table(
                "Stacks, the largest first",
                &html! {
                    thead { tr { th.number scope="col" { "value" } th scope="col" { "stack, outermost first" } } }
                    tbody {
                        @for stack in stacks.iter().take(MOST_STACKS) {
                            tr {
                                td.number { (show(unit, value(stack) as f64)) }
                                td.name {
                                    (stack.names().collect::<Vec<_>>().join(" › ")
                                        .chars().take(MOST_CHARACTERS).collect::<String>())
                                }
                            }
                        }
                    }
                },
            ))
            @if stacks.len() > MOST_STACKS {
                p.note { (units::count(stacks.len() - MOST_STACKS)) " more are in the dump." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> String {
        folded(text.as_bytes())
            .expect("folded stacks")
            .body
            .into_string()
    }

    #[test]
    fn every_frame_is_drawn_with_its_samples() {
        let body = body("main;serve;lock 38\nmain;serve 54\n");
        assert!(
            body.contains("<title>lock (38 samples, 41.30%)</title>"),
            "{body}"
        );
        assert!(
            body.contains("<title>all (92 samples, 100%)</title>"),
            "{body}"
        );
        assert!(
            !body.contains("<script") && !body.contains("<style"),
            "{body}"
        );
    }

    #[test]
    fn names_that_look_like_counts_or_comments_are_frames() {
        let body = body("# main;step 12 30\n");
        assert!(
            body.contains("step\u{a0}12 (30 samples, 100.00%)"),
            "{body}"
        );
        assert!(body.contains("#\u{a0}main (30 samples, 100.00%)"), "{body}");
    }

    #[test]
    fn a_name_cannot_break_out_of_the_picture() {
        let body = body("main;</title></svg><script>alert(1)</script> 3\n");
        assert!(!body.contains("<script"), "{body}");
    }

    #[test]
    fn a_profile_of_nothing_says_so() {
        assert!(body("").contains("nothing to draw"));
        assert!(body("main 0\n").contains("nothing to draw"));
    }

    #[test]
    fn the_same_stacks_give_the_same_picture() {
        let text = "main;a 3\nmain;b 4\n";
        assert_eq!(body(text), body(text));
    }

    #[test]
    fn what_is_too_large_leaves_its_narrow_frames_out() {
        let mut text = String::new();
        for nth in 0..60_000 {
            text.push_str(&format!("main;group{};leaf{nth} 1\n", nth / 600));
        }
        let body = body(&text);
        assert!(body.len() < 3 << 20, "{}", body.len());
        assert!(body.contains("Frames narrower than 0.01% are left out"));
    }
}
