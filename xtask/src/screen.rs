//! What the runner prints, in one hand: words before colors, 80 columns, no escape sequences
//! where nobody asked for them.

use std::fmt::Display;

use console::{Style, measure_text_width, style};
use judge::Verdict;
use textwrap::{WordSplitter, WrapAlgorithm};

/// Lines are filled up to here, whatever the terminal's width.
const WIDTH: usize = 80;
/// How much further in a line goes on that is laid out and too long.
const HANG: usize = 4;

/// Replaces backtraces, which help nobody who came to learn: a reader that went away, as `head`
/// does, ends the runner quietly, and a bug says that it is one.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        if let Some(why) = message.strip_prefix("failed printing to ") {
            // What is not a reader that went away is an output that is not whole.
            if !message.contains("Broken pipe") {
                eprintln!("error: could not print to {why}");
                std::process::exit(2);
            }
            std::process::exit(0);
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        eprintln!(
            "error: a bug in the runner, which your files had no part in: {message} ({place})"
        );
    }));
}

/// A runner's own error, on standard error: what could not be done, and why.
pub fn error(error: &anyhow::Error) {
    let word = style("error:").red().bold().for_stderr();
    eprintln!("{}", indented(format!("{word} {error:#}").trim_end(), 0));
}

/// Something that the learner should know and that stops nothing.
pub fn note(text: impl Display) {
    let word = style("note:").cyan().for_stderr();
    eprintln!("{}", indented(&format!("{word} {text}"), 0));
}

/// A title line: the left part bold, the right part dim at the right edge.
pub fn title(left: &str, right: &str) {
    let gap = WIDTH
        .saturating_sub(measure_text_width(left) + measure_text_width(right))
        .max(2);
    println!(
        "{}{}{}",
        style(left).bold(),
        " ".repeat(gap),
        style(right).dim()
    );
}

/// The four-letter word with which a verdict's line begins.
pub fn word(verdict: &Verdict) -> console::StyledObject<&'static str> {
    match verdict {
        Verdict::Passed => style("pass").green(),
        Verdict::Unanswered { .. } => style("open").yellow(),
        Verdict::NotRun { .. } => style("skip").yellow(),
        _ => style("FAIL").red().bold(),
    }
}

/// Text in a paragraph, indented, filled to the width. What is laid out already, such as a table,
/// begins with a space: its lines are kept, and one that is too long goes on below, further in. JSON
/// is not broken, since people copy it.
pub fn indented(text: &str, indent: usize) -> String {
    let prefix = " ".repeat(indent);
    let mut lines = Vec::new();
    for line in text.lines() {
        let inner = line.len() - line.trim_start_matches(' ').len();
        if line[inner..].starts_with('{') {
            lines.push(format!("{prefix}{line}"));
            continue;
        }
        let further = if inner == 0 { 0 } else { inner + HANG };
        let hanging = " ".repeat(indent + further);
        let options = textwrap::Options::new(WIDTH)
            .initial_indent(&prefix)
            .subsequent_indent(&hanging)
            .break_words(false)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        let filled = textwrap::wrap(line, options);
        lines.extend(filled.iter().map(|line| line.trim_end().to_owned()));
    }
    lines.join("\n")
}

/// `1 check`, `2 checks`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

/// A share as a bar of `width` cells.
pub fn bar(done: u32, of: u32, width: usize) -> String {
    let cells = if of == 0 {
        0
    } else {
        usize::try_from(u64::from(done) * width as u64 / u64::from(of)).unwrap_or(width)
    };
    format!(
        "{}{}",
        "#".repeat(cells),
        ".".repeat(width - cells.min(width))
    )
}

/// A command that the learner can type.
pub fn command(text: impl Display) -> console::StyledObject<String> {
    Style::new().cyan().apply_to(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_filled_and_the_columns_of_a_table_are_kept() {
        let text = format!(
            "{}\n\n  a   table   row that is far longer than eighty columns would allow, and goes on below\n  a   short   one",
            "two-word ".repeat(30).trim()
        );
        let shown = indented(&text, 6);
        for line in shown.lines() {
            assert!(measure_text_width(line) <= WIDTH, "{line}");
        }
        assert!(!shown.contains("two-\n"), "{shown}");
        let table: Vec<&str> = shown.lines().skip_while(|line| !line.is_empty()).collect();
        assert_eq!(
            table,
            [
                "",
                "        a   table   row that is far longer than eighty columns would allow, and",
                "            goes on below",
                "        a   short   one"
            ]
        );
    }

    #[test]
    fn what_has_no_place_to_break_is_kept_whole() {
        let path = format!("/{}", "folder/".repeat(15));
        let json = format!("  {{\"message\": \"{}\"}}", "word ".repeat(20));
        let shown = indented(&format!("{path}\n{json}"), 2);
        assert_eq!(shown, format!("  {path}\n  {json}"));
    }

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        assert_eq!(bar(0, 10, 5), ".....");
        assert_eq!(bar(9, 10, 5), "####.");
        assert_eq!(bar(10, 10, 5), "#####");
        assert_eq!(bar(0, 0, 5), ".....");
    }
}
