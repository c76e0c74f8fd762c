//! Draws dumps as one page that needs no network: charts of metrics, waterfalls of traces, flame
//! graphs of profiles, tables of logs, groups of tasks.
//!
//! For looking at a dump, on a desk or on a phone, with a mouse or by keyboard. Not for answering
//! what a lab asks: no quantile, mean, critical path, self time or culprit is computed here. The
//! runner does not link this crate; `cargo xtask view` builds and runs its binary.
//!
//! Dumps are taken to be hostile: whatever they hold is shown as text, a dump that cannot be read
//! is shown with the place where it stops being one, and what is too much for a page is left out
//! and counted.

pub mod chart;
pub mod dashboard;
#[cfg(feature = "dashboards")]
mod grafana;
mod logs;
mod metrics;
mod page;
mod profiles;
pub mod scale;
mod tasks;
mod text;
mod traces;
pub mod units;

use dashboard::Dashboard;
use page::Section;

/// A file to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Its name, which tells its format.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What a page is made of.
#[derive(Debug, Clone, Default)]
pub struct Page<'a> {
    /// Its title.
    pub title: &'a str,
    /// A line below the title; empty for none.
    pub about: &'a str,
    /// The moment at which dashboards among the dumps are shown, in seconds since the Unix epoch;
    /// that of the last sample if left out.
    pub at: Option<f64>,
    /// Dashboards that somebody else evaluated.
    pub dashboards: &'a [Dashboard],
    /// In the order in which they are shown. A dashboard among them is evaluated over the metrics
    /// among them.
    pub dumps: &'a [Dump],
}

impl Page<'_> {
    /// The page as HTML.
    pub fn draw(&self) -> String {
        let dashboards = self
            .dashboards
            .iter()
            .map(|dashboard| (dashboard.title.clone(), dashboard.section()));
        let dumps = self
            .dumps
            .iter()
            .map(|dump| (dump.name.clone(), self.section(dump)));
        let sections: Vec<(String, Section)> = dashboards.chain(dumps).collect();
        page::document(self.title, self.about, &sections).into_string()
    }

    fn section(&self, dump: &Dump) -> Section {
        let bytes = dump.bytes.as_slice();
        let drawn = match Format::of(dump) {
            Format::Metrics => metrics::section(bytes).map_err(|error| error.to_string()),
            Format::Logs => logs::section(bytes).map_err(|error| error.to_string()),
            Format::Traces => traces::section(bytes).map_err(|error| error.to_string()),
            Format::Folded => profiles::folded(bytes).map_err(|error| error.to_string()),
            Format::Pprof => profiles::pprof(bytes).map_err(|error| error.to_string()),
            Format::Tasks => tasks::section(bytes).map_err(|error| error.to_string()),
            Format::Dashboard => self.dashboard(bytes),
            Format::Text => Ok(text::section(bytes, None)),
        };
        drawn.unwrap_or_else(|problem| text::section(bytes, Some(&problem)))
    }

    #[cfg(feature = "dashboards")]
    fn dashboard(&self, bytes: &[u8]) -> Result<Section, String> {
        let metrics = self
            .dumps
            .iter()
            .filter(|dump| Format::of(dump) == Format::Metrics);
        grafana::section(bytes, metrics, self.at)
    }

    #[cfg(not(feature = "dashboards"))]
    fn dashboard(&self, bytes: &[u8]) -> Result<Section, String> {
        Ok(text::section(bytes, None))
    }
}

/// The formats that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Metrics,
    Logs,
    Traces,
    Folded,
    Pprof,
    Tasks,
    Dashboard,
    Text,
}

impl Format {
    /// By the name's ending, and by the text where an ending stands for several formats.
    fn of(dump: &Dump) -> Self {
        let name = dump.name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".prom", ".om", ".metrics"]) {
            return Self::Metrics;
        }
        if ends(&[".folded", ".collapsed"]) {
            return Self::Folded;
        }
        if ends(&[".pb.gz", ".pb", ".pprof"]) {
            return Self::Pprof;
        }
        let text = String::from_utf8_lossy(&dump.bytes);
        let first = text.lines().find(|line| !line.trim().is_empty());
        let first = first.unwrap_or_default().trim_start();
        let spans = || text.contains("\"resourceSpans\"") || text.contains("\"resource_spans\"");
        if ends(&[".json", ".jsonl", ".ndjson", ".log"]) {
            return match first.starts_with('{') {
                true if spans() => Self::Traces,
                true if !name.ends_with(".json") => Self::Logs,
                true if text.contains("\"panels\"") => Self::Dashboard,
                _ => Self::Text,
            };
        }
        if ends(&[".txt", ".dump"]) {
            if first.starts_with("# HELP ") || first.starts_with("# TYPE ") {
                return Self::Metrics;
            }
            if telemetry::tasks::Format::detect(&text).is_some() {
                return Self::Tasks;
            }
        }
        Self::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_told_by_the_name_and_where_that_is_not_enough_by_the_text() {
        let spans = r#"{"resourceSpans":[]}"#;
        for (name, text, wanted) in [
            ("scrape.prom", "", Format::Metrics),
            ("metrics.om", "# EOF\n", Format::Metrics),
            ("scrape.txt", "# HELP a b\n", Format::Metrics),
            ("app.jsonl", "\n{\"a\":1}\n", Format::Logs),
            ("app.log", "plain words\n", Format::Text),
            ("spans.jsonl", spans, Format::Traces),
            ("trace.json", spans, Format::Traces),
            ("other.json", "{}", Format::Text),
            ("pool.json", "{\n\"panels\": []}", Format::Dashboard),
            ("cpu.folded", "", Format::Folded),
            ("heap.pb.gz", "", Format::Pprof),
            ("stacks.txt", "goroutine 1 [running]:\n", Format::Tasks),
            ("stacks.dump", "task 7:\n", Format::Tasks),
            ("notes.md", "goroutine 1 [running]:\n", Format::Text),
        ] {
            let dump = Dump {
                name: name.into(),
                bytes: text.into(),
            };
            assert_eq!(Format::of(&dump), wanted, "{name}");
        }
    }

    #[test]
    fn a_dump_that_cannot_be_read_is_shown_with_the_place_where_it_ends() {
        let dump = Dump {
            name: "scrape.prom".into(),
            bytes: b"a 1\nb {\n".to_vec(),
        };
        let page = Page {
            dumps: &[dump],
            ..Page::default()
        };
        let page = page.draw();
        assert!(page.contains("Could not read it: line 2"), "{page}");
    }
}
